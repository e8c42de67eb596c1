// The part of a JPEG that a crop needs, decoded at the scale that it needs, for training. Rows below the crop are not
// read, the others only parsed; of the crop's rows only its columns are transformed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "data/resize.h"

namespace riffle {

// What a crop is resampled from.
struct DecodedCrop {
  Image image;        // around the crop; at 1/1, 1/2, 1/4 or 1/8 of the size in the file
  FractionalBox box;  // the crop, in its pixels
};

class PartialJpeg {
 public:
  // Reads the header, without throwing: what it does not understand is not readable(). `bytes` must outlive the object.
  PartialJpeg(const uint8_t* bytes, size_t size, int channels, TruncatedImages truncated = TruncatedImages::kError);
  ~PartialJpeg();

  // False for all that decode_image() must read: other formats, broken headers, CMYK, several scans (progressive),
  // arithmetic coding, unusual sampling, and colour where gray is wanted.
  bool readable() const;
  int height() const;
  int width() const;
  int orientation() const;  // EXIF's

  // The smallest scale at which the crop has at least height x width pixels, or the file's own. At that one, pixels are
  // decode_image()'s. To be called once. Throws Error as decode_image(), of what it reads: damage elsewhere goes unseen,
  // and so does an end of the file below the crop.
  DecodedCrop decode(const CropBox& crop, int height, int width, const std::string& path);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace riffle
