// CudaBackend: identity, memory, capture, ranges.
#include "cuda/cuda_backend.h"

#include <nvtx3/nvToolsExt.h>

#include "cuda/convolution_plans.h"
#include "cuda/graph.h"
#include "cuda/kernel_image.h"
#include "cuda/make_cuda_backend.h"
#include "cuda/matrix_products.h"

namespace riffle {
namespace {

// What can be known before anything is made on the device; makes it current.
DeviceProperties open_device(const CudaOptions& options) {
  const DType dtype = options.dtype;
  if (dtype != DType::kF32 && dtype != DType::kBF16 && dtype != DType::kF16)
    fail_usage("activations cannot be ", dtype, " on CUDA; f32, bf16 and f16 are possible");
  if (options.tf32 && dtype != DType::kF32) fail_usage("tf32 is a way to compute with f32, activations are ", dtype);
  std::string why_not;
  if (!cuda_available(&why_not)) fail("CUDA cannot be used: ", why_not);
  DeviceProperties properties = device_properties(options.device);
  use_device(options.device);
  why_not = why_kernels_do_not_run();
  if (!why_not.empty()) fail("CUDA device ", options.device, " (", properties.name, ") cannot be used: ", why_not);
  return properties;
}

}  // namespace

CudaBackend::CudaBackend(const CudaOptions& options)
    : options_(options),
      properties_(open_device(options)),
      allocator_(std::make_shared<DeviceAllocator>(options.device, stream_.get(), options.poison)) {}

CudaBackend::~CudaBackend() = default;

std::unique_ptr<Backend> make_cuda_backend(const CudaOptions& options) {
  return std::make_unique<CudaBackend>(options);
}

std::string CudaBackend::description() const {
  const DeviceProperties& p = properties_;
  return join("CUDA: ", p.name, " (", device(), "), compute capability ", p.compute_major, ".", p.compute_minor, ", ",
              p.multiprocessors, " multiprocessors, ", p.memory_bytes >> 30, " GiB, activations ", dtype(),
              options_.tf32 ? ", tf32 products" : "", options_.deterministic ? ", deterministic" : "",
              options_.cudnn_depthwise ? ", depthwise by cuDNN" : "");
}

// Convolutions are few; matrix products are too many for a line each.
std::vector<std::string> CudaBackend::choices() const {
  std::vector<std::string> lines;
  if (convolutions_) lines = convolutions_->choices();
  if (products_ && !products_->choices().empty())
    lines.push_back(join(products_->choices().size(), " matrix products: ",
                         options_.deterministic ? "the library's first choice" : "the quickest algorithm",
                         " for each"));
  return lines;
}

Tensor CudaBackend::empty(Shape shape, DType dtype) {
  RIFFLE_CHECK(shape.n > 0 && shape.h > 0 && shape.w > 0 && shape.c > 0, "empty tensor of shape ", shape);
  int64_t bytes = static_cast<int64_t>(size_of(dtype));
  bool overflow = false;
  for (int64_t size : {shape.n, shape.h, shape.w, shape.c}) overflow |= __builtin_mul_overflow(bytes, size, &bytes);
  RIFFLE_CHECK(!overflow, "a tensor of shape ", shape, " is larger than any memory");
  return Tensor(allocator_->allocate(static_cast<size_t>(bytes)), device(), dtype, shape, shape.c);
}

void CudaBackend::synchronize() {
  check_not_capturing("synchronize");
  stream_.synchronize();
}

std::unique_ptr<CapturedWork> CudaBackend::capture(const std::function<void()>& work) {
  if (range_events_.running()) fail("work whose ranges are timed cannot be captured into a graph");
  return std::make_unique<StepGraph>(stream_, allocator_, work);
}

void CudaBackend::begin_range(const std::string& name) {
  nvtxRangePushA(name.c_str());
  range_events_.begin(name, stream_.get());
}

void CudaBackend::end_range() {
  range_events_.end(stream_.get());
  nvtxRangePop();
}

void CudaBackend::time_ranges() {
  range_events_.start();
}

std::vector<RangeTime> CudaBackend::range_times() {
  return range_events_.stop();
}

void CudaBackend::check_ours(const Tensor& tensor, const char* operation) const {
  RIFFLE_CHECK(tensor.defined(), operation, ": an undefined tensor was passed where one is needed");
  RIFFLE_CHECK(tensor.device() == device(), operation, ": tensor ", tensor.shape(), " is on ", tensor.device(),
               ", this backend computes on ", device());
}

void CudaBackend::check_not_capturing(const char* operation) const {
  if (stream_.capturing()) fail(operation, ": not possible within work that is captured into a graph");
}

}  // namespace riffle
