// Contact sheets: pixels unchanged, places, enlargement, and text that can be told apart.
#include <gtest/gtest.h>

#include <set>

#include "data/contact_sheet.h"
#include "data/transform.h"
#include "tests/image_fixtures.h"

namespace riffle {
namespace {

Image filled(int height, int width, int channels, uint8_t value) {
  Image image(height, width, channels);
  for (size_t i = 0; i < image.pixels.size(); ++i) image.pixels[i] = static_cast<uint8_t>(value + i % 7);
  return image;
}

std::vector<uint8_t> part(const Image& sheet, int top, int left, int height, int width) {
  return crop(sheet, {top, left, height, width}).pixels;
}

TEST(ContactSheet, CopiesPixels) {
  const Image first = filled(100, 120, 3, 10), second = filled(90, 120, 3, 90), third = filled(100, 110, 3, 170);
  const Image sheet = contact_sheet({first, second, third}, {"", "", ""}, 2);
  ASSERT_EQ(sheet.channels, 3);
  EXPECT_EQ(sheet.width, 2 * (120 + 6) + 6);
  EXPECT_EQ(sheet.height, 2 * (100 + 6) + 6);
  EXPECT_EQ(part(sheet, 6, 6, 100, 120), first.pixels);
  EXPECT_EQ(part(sheet, 6, 132, 90, 120), second.pixels);
  EXPECT_EQ(part(sheet, 112, 6, 100, 110), third.pixels);
  EXPECT_EQ(part(sheet, 112, 132, 100, 120), std::vector<uint8_t>(100 * 120 * 3, 255)) << "an empty cell";
}

TEST(ContactSheet, EnlargesSmallImagesByAWholeFactor) {
  Image dot(28, 28, 1);
  dot.pixels[28 * 5 + 9] = 200;
  const Image sheet = contact_sheet({dot}, {"7"}, 8);
  EXPECT_EQ(sheet.width, 96 + 2 * 6);
  const std::vector<uint8_t> enlarged = part(sheet, 6 + 5 * 3, 6 + 9 * 3, 3, 3);
  EXPECT_EQ(enlarged, std::vector<uint8_t>(27, 200));
  EXPECT_EQ(part(sheet, 6 + 5 * 3, 6 + 8 * 3, 3, 3), std::vector<uint8_t>(27, 0));
}

// The pixels of a caption of one image.
std::vector<uint8_t> caption(const std::string& text, int lines = 1) {
  const Image sheet = contact_sheet({filled(8, 96, 3, 0)}, {text}, 1);
  return part(sheet, 6 + 8, 6, lines * 11, 96);
}

TEST(ContactSheet, DrawsEveryCharacterDifferently) {
  std::set<std::vector<uint8_t>> seen;
  for (char c = ' '; c <= '~'; ++c) seen.insert(caption(std::string("|") + c));
  EXPECT_EQ(seen.size(), 95u);
  EXPECT_TRUE(seen.insert(caption("|\n")).second) << "a box looks like no letter";
}

TEST(ContactSheet, DrawsOneBoxForACharacterOfManyBytes) {
  EXPECT_EQ(caption("\xC3\xA9t\xC3\xA9"), caption("\x01t\x02"));
}

TEST(ContactSheet, CutsLongCaptions) {
  const std::string two_lines(32, 'M');
  EXPECT_EQ(caption(two_lines + "cut", 2), caption(two_lines, 2));
  EXPECT_NE(caption(two_lines, 2), caption(std::string(31, 'M'), 2));
}

TEST(ContactSheet, RefusesWhatMakesNoSheet) {
  const Image image = filled(4, 4, 3, 0);
  expect_error([&] { contact_sheet({}, {}, 4); }, {"0 images"});
  expect_error([&] { contact_sheet({image}, {"a", "b"}, 4); }, {"2 captions for 1 images"});
  expect_error([&] { contact_sheet({image}, {""}, 0); }, {"0 columns"});
  const std::vector<Image> many(20, Image(10, 1000000, 1));
  expect_error([&] { contact_sheet(many, std::vector<std::string>(20), 20); }, {"20 images", "fewer"});
}

}  // namespace
}  // namespace riffle
