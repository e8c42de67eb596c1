// Cells of equal size from left to right, then down; text from a font of dots.
#include "data/contact_sheet.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "core/check.h"

namespace riffle {
namespace {

constexpr std::string_view kFont[] = {
#include "data/bitmap_font.inc"
};
constexpr int kGlyphHeight = 8, kGlyphStep = 6, kGlyphsInBand = 16, kGlyphs = 96;
static_assert(sizeof kFont / sizeof *kFont == kGlyphs / kGlyphsInBand * kGlyphHeight);

constexpr int kLineHeight = kGlyphHeight + 3, kCaptionLines = 2, kMargin = 6;
constexpr uint8_t kPaper = 255, kInk = 32;

// Indices into the font; bytes that go on a UTF-8 character are dropped, so that it is one box.
std::vector<int> glyphs_of(const std::string& text) {
  std::vector<int> glyphs;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= ' ' && byte <= '~') {
      glyphs.push_back(byte - ' ');
    } else if ((byte & 0xC0) != 0x80) {
      glyphs.push_back(kGlyphs - 1);
    }
  }
  return glyphs;
}

void draw_glyph(Image& sheet, int glyph, int top, int left) {
  for (int y = 0; y < kGlyphHeight; ++y) {
    const std::string_view dots = kFont[glyph / kGlyphsInBand * kGlyphHeight + y];
    for (int x = 0; x < kGlyphStep; ++x) {
      const int column = glyph % kGlyphsInBand * kGlyphStep + x;
      if (dots[static_cast<size_t>(column)] == ' ') continue;
      const size_t pixel =
          static_cast<size_t>(top + y) * static_cast<size_t>(sheet.width) + static_cast<size_t>(left + x);
      std::memset(sheet.pixels.data() + pixel * 3, kInk, 3);
    }
  }
}

struct Layout {
  int columns = 0, rows = 0, factor = 1;
  int image_height = 0, image_width = 0;  // of a cell's image, enlarged
  int letters = 0, lines = 0;             // of a caption

  int cell_height() const { return image_height + lines * kLineHeight + kMargin; }
  int cell_width() const { return image_width + kMargin; }
  int top(size_t i) const { return kMargin + static_cast<int>(i) / columns * cell_height(); }
  int left(size_t i) const { return kMargin + static_cast<int>(i) % columns * cell_width(); }
};

Layout lay_out(const std::vector<Image>& images, const std::vector<std::string>& captions, int columns) {
  Layout layout;
  const auto count = static_cast<int>(images.size());
  layout.columns = std::min(columns, count);
  layout.rows = (count + layout.columns - 1) / layout.columns;
  int height = 0, width = 0;
  for (const Image& image : images) {
    RIFFLE_CHECK(image.height > 0 && image.width > 0 && (image.channels == 1 || image.channels == 3), "an image of ",
                 image.width, "x", image.height, "x", image.channels);
    height = std::max(height, image.height);
    width = std::max(width, image.width);
  }
  layout.factor = std::max(1, kContactSheetCell / width);
  layout.image_height = height * layout.factor;
  layout.image_width = std::max(width * layout.factor, kContactSheetCell);
  layout.letters = layout.image_width / kGlyphStep;
  for (const std::string& caption : captions) {
    const auto length = static_cast<int>(glyphs_of(caption).size());
    layout.lines = std::max(layout.lines, std::min((length + layout.letters - 1) / layout.letters, kCaptionLines));
  }
  const int64_t sheet_height = int64_t{layout.rows} * layout.cell_height() + kMargin;
  const int64_t sheet_width = int64_t{layout.columns} * layout.cell_width() + kMargin;
  if (sheet_height > kMaxImagePixels / sheet_width)
    fail("a contact sheet of ", count, " images would have ", sheet_width, "x", sheet_height, " pixels, more than ",
         kMaxImagePixels, "; ask for fewer images");
  return layout;
}

void draw_image(Image& sheet, const Image& image, int factor, int top, int left) {
  for (int y = 0; y < image.height * factor; ++y) {
    const uint8_t* in = image.pixels.data() + static_cast<size_t>(y / factor) * static_cast<size_t>(image.width) *
                                                  static_cast<size_t>(image.channels);
    uint8_t* out = sheet.pixels.data() +
                   (static_cast<size_t>(top + y) * static_cast<size_t>(sheet.width) + static_cast<size_t>(left)) * 3;
    for (int x = 0; x < image.width * factor; ++x, out += 3) {
      const uint8_t* pixel = in + static_cast<std::ptrdiff_t>(x / factor) * image.channels;
      for (int c = 0; c < 3; ++c) out[c] = pixel[image.channels == 3 ? c : 0];
    }
  }
}

void draw_caption(Image& sheet, const std::string& caption, const Layout& layout, int top, int left) {
  const std::vector<int> glyphs = glyphs_of(caption);
  const size_t room = static_cast<size_t>(layout.letters) * static_cast<size_t>(layout.lines);
  for (size_t i = 0; i < std::min(glyphs.size(), room); ++i) {
    const int line = static_cast<int>(i) / layout.letters, column = static_cast<int>(i) % layout.letters;
    draw_glyph(sheet, glyphs[i], top + 2 + line * kLineHeight, left + column * kGlyphStep);
  }
}

}  // namespace

Image contact_sheet(const std::vector<Image>& images, const std::vector<std::string>& captions, int columns) {
  RIFFLE_CHECK(!images.empty() && columns > 0, "a contact sheet of ", images.size(), " images in ", columns,
               " columns");
  RIFFLE_CHECK(captions.size() == images.size(), captions.size(), " captions for ", images.size(), " images");
  const Layout layout = lay_out(images, captions, columns);
  Image sheet(layout.rows * layout.cell_height() + kMargin, layout.columns * layout.cell_width() + kMargin, 3);
  std::fill(sheet.pixels.begin(), sheet.pixels.end(), kPaper);
  for (size_t i = 0; i < images.size(); ++i) {
    draw_image(sheet, images[i], layout.factor, layout.top(i), layout.left(i));
    draw_caption(sheet, captions[i], layout, layout.top(i) + layout.image_height, layout.left(i));
  }
  return sheet;
}

}  // namespace riffle
