// verify and stats: every kind of oddness is found and named, numbers are those of a computation by hand.
#include "data/examine.h"

#include <cmath>

#include "data/encode.h"
#include "data/probe.h"
#include "tests/tar_files.h"
#include "tests/tiny_data.h"

namespace riffle {
namespace {

namespace fs = std::filesystem;

class ExamineTest : public testing::Test {
 protected:
  VerifyReport run(int threads = 2) {
    ExamineOptions options;
    options.threads = threads;
    return verify(*open_dataset(folder_.path(), "train", 3, {}), options);
  }
  static std::string text(const std::vector<Finding>& findings) {
    std::string all;
    for (const Finding& finding : findings)
      all += fs::path(finding.name).filename().string() + ": " + finding.what + "\n";
    return all;
  }
  TemporaryFolder folder_;
};

TEST_F(ExamineTest, FindsWhatIsBadOddAndTwice) {
  folder_.add_fixture("rgb_444.jpg", "a/1.jpg");
  folder_.add_fixture("rgb_444.jpg", "a/2.jpg");
  folder_.add_fixture("rgb_444.jpg", "b/3.jpg");
  folder_.add_fixture("cmyk.jpg", "a/cmyk.jpg");
  folder_.add_fixture("png_named.jpg", "b/png.JPEG");
  folder_.add_fixture("gray_16bit.png", "b/deep.png");
  folder_.add_fixture("progressive.jpg", "b/progressive.jpg");
  folder_.add_fixture("gray.jpg", "b/gray.jpg");
  write_bytes(folder_.path() + "/b/empty.jpg", {});
  write_bytes(folder_.path() + "/b/page.jpg", bytes_of("<html>404</html>"));
  Bytes half = read_file(image_fixture("rgb_420.jpg"));
  half.resize(half.size() / 2);
  write_bytes(folder_.path() + "/a/half.jpg", half);
  write_bytes(folder_.path() + "/a/thin.png", encode_png(Image(17, 400, 3)));
  const VerifyReport report = run();
  EXPECT_EQ(report.images, 12);
  ASSERT_EQ(report.bad.size(), 2u) << text(report.bad);
  expect_contains_all(text(report.bad), {"empty.jpg: ", "is empty", "page.jpg: ", "not an image"});
  ASSERT_EQ(report.truncated.size(), 1u) << text(report.truncated);
  expect_contains_all(text(report.truncated), {"half.jpg: ", "the file ends too early"});
  expect_contains_all(text(report.odd), {"cmyk.jpg: CMYK", "png.JPEG: PNG, but not named .png", "deep.png: 16 bits",
                                         "thin.png: very long: 400x17"});
  EXPECT_EQ(text(report.odd).find("gray.jpg"), std::string::npos);
  ASSERT_EQ(report.duplicates.size(), 1u);
  EXPECT_EQ(report.duplicates[0].size(), 3u);
  EXPECT_EQ(report.duplicates_across_classes, 1);
  EXPECT_EQ(report.gray, 2);
  EXPECT_EQ(report.progressive, 1);
  const VerifyReport again = run(/*threads=*/1);
  EXPECT_EQ(text(again.bad), text(report.bad));
  EXPECT_EQ(text(again.odd), text(report.odd));
  EXPECT_EQ(again.duplicates, report.duplicates);
}

TEST_F(ExamineTest, CleanDataHasNoFindings) {
  write_image_folder(folder_.path(), 12, 32, 1);
  const VerifyReport report = run();
  EXPECT_TRUE(report.bad.empty() && report.odd.empty() && report.duplicates.empty());
  EXPECT_EQ(report.png, 12);
}

TEST_F(ExamineTest, Statistics) {
  fs::create_directories(folder_.path() + "/a");
  fs::create_directories(folder_.path() + "/b");
  Image black(20, 30, 3), coloured(40, 50, 3), white(60, 10, 3);
  for (size_t i = 0; i < coloured.pixels.size(); i += 3) coloured.pixels[i] = 51;  // red 0.2
  std::fill(white.pixels.begin(), white.pixels.end(), uint8_t{255});
  write_bytes(folder_.path() + "/a/1.png", encode_png(black));
  write_bytes(folder_.path() + "/a/2.png", encode_png(coloured));
  write_bytes(folder_.path() + "/b/1.png", encode_png(white));
  const StatsReport report = statistics(*open_dataset(folder_.path(), "train", 3, {}), {});
  EXPECT_EQ(report.per_class, (std::vector<int64_t>{2, 1}));
  EXPECT_EQ(report.width.least, 10);
  EXPECT_EQ(report.width.median, 30);
  EXPECT_EQ(report.height.greatest, 60);
  EXPECT_EQ(report.short_edge.median, 20);
  EXPECT_NEAR(report.mean[0], (0 + 0.2 + 1) / 3, 1e-12);
  EXPECT_NEAR(report.mean[1], 1.0 / 3, 1e-12);
  EXPECT_NEAR(report.std[0], std::sqrt((0.04 + 1) / 3 - 0.16), 1e-12);
  EXPECT_NEAR(report.std[2], std::sqrt(1.0 / 3 - 1.0 / 9), 1e-12);
  write_bytes(folder_.path() + "/b/2.png", {});
  expect_error([&] { statistics(*open_dataset(folder_.path(), "train", 3, {}), {}); }, {"/b/2.png", "empty"});
}

TEST(Probe, HeadersOfTheFixtures) {
  const auto probe = [](const char* name) {
    const Bytes bytes = read_file(image_fixture(name));
    return probe_image(bytes.data(), bytes.size());
  };
  EXPECT_EQ(probe("cmyk.jpg").components, 4);
  EXPECT_EQ(probe("gray.jpg").components, 1);
  EXPECT_TRUE(probe("progressive.jpg").progressive);
  EXPECT_EQ(probe("gray_16bit.png").bits, 16);
  EXPECT_EQ(probe("gray_alpha_8bit.png").components, 2);
  EXPECT_EQ(probe("png_named.jpg").format, ImageProbe::Format::kPng);
  for (const auto& entry : fs::directory_iterator(image_fixture(""))) {
    const std::string name = entry.path().filename().string();
    if (!is_image_name(name)) continue;
    const Image image = decode_file(entry.path().string(), 3);
    EXPECT_EQ(probe(name.c_str()).width, image.width) << name;
    EXPECT_EQ(probe(name.c_str()).height, image.height) << name;
  }
}

// Reads nothing beyond the end, whatever the headers say.
TEST(Probe, EveryTruncation) {
  for (const char* name : {"rgb_420.jpg", "gray_16bit.png"}) {
    const Bytes whole = read_file(image_fixture(name));
    for (size_t size = 0; size < std::min<size_t>(whole.size(), 800); ++size) {
      const Bytes part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
      const ImageProbe probe = probe_image(part.data(), part.size());
      EXPECT_TRUE(probe.width == 0 || probe.width == probe_image(whole.data(), whole.size()).width);
    }
  }
}

}  // namespace
}  // namespace riffle
