// Backend choice.
#include "train/make_backend.h"

#include <algorithm>

#include "core/cpu/cpu_backend.h"
#include "train/nearest.h"
#include "train/text.h"

#ifdef RIFFLE_WITH_CUDA
#include "cuda/device_info.h"
#include "cuda/make_cuda_backend.h"
#endif

namespace riffle {
namespace {

constexpr int kMaxThreads = 1024;

// The N of "cuda:N", 0 of "cuda", -1 of anything else.
int cuda_index(const std::string& device) {
  if (device == "cuda") return 0;
  if (device.rfind("cuda:", 0) != 0) return -1;
  const std::string index = device.substr(5);
  const bool number = !index.empty() && index.size() <= 4 &&
                      std::all_of(index.begin(), index.end(), [](char c) { return c >= '0' && c <= '9'; });
  return number ? std::stoi(index) : -1;
}

void check_names(const DeviceRequest& request) {
  if (request.threads < 0 || request.threads > kMaxThreads)
    fail_usage("--threads is ", request.threads, "; give 1 to ", kMaxThreads, ", or 0 for all CPUs");
  const std::string& device = request.device;
  if (device != "auto" && device != "cpu" && cuda_index(device) < 0) {
    const std::string suggestion = nearest(device, {"auto", "cpu", "cuda", "cuda:0"});
    fail_usage("--device ", device, " is not a device; ",
               suggestion.empty() ? "" : "did you mean '" + suggestion + "'? ",
               "the choices are auto, cpu, cuda and cuda:N");
  }
  const std::vector<std::string>& known = precisions();
  if (std::find(known.begin(), known.end(), request.precision) == known.end())
    fail_usage("precision ", request.precision, " does not exist; the choices are ", format_names(known));
}

#ifdef RIFFLE_WITH_CUDA
std::unique_ptr<Backend> open_cuda(const DeviceRequest& request, int index) {
  CudaOptions options;
  options.device = index;
  options.tf32 = request.precision == "tf32";
  options.dtype = request.precision == "bf16" ? DType::kBF16 : request.precision == "fp16" ? DType::kF16 : DType::kF32;
  options.deterministic = request.deterministic;
  options.cudnn_depthwise = request.cudnn_depthwise;
  return make_cuda_backend(options);
}
#endif

}  // namespace

const std::vector<std::string>& precisions() {
  static const std::vector<std::string> names{"fp32", "tf32", "bf16", "fp16"};
  return names;
}

#ifdef RIFFLE_WITH_CUDA
std::string why_no_cuda() {
  std::string why;
  return cuda_usable(/*device=*/0, &why) ? "" : why;
}

std::string why_no_driver() {
  std::string why;
  return cuda_available(&why) ? "" : why;
}

std::vector<std::string> describe_cuda() {
  const CudaInfo info = cuda_info();
  std::vector<std::string> lines;
  lines.push_back(info.why_not.empty() ? "usable" : "not used: " + info.why_not);
  lines.push_back(join("built with ", info.built_with, ", runtime ", info.runtime, ", driver for CUDA ", info.driver));
  for (size_t i = 0; i < info.gpus.size(); ++i) {
    const GpuInfo& gpu = info.gpus[i];
    lines.push_back(join("cuda:", i, " ", gpu.name, ", compute capability ", gpu.compute_capability, ", ",
                         gpu.multiprocessors, " multiprocessors, memory ",
                         format_bytes(static_cast<double>(gpu.memory_bytes)), ", free ",
                         format_bytes(static_cast<double>(gpu.free_bytes)),
                         gpu.why_not_used.empty() ? "" : "; not used: " + gpu.why_not_used));
  }
  if (!info.gpus.empty())
    lines.push_back(join("cuBLASLt ", info.cublaslt, ", cuDNN ", info.cudnn, ", NVRTC ", info.nvrtc));
  return lines;
}
#else
std::string why_no_cuda() {
  return "this build of riffle has no CUDA backend";
}

std::string why_no_driver() {
  return why_no_cuda();
}

std::vector<std::string> describe_cuda() {
  return {"not used: " + why_no_cuda()};
}
#endif

DeviceChoice make_backend(const DeviceRequest& request) {
  check_names(request);
  DeviceChoice choice;
  choice.threads = request.threads == 0 ? default_cpu_threads() : request.threads;
  // auto must find a GPU that works; what is asked for by name tells its own troubles when it is opened.
  const std::string why_not = request.device == "cpu" ? "" : request.device == "auto" ? why_no_cuda() : why_no_driver();
  const bool cuda = request.device != "cpu" && (request.device != "auto" || why_not.empty());
  choice.reason = request.device == "auto" ? "chosen by auto: " + (cuda ? "a GPU can be used" : why_not) : "as asked";
  if (cuda) {
    if (!why_not.empty()) fail("--device ", request.device, ": ", why_not, "; use --device cpu");
#ifdef RIFFLE_WITH_CUDA
    choice.backend = open_cuda(request, std::max(0, cuda_index(request.device)));
#endif
    return choice;
  }
  const bool bf16 = request.precision == "bf16";
  if (request.precision != "fp32" && !bf16)
    fail_usage("precision ", request.precision, " needs a GPU; the CPU computes in fp32 or bf16",
               why_not.empty() ? "" : " (" + why_not + ")");
  if (request.cudnn_depthwise) fail_usage("--cudnn-depthwise needs a GPU", why_not.empty() ? "" : " (" + why_not + ")");
  choice.backend = make_cpu_backend(choice.threads, /*poison=*/false, bf16 ? Products::kBF16 : Products::kF32);
  return choice;
}

}  // namespace riffle
