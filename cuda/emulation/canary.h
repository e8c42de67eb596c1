// The check build must not lose its instrumentation unnoticed (-flto does that): at the first CUDA call it runs a
// kernel with a race (canary.cu, compiled as all kernels are) and ends the process if that is not reported.
#pragma once

namespace riffle::emulation {

void run_canary_once();

}  // namespace riffle::emulation
