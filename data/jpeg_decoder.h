// What the two readers of JPEG share: libjpeg's decoder as an object, its errors and source, and the EXIF orientation.
#pragma once

#include <cstdio>

#include <jpeglib.h>

#include "data/image.h"
#include "data/jpeg_errors.h"

namespace riffle {

struct JpegDecoder {
  jpeg_decompress_struct state{};

  JpegDecoder() = default;
  JpegDecoder(const JpegDecoder&) = delete;
  JpegDecoder& operator=(const JpegDecoder&) = delete;
  ~JpegDecoder() { jpeg_destroy_decompress(&state); }  // does nothing if it was never created

  // After jpeg_create_decompress(): reads `bytes`. A file that ends too early is an error; or, accepted, it gets an EOI
  // marker once, which makes libjpeg fill what is missing with gray, and sets the manager's past_end. Where even that is not
  // enough (the file ends in a table of a later scan), libjpeg's functions return that they are suspended.
  void read_from(const uint8_t* bytes, size_t size, TruncatedImages truncated);

 private:
  jpeg_source_mgr source_{};
};

// For jpeg_decompress_struct::err. Errors, and warnings that mean lost picture content, jump to manager.escape.
jpeg_error_mgr* jpeg_reading_errors(JpegErrorManager& manager);

// From the markers that jpeg_save_markers(APP1) kept; upright where there are none.
int orientation_of(const jpeg_decompress_struct& decoder);

}  // namespace riffle
