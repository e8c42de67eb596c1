// From a host batch of 8-bit images to what the network reads: one upload and one normalisation, into buffers that are
// allocated once.
#pragma once

#include "core/backend.h"
#include "core/tape.h"

namespace riffle {

class NetworkInput {
 public:
  // `images` is the shape of the largest batch: N, H, W, C.
  NetworkInput(Backend& backend, const Normalisation& normalisation, Shape images);

  // pixels: u8 (count,H,W,C), packed. The result is valid until the next call.
  Variable images(const uint8_t* pixels, int64_t count);
  // labels: (count). The result is valid until the next call.
  Tensor labels(const int32_t* values, int64_t count);

  const Shape& capacity() const { return pixels_.shape(); }

 private:
  Backend& backend_;
  Normalisation normalisation_;
  Tensor pixels_;      // u8 (N,H,W,C)
  Tensor normalised_;  // (N,H,W,C)
  Tensor labels_;      // i32 (N,1,1,1)
};

}  // namespace riffle
