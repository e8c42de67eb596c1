// PNG through libpng. Pixels equal those of Pillow's open().convert("RGB" or "L"), peculiarities included: alpha and
// tRNS are dropped, gamma is ignored, 16-bit colour keeps its high byte, but 16-bit gray saturates at 255.
#include <csetjmp>
#include <cstdio>
#include <cstring>

#include <png.h>

#include "core/check.h"
#include "data/decoders.h"
#include "data/orientation.h"
#include "data/truncated_png.h"

namespace riffle {
namespace {

struct Source {
  const uint8_t* bytes;
  size_t size, position;
};

struct Failure {
  std::jmp_buf escape;
  char message[256];
};

[[noreturn]] void on_error(png_structp png, png_const_charp message) {
  auto* failure = static_cast<Failure*>(png_get_error_ptr(png));
  std::snprintf(failure->message, sizeof failure->message, "%s", message);
  std::longjmp(failure->escape, 1);
}

void on_warning(png_structp, png_const_charp) {}

void read_bytes(png_structp png, png_bytep out, size_t count) {
  auto* source = static_cast<Source*>(png_get_io_ptr(png));
  if (count > source->size - source->position) png_error(png, "the file ends too early");
  std::memcpy(out, source->bytes + source->position, count);
  source->position += count;
}

struct Reader {
  png_structp png = nullptr;
  png_infop info = nullptr;
  Source source{};
  Failure failure{};
  std::vector<uint8_t> pixels;  // as libpng gives them
  std::vector<png_bytep> rows;
  uint32_t height = 0, width = 0;
  int channels = 0;  // of `pixels`: 1 to 4, the last of 2 or 4 being alpha
  int orientation = kUpright;
  bool palette = false;  // in the file
  bool wide = false;     // 16-bit samples, big-endian; gray only

  ~Reader() { png_destroy_read_struct(&png, &info, nullptr); }
};

void request_plain_samples(Reader& reader) {
  const int depth = png_get_bit_depth(reader.png, reader.info);
  const int type = png_get_color_type(reader.png, reader.info);
  reader.palette = type == PNG_COLOR_TYPE_PALETTE;
  if (reader.palette) png_set_palette_to_rgb(reader.png);
  if (type == PNG_COLOR_TYPE_GRAY && depth < 8) png_set_expand_gray_1_2_4_to_8(reader.png);
  reader.wide = type == PNG_COLOR_TYPE_GRAY && depth == 16;
  if (depth == 16 && !reader.wide) png_set_strip_16(reader.png);
  png_set_interlace_handling(reader.png);
  png_read_update_info(reader.png, reader.info);
}

int orientation_of(png_structp png, png_infop info) {
  png_uint_32 size = 0;
  png_bytep exif = nullptr;
  return png_get_eXIf_1(png, info, &size, &exif) != 0 ? exif_orientation(exif, size) : kUpright;
}

// What pixels are where a truncated file has none: Pillow leaves them 0, which in a palette is its first colour.
void fill_background(Reader& reader) {
  png_colorp palette = nullptr;
  int colours = 0;
  if (!reader.palette || png_get_PLTE(reader.png, reader.info, &palette, &colours) == 0 || colours == 0) return;
  const auto step = static_cast<size_t>(reader.channels);
  for (size_t at = 0; at + 3 <= reader.pixels.size(); at += step) {
    reader.pixels[at] = palette->red;
    reader.pixels[at + 1] = palette->green;
    reader.pixels[at + 2] = palette->blue;
  }
}

// Returns false with the failure's message set. libpng leaves by longjmp, which runs no destructors of this frame, so
// everything that owns memory lives in `reader`.
bool read(Reader& reader, const std::string& path, bool closed) {
  if (setjmp(reader.failure.escape) != 0) return false;
  png_set_read_fn(reader.png, &reader.source, read_bytes);
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION  // changed inputs rarely have right checksums
  png_set_crc_action(reader.png, PNG_CRC_QUIET_USE, PNG_CRC_QUIET_USE);
  png_set_option(reader.png, PNG_IGNORE_ADLER32, PNG_OPTION_ON);
#endif
  png_read_info(reader.png, reader.info);
  reader.height = png_get_image_height(reader.png, reader.info);
  reader.width = png_get_image_width(reader.png, reader.info);
  check_image_size(path, reader.height, reader.width);
  request_plain_samples(reader);
  reader.orientation = orientation_of(reader.png, reader.info);

  reader.channels = png_get_channels(reader.png, reader.info);
  const size_t row_bytes = png_get_rowbytes(reader.png, reader.info);
  reader.pixels.resize(row_bytes * reader.height);
  reader.rows.resize(reader.height);
  if (closed) fill_background(reader);
  for (uint32_t y = 0; y < reader.height; ++y) reader.rows[y] = reader.pixels.data() + y * row_bytes;
  png_read_image(reader.png, reader.rows.data());
  png_read_end(reader.png, nullptr);
  return true;
}

Image convert(const Reader& reader, int channels) {
  Image image(static_cast<int>(reader.height), static_cast<int>(reader.width), channels);
  image.orientation = reader.orientation;
  const size_t count = static_cast<size_t>(reader.height) * reader.width;
  const auto in_step = static_cast<size_t>(reader.wide ? 2 : reader.channels);
  const bool gray_input = reader.channels <= 2;
  const uint8_t* in = reader.pixels.data();
  uint8_t* out = image.pixels.data();
  for (size_t i = 0; i < count; ++i, in += in_step, out += channels) {
    if (gray_input) {
      const uint8_t value = reader.wide && in[0] == 0 ? in[1] : reader.wide ? uint8_t{255} : in[0];
      std::memset(out, value, static_cast<size_t>(channels));
    } else if (channels == 3) {
      std::memcpy(out, in, 3);
    } else {
      *out = luma(in[0], in[1], in[2]);
    }
  }
  return image;
}

}  // namespace

Image decode_png(const uint8_t* bytes, size_t size, const std::string& path, int channels, TruncatedImages truncated) {
  std::vector<uint8_t> closed;  // of a truncated file that is accepted
  if (truncated == TruncatedImages::kAccept) closed = closed_png(bytes, size);
  Reader reader;
  reader.source = closed.empty() ? Source{bytes, size, 0} : Source{closed.data(), closed.size(), 0};
  reader.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &reader.failure, on_error, on_warning);
  RIFFLE_CHECK(reader.png != nullptr, "libpng ", PNG_LIBPNG_VER_STRING, " cannot start");
  reader.info = png_create_info_struct(reader.png);
  RIFFLE_CHECK(reader.info != nullptr, "libpng is out of memory");
  const bool whole = read(reader, path, !closed.empty());
  // libpng gives up when it finds the end in place of more image data; whatever it says before is other damage.
  const bool at_end =
      !closed.empty() && !reader.pixels.empty() && reader.source.position > reader.source.size - kPngEndChunk;
  if (!whole && !at_end) fail(path, ": truncated or corrupt PNG: ", reader.failure.message);
  Image image = convert(reader, channels);
  image.truncated = !closed.empty();
  return image;
}

}  // namespace riffle
