// The same function in another dialect, where there is one: dialects of equal shapes differ in which unit reads which
// channel, which a permutation of each unit's channels makes up for.
#pragma once

#include <string>

#include "layers/shufflenet_v2.h"
#include "train/checkpoint/host_tensor.h"

namespace riffle {

struct DialectConversion {
  ShuffleNetV2Config model;
  TensorMap tensors;  // under the names of `model`
};

// tensors: all of `model`'s, under its names, and num_batches_tracked where they are known. Throws, saying why, where no
// exact conversion exists. `path` is for messages.
DialectConversion convert_dialect(const ShuffleNetV2Config& model, const TensorMap& tensors, Dialect to,
                                  const std::string& path);

}  // namespace riffle
