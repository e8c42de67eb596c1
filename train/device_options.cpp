// --device and --threads.
#include "train/commands.h"
#include "train/whole_number.h"

namespace riffle {

void DeviceOptions::add_to(CLI::App& command) {
  command.add_option("--device", request.device, "auto, cpu, cuda or cuda:N; auto takes a GPU where one can be used")
      ->capture_default_str();
  command
      .add_option("--threads", request.threads,
                  "CPU threads; 0: OMP_NUM_THREADS, or every CPU. Results do not depend on it")
      ->check(whole_number(0, 1024))
      ->capture_default_str();
}

void DeviceOptions::add_precision_to(CLI::App& command) {
  command
      .add_option("--precision", request.precision,
                  "fp32; on a GPU also tf32, bf16 and fp16, on a CPU with AVX512-BF16 also bf16: the arithmetic")
      ->capture_default_str();
}

DeviceChoice DeviceOptions::open(std::ostream& log) const {
  DeviceChoice choice = make_backend(request);
  log << "device      " << choice.backend->description() << " (" << choice.reason << ")\n";
  return choice;
}

}  // namespace riffle
