// From host batches of 8-bit images to what the network reads: one upload and one normalisation each, into buffers that
// are allocated once.
#pragma once

#include <utility>
#include <vector>

#include "core/backend.h"
#include "core/tape.h"

namespace riffle {

// What a batch should be classified as.
struct BatchTargets {
  BatchTargets(Tensor one_each) : labels(std::move(one_each)) {}  // NOLINT: labels may stand wherever targets may
  BatchTargets(Tensor likeliest, Tensor all) : labels(std::move(likeliest)), probabilities(std::move(all)) {}

  Tensor labels;           // i32 (N,1,1,1); accuracy counts by these
  Tensor probabilities{};  // (N,1,1,K), label smoothing included; undefined: the labels are all there is
};

class NetworkInput {
 public:
  // `images` is the shape of the largest batch: N, H, W, C, until resize(). `batches` of them are kept at a time.
  NetworkInput(Backend& backend, const Normalisation& normalisation, Shape images, int batches = 1);

  // Images of another size from here on. What images() returned before is no longer valid.
  void resize(int64_t height, int64_t width);

  // pixels: u8 (count,H,W,C), packed. They cross the bus while the device computes; what images() returned stays.
  void upload(const uint8_t* pixels, int64_t count);
  // Of the last upload. The result is valid for the next `batches` - 1 calls. mix: null for none.
  Variable images(const ImageMix* mix = nullptr);
  Variable images(const uint8_t* pixels, int64_t count) {
    upload(pixels, count);
    return images();
  }
  // labels: (count). The result is valid for the next `batches` - 1 calls.
  Tensor labels(const int32_t* values, int64_t count);
  // The same of a mixed batch: `share` of each image is its own label, the rest that of the image before it. The label
  // with the larger share stands for both where one is counted; of equal shares, the image's own.
  BatchTargets mixed_labels(const int32_t* values, int64_t count, double share, double smoothing, int64_t classes);

  const Shape& capacity() const { return pixels_.shape(); }

 private:
  Backend& backend_;
  Normalisation normalisation_;
  Tensor pixels_;                   // u8 (N,H,W,C)
  int64_t uploaded_ = 0;            // images in them
  std::vector<Tensor> normalised_;  // (N,H,W,C) each, taken in turn
  std::vector<Tensor> labels_;      // i32 (N,1,1,1) each, likewise
  std::vector<Tensor> targets_;     // (N,1,1,K) each; empty before mixed_labels()
  Tensor other_labels_;             // i32 (N,1,1,1)
  std::vector<int32_t> host_labels_;
  size_t next_images_ = 0, next_labels_ = 0;
};

}  // namespace riffle
