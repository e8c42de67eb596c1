// Backend choice.
#include "train/make_backend.h"

#include <algorithm>

#include "core/cpu/cpu_backend.h"
#include "train/config_reader.h"

namespace riffle {
namespace {

constexpr int kMaxThreads = 1024;

bool names_cuda(const std::string& device) {
  if (device == "cuda") return true;
  if (device.rfind("cuda:", 0) != 0) return false;
  const std::string index = device.substr(5);
  return !index.empty() && index.size() <= 4 &&
         std::all_of(index.begin(), index.end(), [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace

std::string why_no_cuda() {
  return "this build of riffle has no CUDA backend";
}

DeviceChoice make_backend(const std::string& device, int threads) {
  if (threads < 0 || threads > kMaxThreads) {
    fail_usage("--threads is ", threads, "; give 1 to ", kMaxThreads, ", or 0 for all CPUs");
  }
  if (names_cuda(device)) fail("--device ", device, ": ", why_no_cuda(), "; use --device cpu");
  if (device != "auto" && device != "cpu") {
    const std::string suggestion = nearest(device, {"auto", "cpu", "cuda", "cuda:0"});
    fail_usage("--device ", device, " is not a device; ",
               suggestion.empty() ? "" : "did you mean '" + suggestion + "'? ",
               "the choices are auto, cpu, cuda and cuda:N");
  }
  DeviceChoice choice;
  choice.threads = threads == 0 ? default_cpu_threads() : threads;
  choice.reason = device == "cpu" ? "as asked" : "chosen by auto: " + why_no_cuda();
  choice.backend = make_cpu_backend(choice.threads);
  return choice;
}

}  // namespace riffle
