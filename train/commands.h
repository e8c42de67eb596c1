// The subcommands, one file each. Every add_*_command() describes its options to CLI11 and what to run.
#pragma once

#include <ostream>
#include <string>

#include "train/make_backend.h"

namespace CLI {
class App;
}

namespace riffle {

void add_train_command(CLI::App& app, const std::string& git_commit);
void add_eval_command(CLI::App& app);
void add_predict_command(CLI::App& app);
void add_convert_command(CLI::App& app);
void add_inspect_command(CLI::App& app);
void add_bench_command(CLI::App& app);
void add_devices_command(CLI::App& app);
void add_recalibrate_command(CLI::App& app);
void add_average_command(CLI::App& app);
void add_data_command(CLI::App& app);
void add_data_show_command(CLI::App& data);  // below `riffle data`

// --device and --threads, which every computing subcommand has; --precision where no configuration says it.
struct DeviceOptions {
  DeviceRequest request;

  void add_to(CLI::App& command);
  void add_precision_to(CLI::App& command);
  // Opens the device and says on `log` which one it is and why.
  DeviceChoice open(std::ostream& log) const;
};

}  // namespace riffle
