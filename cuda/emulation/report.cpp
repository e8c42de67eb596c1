#include "cuda/emulation/report.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <map>

#include "cuda/emulation/block.h"

namespace riffle::emulation {
namespace {

constexpr int kPrinted = 4, kKept = 16;

std::map<std::string, int>& counts() {
  static std::map<std::string, int> by_kind;
  return by_kind;
}

cudaError_t kernel_status = cudaSuccess, call_status = cudaSuccess;

std::vector<Report>& kept() {
  static std::vector<Report> reports;
  return reports;
}

void note(const char* kind, const char* format, va_list arguments) {
  ++counts()[kind];
  const int count = report_count();
  if (count > kKept) return;
  char text[640];
  std::vsnprintf(text, sizeof text, format, arguments);  // NOLINT: clang-tidy 14 takes `arguments` for unset
  const std::string full = text + running_thread();
  kept().push_back({kind, full});
  if (options().print && count <= kPrinted) std::fprintf(stderr, "[emulation] %s: %s\n", kind, full.c_str());
}

[[noreturn]] void reject_variable(const char* name, const char* value, const char* accepted) {
  std::fprintf(stderr, "[emulation] %s=%s is not understood; %s are\n", name, value, accepted);
  std::abort();
}

Options read_environment() {
  Options read;
  if (const char* threads = std::getenv("RIFFLE_EMULATION_THREADS")) {
    const std::string value = threads;
    if (value == "forward")
      read.threads = ThreadOrder::kForward;
    else if (value == "reverse")
      read.threads = ThreadOrder::kReverse;
    else if (value == "random")
      read.threads = ThreadOrder::kRandom;
    else
      reject_variable("RIFFLE_EMULATION_THREADS", threads, "forward, reverse and random");
  }
  if (const char* work = std::getenv("RIFFLE_EMULATION_WORK")) {
    const std::string value = work;
    if (value == "eager")
      read.work = WorkOrder::kEager;
    else if (value == "late")
      read.work = WorkOrder::kLate;
    else if (value == "reversed")
      read.work = WorkOrder::kReversed;
    else if (value == "random")
      read.work = WorkOrder::kRandom;
    else
      reject_variable("RIFFLE_EMULATION_WORK", work, "eager, late, reversed and random");
  }
  if (const char* capture = std::getenv("RIFFLE_EMULATION_CAPTURE")) {
    const std::string value = capture;
    if (value != "yes" && value != "no") reject_variable("RIFFLE_EMULATION_CAPTURE", capture, "yes and no");
    read.captures = value == "yes";
  }
  if (const char* seed = std::getenv("RIFFLE_EMULATION_SEED")) {
    char* end = nullptr;
    read.seed = static_cast<unsigned>(std::strtoul(seed, &end, 10));
    if (end == seed || *end != '\0') reject_variable("RIFFLE_EMULATION_SEED", seed, "whole numbers");
  }
  return read;
}

}  // namespace

Options& options() {
  static Options options = read_environment();
  return options;
}

int report_count() {
  int count = 0;
  for (const auto& kind : counts()) count += kind.second;
  return count;
}

int report_count(const std::string& kind) {
  const auto found = counts().find(kind);
  return found == counts().end() ? 0 : found->second;
}

const std::vector<Report>& first_reports() {
  return kept();
}

void clear_reports() {
  counts().clear();
  kept().clear();
  kernel_status = call_status = cudaSuccess;
}

void report(const char* kind, const char* format, ...) {
  kernel_status = cudaErrorLaunchFailure;
  va_list arguments;
  va_start(arguments, format);
  note(kind, format, arguments);
  va_end(arguments);
}

void report_refused(const char* kind, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  note(kind, format, arguments);
  va_end(arguments);
}

cudaError_t refuse(cudaError_t status) {
  return call_status = status;
}

cudaError_t last_error(bool forget) {
  const cudaError_t status = kernel_status != cudaSuccess ? kernel_status : call_status;
  if (forget) kernel_status = call_status = cudaSuccess;
  return status;
}

cudaError_t kernel_error() {
  return kernel_status;
}

bool is_check_build() {
#ifdef RIFFLE_EMULATION_CHECK
  return true;
#else
  return false;
#endif
}

}  // namespace riffle::emulation
