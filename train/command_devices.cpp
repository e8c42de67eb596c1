// riffle devices
#include <CLI/CLI.hpp>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <memory>

#include "core/cpu/cpu_backend.h"
#include "train/commands.h"
#include "train/text.h"
#include "train/version.h"

namespace riffle {
namespace {

const char* const kFooter =
    "Available memory is what programs can get without swapping, caches of files included.\n"
    "Examples:\n"
    "  riffle devices\n"
    "  riffle devices --device cuda:1";

// A line of /proc/meminfo, "MemAvailable:  123 kB", in bytes.
double memory_bytes(const std::string& name) {
  std::ifstream file("/proc/meminfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(name + ":", 0) == 0) return 1024 * std::strtod(line.c_str() + name.size() + 1, nullptr);
  }
  fail("/proc/meminfo has no line ", name, "; cannot tell how much memory there is");
}

// Opens what was asked for before it prints, so that a device that cannot be had is an error and nothing else.
void run_devices(const DeviceOptions& options) {
  const DeviceChoice choice = make_backend(options.request);
  std::cout << "riffle  " << kVersion << '\n'
            << "cpu     " << cpu_model() << '\n'
            << "        instruction set " << cpu_isa() << ", " << default_cpu_threads() << " threads by default, "
            << (cpu_has_bf16() ? "fp32 and bf16" : "fp32") << ", oneDNN " << one_dnn_version() << '\n'
            << "        memory " << format_bytes(memory_bytes("MemTotal")) << ", available "
            << format_bytes(memory_bytes("MemAvailable")) << '\n';
  const char* title = "cuda    ";
  for (const std::string& line : describe_cuda()) {
    std::cout << title << line << '\n';
    title = "        ";
  }
  std::cout << (options.request.device == "auto" ? "auto    " : "asked   ") << choice.backend->description() << '\n';
}

}  // namespace

void add_devices_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("devices", "Show what this build and this machine can compute on, and why");
  auto options = std::make_shared<DeviceOptions>();
  options->add_to(*command);
  command->footer(kFooter);
  command->callback([options] { run_devices(*options); });
}

}  // namespace riffle
