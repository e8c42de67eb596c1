// --device and --threads.
#include <CLI/CLI.hpp>

#include "train/commands.h"

namespace riffle {

void DeviceOptions::add_to(CLI::App& command) {
  command.add_option("--device", device, "auto, cpu, cuda or cuda:N; auto takes a GPU where one can be used")
      ->capture_default_str();
  command
      .add_option("--threads", threads, "CPU threads; 0: OMP_NUM_THREADS, or every CPU. Results do not depend on it")
      ->capture_default_str();
}

DeviceChoice DeviceOptions::open(std::ostream& log) const {
  DeviceChoice choice = make_backend(device, threads);
  log << "device      " << choice.backend->description() << " (" << choice.reason << ")\n";
  return choice;
}

}  // namespace riffle
