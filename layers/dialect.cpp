// Dialects: names and padding.
#include "layers/dialect.h"

#include <algorithm>

#include "core/check.h"

namespace riffle {

const char* name_of(Dialect dialect) {
  switch (dialect) {
    case Dialect::kTorchvision:
      return "torchvision";
    case Dialect::kMegvii:
      return "megvii";
    case Dialect::kTensorpack:
      return "tensorpack";
  }
  fail("unknown dialect ", static_cast<int>(dialect));
}

Dialect parse_dialect(const std::string& name) {
  for (Dialect dialect : {Dialect::kTorchvision, Dialect::kMegvii, Dialect::kTensorpack})
    if (name == name_of(dialect)) return dialect;
  fail_usage("unknown dialect '", name, "'; use torchvision, megvii or tensorpack");
}

Window dialect_window(Dialect dialect, int64_t kernel, int64_t stride, int64_t height, int64_t width) {
  Window window{kernel, kernel, stride, Padding::all(kernel / 2)};
  if (dialect != Dialect::kTensorpack) return window;
  const auto total = [&](int64_t size) {
    return std::max<int64_t>((((size + stride - 1) / stride) - 1) * stride + kernel - size, 0);
  };
  const int64_t rows = total(height), columns = total(width);
  window.padding = {rows / 2, rows - rows / 2, columns / 2, columns - columns / 2};
  return window;
}

}  // namespace riffle
