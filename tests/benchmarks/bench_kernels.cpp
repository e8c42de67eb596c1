// Achieved GB/s of the operations of a training step, beside a copy within the device. Linked with the CUDA backend
// (bench_cuda_kernels) and, to know that it works, with the emulated one (bench_emulated_kernels), whose times mean
// nothing. Whole steps: `riffle bench`.
#include <CLI/CLI.hpp>
#include <iomanip>
#include <iostream>
#include <nlohmann/json.hpp>

#include "tests/benchmarks/kernel_cases.h"
#include "train/make_backend.h"

namespace riffle {
namespace {

struct Options {
  DeviceRequest device;
  KernelCases cases;
  KernelTimerOptions timer;
  bool json = false;
};

void print_json(const KernelTiming& timing, const Options& options, double copy) {
  const Shape& s = timing.shape;
  const nlohmann::json line{{"operation", timing.operation},
                            {"shape", {s.n, s.h, s.w, s.c}},
                            {"precision", options.device.precision},
                            {"cudnn_depthwise", options.device.cudnn_depthwise},
                            {"bytes", timing.bytes},
                            {"microseconds", 1e6 * timing.seconds},
                            {"gb_per_s", timing.gb_per_s},
                            {"of_copy", timing.gb_per_s / copy}};
  std::cout << line.dump() << '\n';
}

void print_row(const KernelTiming& timing, double copy) {
  std::cout << std::left << std::setw(38) << timing.operation << std::setw(18) << join(timing.shape) << std::right
            << std::fixed << std::setprecision(1) << std::setw(10) << 1e6 * timing.seconds << " us" << std::setw(9)
            << timing.gb_per_s << " GB/s" << std::setprecision(2) << std::setw(7) << timing.gb_per_s / copy
            << " of copy\n";
}

void run(const Options& options) {
  const DeviceChoice device = make_backend(options.device);
  (options.json ? std::cerr : std::cout) << device.backend->description() << '\n';
  KernelTimer copy_timer(*device.backend, {options.timer.seconds_a_repeat, options.timer.repeats, ""});
  time_device_copy(*device.backend, options.cases, copy_timer);
  KernelTimer timer(*device.backend, options.timer);
  time_own_kernels(*device.backend, options.cases, timer);
  time_library_kernels(*device.backend, options.cases, timer);
  const double copy = copy_timer.timings().front().gb_per_s;
  for (const KernelTimer* timings : {&copy_timer, &timer})
    for (const KernelTiming& timing : timings->timings())
      options.json ? print_json(timing, options, copy) : print_row(timing, copy);
}

}  // namespace
}  // namespace riffle

int main(int argc, char** argv) {
  riffle::Options options;
  options.device.device = "cuda";
  CLI::App app("Achieved GB/s of the operations of a training step of ShuffleNetV2 1.0x");
  app.add_option("--device", options.device.device, "cuda, cuda:N or cpu")->capture_default_str();
  app.add_option("--precision", options.device.precision, "fp32, tf32, bf16 or fp16")->capture_default_str();
  app.add_option("--batch", options.cases.batch, "Images; at 1024 the tensors are larger than a GPU's caches")
      ->check(CLI::Range(1, 1 << 16))
      ->capture_default_str();
  app.add_option("--size", options.cases.size, "Height and width of the images, a multiple of 32")
      ->check(CLI::IsMember({32, 64, 96, 128, 160, 192, 224}))
      ->capture_default_str();
  app.add_option("--seconds", options.timer.seconds_a_repeat, "Of one repeat")->capture_default_str();
  app.add_option("--repeats", options.timer.repeats, "The median counts")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_option("--only", options.timer.only, "Operations whose names begin so, such as depthwise; all by default");
  app.add_flag("--cudnn-depthwise", options.device.cudnn_depthwise, "Depthwise convolutions by cuDNN, to compare them");
  app.add_flag("--json", options.json, "One line of JSON an operation");
  CLI11_PARSE(app, argc, argv);
  try {
    riffle::run(options);
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << '\n';
    return 1;
  }
}
