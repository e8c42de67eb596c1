// JPEG through libjpeg-turbo's libjpeg API, which (unlike TurboJPEG) reads CMYK and YCCK. Bit-exact with Pillow, which
// uses the same library with the same defaults; stricter than Pillow on corrupt data.
#include <algorithm>
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

// Warnings that mean lost picture content are errors, unless they follow from the file's end, which then is accepted.
// Others, such as extraneous bytes before a marker, occur in files that every decoder reads in full.
void on_message(j_common_ptr state, int level) {
  if (level >= 0 || reinterpret_cast<JpegErrorManager*>(state->err)->past_end) return;
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

// --- a source that ends with one EOI marker, whatever the file has ---

void start_source(j_decompress_ptr) {}

boolean end_source(j_decompress_ptr state) {
  static const JOCTET kEnd[] = {0xFF, JPEG_EOI};
  auto* manager = reinterpret_cast<JpegErrorManager*>(state->err);
  if (manager->past_end) return FALSE;
  manager->past_end = true;
  state->src->next_input_byte = kEnd;
  state->src->bytes_in_buffer = sizeof(kEnd);
  return TRUE;
}

void skip_source(j_decompress_ptr state, long count) {
  auto left = static_cast<size_t>(std::max(count, 0L));
  while (left > state->src->bytes_in_buffer) {
    left -= state->src->bytes_in_buffer;
    state->src->bytes_in_buffer = 0;
    if (end_source(state) == FALSE) return;
  }
  state->src->next_input_byte += left;
  state->src->bytes_in_buffer -= left;
}

// ---

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

// A file, and how it is decoded: `entropy` may be null, for libjpeg's own.
struct Source {
  const uint8_t* bytes;
  size_t size;
  const std::string& path;
  JpegEntropy* entropy;
  TruncatedImages truncated;
};

// Decoding in two steps, into objects that the caller owns: libjpeg leaves by longjmp, which runs no destructors of these
// frames. Both return false with the manager's message set.
bool read_header(const Source& source, JpegDecoder& decoder, JpegErrorManager& manager) {
  if (setjmp(manager.escape) != 0) return false;
  jpeg_create_decompress(&decoder.state);
  decoder.read_from(source.bytes, source.size, source.truncated);
  jpeg_save_markers(&decoder.state, JPEG_APP0 + 1, 0xFFFF);
  const bool whole = jpeg_read_header(&decoder.state, TRUE) == JPEG_HEADER_OK && !manager.past_end;
  if (!whole) std::snprintf(manager.message, sizeof(manager.message), "the file ends in its header");
  return whole;
}

// Stops early, and returns true, where a truncated file that is accepted has no more rows.
bool read_rows(JpegEntropy* entropy, jpeg_decompress_struct& decoder, JpegErrorManager& manager, Image& image,
               std::vector<uint8_t>& row) {
  if (setjmp(manager.escape) != 0) return manager.past_end;
  if (jpeg_start_decompress(&decoder) == FALSE) return true;
  if (entropy != nullptr) entropy->attach(decoder);
  const size_t width = decoder.output_width;
  const int channels = image.channels;
  const bool direct = decoder.output_components == channels;
  if (!direct) row.resize(width * 7);  // a row as decoded (up to 4 channels), and the same in RGB
  while (decoder.output_scanline < decoder.output_height) {
    uint8_t* out = image.pixels.data() + decoder.output_scanline * width * static_cast<size_t>(channels);
    JSAMPROW target = direct ? out : row.data();
    if (jpeg_read_scanlines(&decoder, &target, 1) != 1) return true;
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

// Returns false with `message` set.
bool decode_from(const Source& source, int channels, Image& image, std::string& message) {
  JpegErrorManager manager{};
  JpegDecoder decoder;
  jpeg_decompress_struct& state = decoder.state;
  state.err = jpeg_reading_errors(manager);
  std::vector<uint8_t> row;
  bool decoded = read_header(source, decoder, manager);
  if (decoded) {
    check_image_size(source.path, state.image_height, state.image_width);
    choose_output_space(state, channels);
    image = Image(static_cast<int>(state.image_height), static_cast<int>(state.image_width), channels);
    image.orientation = orientation_of(state);
    // Rows that a truncated file lacks altogether are no ink in Pillow's CMYK, and black in its other modes.
    if (state.out_color_space == JCS_CMYK && source.truncated == TruncatedImages::kAccept)
      std::fill(image.pixels.begin(), image.pixels.end(), uint8_t{255});
    decoded = read_rows(source.entropy, state, manager, image, row);
    image.truncated = manager.past_end;
  }
  message = manager.message;
  return decoded;
}

}  // namespace

jpeg_error_mgr* jpeg_reading_errors(JpegErrorManager& manager) {
  jpeg_std_error(&manager.base);
  manager.base.error_exit = on_jpeg_error;
  manager.base.emit_message = on_message;
  manager.base.output_message = print_nothing;
  return &manager.base;
}

void JpegDecoder::read_from(const uint8_t* bytes, size_t size, TruncatedImages truncated) {
  if (truncated == TruncatedImages::kError) {
    jpeg_mem_src(&state, bytes, static_cast<unsigned long>(size));
    return;
  }
  source_ = {bytes, size, start_source, end_source, skip_source, jpeg_resync_to_restart, start_source};
  state.src = &source_;
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

Image decode_jpeg(const uint8_t* bytes, size_t size, const std::string& path, int channels, TruncatedImages truncated,
                  HuffmanDecoder huffman) {
  JpegEntropy* entropy = huffman == HuffmanDecoder::kOurs ? &JpegEntropy::of_this_thread() : nullptr;
  Image image;
  std::string message;
  if (decode_from({bytes, size, path, entropy, TruncatedImages::kError}, channels, image, message)) return image;
  const bool again = truncated == TruncatedImages::kAccept || (entropy != nullptr && entropy->found_damage());
  if (!again || !decode_from({bytes, size, path, nullptr, truncated}, channels, image, message))
    fail(path, ": truncated or corrupt JPEG: ", message);
  return image;
}

}  // namespace riffle
