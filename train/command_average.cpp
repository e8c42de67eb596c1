// riffle average
#include <CLI/CLI.hpp>
#include <filesystem>
#include <iostream>
#include <memory>

#include "core/check.h"
#include "train/average_checkpoints.h"
#include "train/commands.h"

namespace riffle {
namespace {

const char* const kFooter =
    "Every weight is the mean of the checkpoints' weights, and so is every running statistic of batch norm, which "
    "then\n"
    "only comes near the averaged weights' own: 'riffle recalibrate' estimates those. Network, classes and\n"
    "normalisation must be the same. The rest of the metadata is the last checkpoint's, without its accuracy.\n"
    "Example:\n"
    "  riffle average mean.safetensors runs/{a,b,c}/checkpoints/last.safetensors\n"
    "  riffle recalibrate mean.safetensors -o precise.safetensors";

struct AverageOptions {
  std::string output, weights;
  std::vector<std::string> checkpoints;
  bool force = false;
};

void run_average(const AverageOptions& options) {
  std::error_code ignored;
  if (std::filesystem::exists(options.output, ignored) && !options.force)
    fail(options.output, " exists already; --force replaces it");
  write_safetensors(options.output, average_checkpoints(options.checkpoints, options.weights));
  std::cout << "average     of " << options.checkpoints.size() << " checkpoints: " << options.output << '\n';
}

}  // namespace

void add_average_command(CLI::App& app) {
  auto options = std::make_shared<AverageOptions>();
  CLI::App* command = app.add_subcommand("average", "Average the weights of several checkpoints");
  command->add_option("OUT", options->output, "The checkpoint to write")->required();
  command->add_option("CHECKPOINT", options->checkpoints, "Two or more .safetensors files that riffle wrote")
      ->required();
  command->add_option("--weights", options->weights, "raw or ema of each; by default what the file holds")
      ->check(CLI::IsMember({"raw", "ema"}))
      ->type_name("SET");
  command->add_flag("--force", options->force, "Replace OUT if it exists");
  command->footer(kFooter);
  command->callback([options] { run_average(*options); });
}

}  // namespace riffle
