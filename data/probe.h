// What an image's headers say, without decoding it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace riffle {

struct ImageProbe {
  enum class Format { kUnknown, kJpeg, kPng } format = Format::kUnknown;
  int width = 0, height = 0;
  int components = 0;  // as stored: 1 gray, 2 gray and alpha, 3 RGB or YCbCr, 4 CMYK, YCCK or RGBA; a palette: 3
  int bits = 8;        // of a component
  bool progressive = false, palette = false;
};

// Never throws: what the headers do not say stays as above.
ImageProbe probe_image(const uint8_t* bytes, size_t size);

}  // namespace riffle
