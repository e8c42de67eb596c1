// Where a convolution leaves its output's statistics for the batch norm after it.
#pragma once

#include "core/tensor.h"

namespace riffle {

struct BatchStatistics {
  Tensor mean{}, var{};  // (C) each, or undefined: nobody asked

  bool wanted() const { return mean.defined(); }
};

}  // namespace riffle
