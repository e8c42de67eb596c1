// What the two readers of JPEG share: libjpeg's decoder as an object, its errors, and the EXIF orientation.
#pragma once

#include <cstdio>

#include <jpeglib.h>

#include "data/jpeg_errors.h"

namespace riffle {

struct JpegDecoder {
  jpeg_decompress_struct state{};

  JpegDecoder() = default;
  JpegDecoder(const JpegDecoder&) = delete;
  JpegDecoder& operator=(const JpegDecoder&) = delete;
  ~JpegDecoder() { jpeg_destroy_decompress(&state); }  // does nothing if it was never created
};

// For jpeg_decompress_struct::err. Errors, and warnings that mean lost picture content, jump to manager.escape.
jpeg_error_mgr* jpeg_reading_errors(JpegErrorManager& manager);

// From the markers that jpeg_save_markers(APP1) kept; upright where there are none.
int orientation_of(const jpeg_decompress_struct& decoder);

}  // namespace riffle
