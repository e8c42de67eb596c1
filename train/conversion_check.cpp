#include "train/conversion_check.h"

#include <algorithm>
#include <cmath>

#include "layers/shufflenet_v2.h"
#include "train/checkpoint/module_io.h"
#include "train/network_input.h"
#include "train/predictor.h"

namespace riffle {

std::vector<float> probe_logits(Backend& backend, const CheckpointMetadata& metadata, const TensorMap& tensors,
                                const std::string& path) {
  // The definition of the dialect, which shares nothing with the routing that dialects are converted by.
  ShuffleNetV2 network(backend, metadata.model, /*seed=*/0, ShuffleExecution::kPlain);
  import_module(backend, network, tensors, path);
  network.fold_batch_norm(backend);
  // Of any size that all layers see something of: logits need only agree.
  const int64_t size = std::min(metadata.preprocessing.crop, 224), channels = metadata.model.input_channels, images = 2;
  std::vector<uint8_t> pixels(static_cast<size_t>(images * size * size * channels));
  uint32_t state = 1;
  for (uint8_t& pixel : pixels) {
    state = state * 1664525U + 1013904223U;
    pixel = static_cast<uint8_t>(state >> 24U);
  }
  NetworkInput input(backend, metadata.normalisation, {images, size, size, channels});
  return compute_logits(backend, network, input, pixels.data(), images);
}

double relative_difference(const std::vector<float>& a, const std::vector<float>& b) {
  RIFFLE_CHECK(a.size() == b.size(), a.size(), " and ", b.size(), " logits");
  double difference = 0, largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference = std::max(difference, std::fabs(static_cast<double>(a[i]) - b[i]));
    largest = std::max(largest, std::fabs(static_cast<double>(a[i])));
  }
  return difference / std::max(largest, 1e-30);
}

}  // namespace riffle
