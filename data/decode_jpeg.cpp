// JPEG through libjpeg-turbo's libjpeg API, which (unlike TurboJPEG) reads CMYK and YCCK. Bit-exact with Pillow, which
// uses the same library with the same defaults; stricter than Pillow on corrupt data.
#include <csetjmp>
#include <cstdio>
#include <cstring>

#include <jpeglib.h>

#include <jerror.h>  // after jpeglib.h, whose configuration it depends on

#include "core/check.h"
#include "data/decoders.h"
#include "data/jpeg_decoder.h"
#include "data/jpeg_entropy.h"
#include "data/orientation.h"

namespace riffle {
namespace {

// Warnings that mean lost picture content are errors. Others, such as extraneous bytes before a marker, occur in files
// that every decoder reads in full.
void on_message(j_common_ptr state, int level) {
  if (level >= 0) return;
  switch (state->err->msg_code) {
    case JWRN_JPEG_EOF:
    case JWRN_HIT_MARKER:
    case JWRN_HUFF_BAD_CODE:
    case JWRN_ARITH_BAD_CODE:
    case JWRN_MUST_RESYNC:
      on_jpeg_error(state);
    default:
      ++state->err->num_warnings;
  }
}

void print_nothing(j_common_ptr) {}

// Adobe's inverted CMYK, which is the only kind found in the wild, to RGB: (255 - ink) * (255 - black) / 255, rounded.
void rgb_from_inverted_cmyk(const uint8_t* cmyk, size_t width, uint8_t* rgb) {
  for (size_t x = 0; x < width; ++x, cmyk += 4, rgb += 3) {
    const unsigned light = cmyk[3];
    for (int c = 0; c < 3; ++c) {
      const unsigned absorbed = (255u - cmyk[c]) * light + 128;
      rgb[c] = static_cast<uint8_t>(light - (((absorbed >> 8) + absorbed) >> 8));
    }
  }
}

void gray_from_rgb(const uint8_t* rgb, size_t width, uint8_t* gray) {
  for (size_t x = 0; x < width; ++x, rgb += 3) gray[x] = luma(rgb[0], rgb[1], rgb[2]);
}

void choose_output_space(jpeg_decompress_struct& decoder, int channels) {
  switch (decoder.jpeg_color_space) {
    case JCS_GRAYSCALE:
      decoder.out_color_space = channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
      break;
    case JCS_CMYK:
    case JCS_YCCK:
      decoder.out_color_space = JCS_CMYK;
      break;
    default:
      decoder.out_color_space = JCS_RGB;  // gray is computed from RGB, as Pillow does, not taken from Y
  }
  decoder.dct_method = JDCT_ISLOW;
  decoder.do_fancy_upsampling = TRUE;
}

// Decodes into objects that the caller owns: libjpeg leaves by longjmp, which runs no destructors of this frame.
// `entropy` may be null, for libjpeg's own. Returns false with the manager's message set. check_image_size() may throw:
// no libjpeg frame is on the stack then.
bool decode_into(jpeg_decompress_struct& decoder, JpegErrorManager& manager, JpegEntropy* entropy, const uint8_t* bytes,
                 size_t size, const std::string& path, int channels, Image& image, std::vector<uint8_t>& row) {
  if (setjmp(manager.escape) != 0) return false;
  jpeg_create_decompress(&decoder);
  jpeg_mem_src(&decoder, bytes, static_cast<unsigned long>(size));
  jpeg_save_markers(&decoder, JPEG_APP0 + 1, 0xFFFF);
  jpeg_read_header(&decoder, TRUE);
  check_image_size(path, decoder.image_height, decoder.image_width);
  choose_output_space(decoder, channels);
  jpeg_start_decompress(&decoder);
  if (entropy != nullptr) entropy->attach(decoder);

  const size_t width = decoder.output_width;
  image = Image(static_cast<int>(decoder.output_height), static_cast<int>(width), channels);
  image.orientation = orientation_of(decoder);
  const bool direct = decoder.output_components == channels;
  if (!direct) row.resize(width * 7);  // a row as decoded (up to 4 channels), and the same in RGB
  while (decoder.output_scanline < decoder.output_height) {
    uint8_t* out = image.pixels.data() + decoder.output_scanline * width * static_cast<size_t>(channels);
    JSAMPROW target = direct ? out : row.data();
    jpeg_read_scanlines(&decoder, &target, 1);
    if (direct) continue;
    const uint8_t* rgb = row.data();
    if (decoder.output_components == 4) {
      uint8_t* converted = channels == 3 ? out : row.data() + width * 4;
      rgb_from_inverted_cmyk(row.data(), width, converted);
      rgb = converted;
    }
    if (channels == 1) gray_from_rgb(rgb, width, out);
  }
  jpeg_finish_decompress(&decoder);
  return true;
}

}  // namespace

jpeg_error_mgr* jpeg_reading_errors(JpegErrorManager& manager) {
  jpeg_std_error(&manager.base);
  manager.base.error_exit = on_jpeg_error;
  manager.base.emit_message = on_message;
  manager.base.output_message = print_nothing;
  return &manager.base;
}

int orientation_of(const jpeg_decompress_struct& decoder) {
  constexpr size_t kHeader = 6;  // "Exif" and two zeros, then TIFF
  for (const jpeg_marker_struct* marker = decoder.marker_list; marker != nullptr; marker = marker->next) {
    if (marker->marker == JPEG_APP0 + 1 && marker->data_length > kHeader &&
        std::memcmp(marker->data, "Exif\0", 6) == 0) {
      return exif_orientation(marker->data + kHeader, marker->data_length - kHeader);
    }
  }
  return kUpright;
}

Image decode_jpeg(const uint8_t* bytes, size_t size, const std::string& path, int channels, HuffmanDecoder huffman) {
  Image image;
  std::vector<uint8_t> row;
  JpegEntropy* entropy = huffman == HuffmanDecoder::kOurs ? &JpegEntropy::of_this_thread() : nullptr;
  for (;;) {
    JpegErrorManager manager{};
    JpegDecoder decoder;
    decoder.state.err = jpeg_reading_errors(manager);
    if (decode_into(decoder.state, manager, entropy, bytes, size, path, channels, image, row)) return image;
    if (entropy == nullptr || !entropy->found_damage()) fail(path, ": truncated or corrupt JPEG: ", manager.message);
    entropy = nullptr;
  }
}

}  // namespace riffle
