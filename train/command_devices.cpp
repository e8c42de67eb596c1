// riffle devices
#include <sys/sysinfo.h>

#include <CLI/CLI.hpp>
#include <iostream>

#include "core/cpu/cpu_backend.h"
#include "train/commands.h"
#include "train/text.h"
#include "train/version.h"

namespace riffle {
namespace {

void run_devices() {
  struct sysinfo memory {};
  if (sysinfo(&memory) != 0) fail("cannot ask the system for its memory");
  const double unit = memory.mem_unit;
  std::cout << "riffle  " << kVersion << '\n'
            << "cpu     " << cpu_model() << '\n'
            << "        instruction set " << cpu_isa() << ", " << default_cpu_threads()
            << " threads by default, oneDNN " << one_dnn_version() << '\n'
            << "        memory " << format_bytes(static_cast<double>(memory.totalram) * unit) << ", free "
            << format_bytes(static_cast<double>(memory.freeram + memory.bufferram) * unit) << '\n'
            << "cuda    not used: " << why_no_cuda() << '\n'
            << "auto    " << make_backend("auto", 0).backend->description() << '\n';
}

}  // namespace

void add_devices_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("devices", "Show what this build and this machine can compute on, and why");
  command->callback([] { run_devices(); });
}

}  // namespace riffle
