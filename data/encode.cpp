// libjpeg and libpng, writing to memory.
#include "data/encode.h"

#include <png.h>

#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include <jpeglib.h>

#include "core/check.h"
#include "data/jpeg_errors.h"

namespace riffle {
namespace {

struct Encoder {
  jpeg_compress_struct state{};
  unsigned char* bytes = nullptr;  // allocated by libjpeg with malloc
  unsigned long size = 0;
  ~Encoder() {
    jpeg_destroy_compress(&state);  // does nothing if it was never created
    std::free(bytes);
  }
};

// All objects belong to the caller: libjpeg leaves by longjmp, which runs no destructors of this frame.
bool encode_into(Encoder& encoder, JpegErrorManager& manager, const Image& image, int quality) {
  if (setjmp(manager.escape) != 0) return false;
  jpeg_compress_struct& state = encoder.state;
  jpeg_create_compress(&state);
  jpeg_mem_dest(&state, &encoder.bytes, &encoder.size);
  state.image_width = static_cast<JDIMENSION>(image.width);
  state.image_height = static_cast<JDIMENSION>(image.height);
  state.input_components = image.channels;
  state.in_color_space = image.channels == 3 ? JCS_RGB : JCS_GRAYSCALE;
  jpeg_set_defaults(&state);
  jpeg_set_quality(&state, quality, TRUE);
  state.dct_method = JDCT_ISLOW;
  state.optimize_coding = TRUE;
  jpeg_start_compress(&state, TRUE);
  const size_t row_bytes = static_cast<size_t>(image.width) * static_cast<size_t>(image.channels);
  while (state.next_scanline < state.image_height) {
    // libjpeg's interface is not const-correct; it only reads.
    JSAMPROW row = const_cast<uint8_t*>(image.pixels.data()) + state.next_scanline * row_bytes;
    jpeg_write_scanlines(&state, &row, 1);
  }
  jpeg_finish_compress(&state);
  return true;
}

}  // namespace

std::vector<uint8_t> encode_jpeg(const Image& image, int quality) {
  RIFFLE_CHECK(image.channels == 1 || image.channels == 3, "an image of ", image.channels, " channels");
  RIFFLE_CHECK(quality >= 1 && quality <= 100, "JPEG quality ", quality);
  JpegErrorManager manager{};
  Encoder encoder;
  encoder.state.err = jpeg_std_error(&manager.base);
  manager.base.error_exit = on_jpeg_error;
  if (!encode_into(encoder, manager, image, quality))
    fail("cannot encode an image of ", image.width, "x", image.height, " pixels as JPEG: ", manager.message);
  return {encoder.bytes, encoder.bytes + encoder.size};
}

std::vector<uint8_t> encode_png(const Image& image) {
  RIFFLE_CHECK(image.channels == 1 || image.channels == 3, "an image of ", image.channels, " channels");
  png_image header{};
  header.version = PNG_IMAGE_VERSION;
  header.width = static_cast<png_uint_32>(image.width);
  header.height = static_cast<png_uint_32>(image.height);
  header.format = image.channels == 3 ? PNG_FORMAT_RGB : PNG_FORMAT_GRAY;
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(header);
  std::vector<uint8_t> bytes(size);
  if (png_image_write_to_memory(&header, bytes.data(), &size, 0, image.pixels.data(), 0, nullptr) == 0)
    fail("cannot encode an image of ", image.width, "x", image.height, " pixels as PNG: ", header.message);
  bytes.resize(size);
  return bytes;
}

}  // namespace riffle
