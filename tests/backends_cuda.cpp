// The CUDA backend in every precision, for parity tests: on a GPU or on the emulated device, as the program is linked.
// The libraries' first choices of algorithms are tested, or, with RIFFLE_TEST_TIMED_ALGORITHMS set, those that are
// quickest on this device, as programs use them.
#include <cstdlib>

#include "cuda/make_cuda_backend.h"
#include "tests/parity.h"

namespace riffle::parity {

std::vector<BackendUnderTest> backends_under_test() {
  const auto cuda = [](DType dtype, bool cudnn_depthwise = false) {
    return [=] {
      CudaOptions options;
      options.dtype = dtype;
      options.cudnn_depthwise = cudnn_depthwise;
      options.deterministic = std::getenv("RIFFLE_TEST_TIMED_ALGORITHMS") == nullptr;
      options.poison = true;
      return make_cuda_backend(options);
    };
  };
  return {{"CudaF32", cuda(DType::kF32)},
          {"CudaBF16", cuda(DType::kBF16)},
          {"CudaF16", cuda(DType::kF16)},
          {"CudaF32CudnnDepthwise", cuda(DType::kF32, /*cudnn_depthwise=*/true)}};
}

}  // namespace riffle::parity
