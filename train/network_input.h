// From host batches of 8-bit images to what the network reads: one upload and one normalisation each, into buffers that
// are allocated once.
#pragma once

#include <vector>

#include "core/backend.h"
#include "core/tape.h"

namespace riffle {

class NetworkInput {
 public:
  // `images` is the shape of the largest batch: N, H, W, C, until resize(). `batches` of them are kept at a time.
  NetworkInput(Backend& backend, const Normalisation& normalisation, Shape images, int batches = 1);

  // Images of another size from here on. What images() returned before is no longer valid.
  void resize(int64_t height, int64_t width);

  // pixels: u8 (count,H,W,C), packed. The result is valid for the next `batches` - 1 calls.
  Variable images(const uint8_t* pixels, int64_t count);
  // labels: (count). The result is valid for the next `batches` - 1 calls.
  Tensor labels(const int32_t* values, int64_t count);

  const Shape& capacity() const { return pixels_.shape(); }

 private:
  Backend& backend_;
  Normalisation normalisation_;
  Tensor pixels_;                   // u8 (N,H,W,C)
  std::vector<Tensor> normalised_;  // (N,H,W,C) each, taken in turn
  std::vector<Tensor> labels_;      // i32 (N,1,1,1) each, likewise
  size_t next_images_ = 0, next_labels_ = 0;
};

}  // namespace riffle
