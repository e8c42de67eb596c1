// The three published variants of ShuffleNetV2. They differ in tensor shapes, shuffle, padding and classifier, so a
// dialect is part of a model's configuration and of every checkpoint's metadata.
#pragma once

#include <string>

#include "core/backend.h"

namespace riffle {

enum class Dialect {
  kTorchvision,  // halves at stage entry; shuffle(2) at the end of every unit; padding 1; classifier bias
  kMegvii,  // the authors': C_in kept at stage entry; shuffle(C/2) at the start of stride-1 units; no classifier bias
  kTensorpack,  // as Megvii at stage entry; shuffle(C/2) at the end of every unit; TensorFlow's SAME padding; bias
};

const char* name_of(Dialect dialect);            // "torchvision", "megvii", "tensorpack"
Dialect parse_dialect(const std::string& name);  // throws Error(kUsage) naming the three

// A window with the dialect's padding: kernel/2 on every side, or TensorFlow's SAME, which depends on the size: with
// total = max((ceil(size/stride) - 1)*stride + kernel - size, 0), total/2 before (rounded down) and the rest after.
Window dialect_window(Dialect dialect, int64_t kernel, int64_t stride, int64_t height, int64_t width);

}  // namespace riffle
