// Initial weights as each dialect's authors publish them; a network trained from a recipe starts where theirs did.
#pragma once

#include "layers/conv_bn.h"
#include "layers/linear.h"

namespace riffle {

// torchvision: PyTorch's defaults: filters and the classifier uniform in +-1/sqrt(fan_in), its bias too.
// megvii: normal; the stem's filter std 0.01, others 1/(inputs of a group); BN bias 1e-4; classifier std 0.01.
// tensorpack: He (He et al., 2015), variance 2/fan_in, as a normal cut off at two deviations (TensorFlow's
//   variance_scaling); TensorFlow counts a depthwise filter's fan-in as 9*C; classifier bias 0.
// `first`: the stem. `number`: of the layer, so that each has its own random stream.
void initialise_conv_bn(Backend& backend, Dialect dialect, bool first, uint64_t seed, uint64_t number, ConvBn& block);
void initialise_linear(Backend& backend, Dialect dialect, uint64_t seed, uint64_t number, Linear& linear);

}  // namespace riffle
