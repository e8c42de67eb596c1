// Image files made in tests with libjpeg and libpng: every kind that a data set may hold.
#pragma once

#include <jpeglib.h>
#include <png.h>

#include <cstdlib>
#include <vector>

#include "data/image.h"

namespace riffle {

struct JpegKind {
  J_COLOR_SPACE in_space = JCS_RGB;      // of the pixels given
  J_COLOR_SPACE file_space = JCS_YCbCr;  // of the file
  int quality = 100;
  bool progressive = false;
  int sampling = 1;           // of luma, both ways: 2 is 4:2:0
  unsigned restart_rows = 0;  // restart markers after so many rows of blocks
  bool own_codes = false;     // Huffman tables of this file's symbols, not the usual ones
};

// pixels: (height, width, components of in_space). Four components get Adobe's marker, as libjpeg writes it.
inline std::vector<uint8_t> make_jpeg(const std::vector<uint8_t>& pixels, int height, int width, const JpegKind& kind) {
  jpeg_compress_struct state{};
  jpeg_error_mgr errors{};
  state.err = jpeg_std_error(&errors);  // a mistake in a test ends the program with a message
  jpeg_create_compress(&state);
  unsigned char* bytes = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&state, &bytes, &size);
  state.image_height = static_cast<JDIMENSION>(height);
  state.image_width = static_cast<JDIMENSION>(width);
  state.in_color_space = kind.in_space;
  state.input_components = kind.in_space == JCS_GRAYSCALE ? 1 : kind.in_space == JCS_CMYK ? 4 : 3;
  jpeg_set_defaults(&state);
  jpeg_set_colorspace(&state, kind.file_space);
  jpeg_set_quality(&state, kind.quality, TRUE);
  state.comp_info[0].h_samp_factor = state.comp_info[0].v_samp_factor = kind.sampling;
  state.restart_in_rows = static_cast<int>(kind.restart_rows);
  state.optimize_coding = kind.own_codes ? TRUE : FALSE;
  if (kind.progressive) jpeg_simple_progression(&state);
  jpeg_start_compress(&state, TRUE);
  const size_t pitch = static_cast<size_t>(width) * static_cast<size_t>(state.input_components);
  while (state.next_scanline < state.image_height) {
    JSAMPROW row = const_cast<uint8_t*>(pixels.data()) + state.next_scanline * pitch;  // only read
    jpeg_write_scanlines(&state, &row, 1);
  }
  jpeg_finish_compress(&state);
  std::vector<uint8_t> file(bytes, bytes + size);
  jpeg_destroy_compress(&state);
  std::free(bytes);
  return file;
}

struct PngKind {
  int color_type = PNG_COLOR_TYPE_RGB;
  int bit_depth = 8;
  bool interlaced = false;
  std::vector<png_color> palette;
};

// rows: `height` rows as PNG packs them.
inline std::vector<uint8_t> make_png(const std::vector<uint8_t>& rows, int height, int width, const PngKind& kind) {
  std::vector<uint8_t> file;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);
  png_set_write_fn(
      png, &file,
      [](png_structp writer, png_bytep data, size_t count) {
        auto* out = static_cast<std::vector<uint8_t>*>(png_get_io_ptr(writer));
        out->insert(out->end(), data, data + count);
      },
      nullptr);
  png_set_IHDR(png, info, static_cast<png_uint_32>(width), static_cast<png_uint_32>(height), kind.bit_depth,
               kind.color_type, kind.interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  if (!kind.palette.empty()) png_set_PLTE(png, info, kind.palette.data(), static_cast<int>(kind.palette.size()));
  const size_t pitch = rows.size() / static_cast<size_t>(height);
  std::vector<png_bytep> pointers(static_cast<size_t>(height));
  for (size_t y = 0; y < pointers.size(); ++y)
    pointers[y] = const_cast<uint8_t*>(rows.data()) + y * pitch;  // only read
  png_set_rows(png, info, pointers.data());
  png_write_png(png, info, PNG_TRANSFORM_IDENTITY, nullptr);
  png_destroy_write_struct(&png, &info);
  return file;
}

}  // namespace riffle
