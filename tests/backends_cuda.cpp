// The CUDA backend in every precision, for parity tests: on a GPU or on the emulated device, as the program is linked.
// The libraries' first choices of algorithms are tested, or, with RIFFLE_TEST_TIMED_ALGORITHMS set, those that are
// quickest on this device, as programs use them.
#include <cstdlib>

#include "cuda/make_cuda_backend.h"
#include "tests/parity.h"

namespace riffle::parity {
namespace {

CudaOptions options_of(DType dtype) {
  CudaOptions options;
  options.dtype = dtype;
  options.deterministic = std::getenv("RIFFLE_TEST_TIMED_ALGORITHMS") == nullptr;
  options.poison = true;
  return options;
}

BackendUnderTest cuda(const std::string& name, const CudaOptions& options) {
  return {name, [options] { return make_cuda_backend(options); }};
}

}  // namespace

std::vector<BackendUnderTest> backends_under_test() {
  CudaOptions cudnn_depthwise = options_of(DType::kF32);
  cudnn_depthwise.cudnn_depthwise = true;
  return {cuda("CudaF32", options_of(DType::kF32)), cuda("CudaBF16", options_of(DType::kBF16)),
          cuda("CudaF16", options_of(DType::kF16)), cuda("CudaF32CudnnDepthwise", cudnn_depthwise)};
}

std::vector<BackendUnderTest> backends_under_product_test() {
  std::vector<BackendUnderTest> backends = backends_under_test();
  CudaOptions tf32 = options_of(DType::kF32);
  tf32.tf32 = true;
  backends.push_back(cuda("CudaTF32", tf32));
  return backends;
}

}  // namespace riffle::parity
