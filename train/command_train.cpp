// riffle train
#include <yaml-cpp/yaml.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <iostream>
#include <memory>

#include "train/commands.h"
#include "train/config_reader.h"
#include "train/config_values.h"
#include "train/environment.h"
#include "train/initial_weights.h"
#include "train/text.h"
#include "train/trainer.h"

namespace riffle {
namespace {

constexpr int64_t kDryRunSteps = 2;

const char* const kFooter =
    "RUN_DIR receives config.resolved.yaml, metrics.jsonl (one JSON object a log line or evaluation; top1 and top5 "
    "are\n"
    "fractions from 0 to 1), curves.svg and checkpoints/{last,best}.safetensors.\n"
    "Examples:\n"
    "  riffle train configs/fashion_mnist.yaml\n"
    "  riffle train configs/imagenet.yaml -o runs/a data.source=folder:/data/imagenet train.batch=128\n"
    "  riffle train configs/finetune_imagefolder.yaml --init best.safetensors --reset-head data.source=folder:photos\n"
    "  riffle train configs/imagenet.yaml --dry-run        checks everything, takes two steps, writes nothing";

struct TrainOptions {
  std::string config;
  std::vector<std::string> overrides;
  std::string output;
  std::string seed;
  std::string init, init_weights;
  bool reset_head = false;
  bool dry_run = false;
  bool overwrite = false;
  DeviceOptions device;
};

// One line a section, as YAML still.
void print_config(const std::string& yaml) {
  std::cout << "configuration\n";
  for (const auto& section : YAML::Load(yaml)) {
    YAML::Node values = section.second;
    values.SetStyle(YAML::EmitterStyle::Flow);
    std::cout << "  " << section.first.as<std::string>() << ": " << values << '\n';
  }
}

RunConfig resolve_config(const TrainOptions& options) {
  std::vector<std::string> overrides = options.overrides;
  for (const std::string& word : overrides) {
    if (word.find('=') == std::string::npos) {
      fail_usage("'", word, "' is not an override; expected key.path=value, such as schedule.lr=0.1");
    }
  }
  if (!options.seed.empty()) overrides.push_back("train.seed=" + options.seed);
  if (!options.init.empty()) overrides.push_back("init.checkpoint=" + value_text(options.init));
  if (!options.init_weights.empty()) overrides.push_back("init.weights=" + options.init_weights);
  if (options.reset_head) overrides.emplace_back("init.reset_head=true");
  return resolve_run(read_sourced_config(options.config, overrides));
}

void dry_run(Trainer& trainer, const std::string& output) {
  const int64_t steps = std::min(kDryRunSteps, trainer.total_steps());
  const double seconds = trainer.try_steps(steps);
  const double images_per_s = static_cast<double>(trainer.images_per_step()) / seconds;
  std::cout << "dry run     " << steps << (steps == 1 ? " step" : " steps") << " taken, the last at "
            << format_fixed(images_per_s, 0) << " images/s: training would take about "
            << format_duration(seconds * static_cast<double>(trainer.total_steps())) << " besides evaluation\n"
            << "            a run would write to " << output << "; nothing was written\n";
}

void run_train(const TrainOptions& options, const std::string& git_commit) {
  const RunConfig run = resolve_config(options);
  const Config& config = run.config;
  DeviceOptions device_options = options.device;
  device_options.request.precision = config.train.precision;
  device_options.request.deterministic = config.train.deterministic;
  const std::string output = options.output.empty() ? default_run_folder(options.config) : options.output;
  RunFolder::check(output, options.overwrite);
  const std::string yaml = to_yaml(config);
  print_config(yaml);
  const DeviceChoice device = device_options.open(std::cout);
  const TrainData data = open_train_data(config);
  Progress progress = Progress::for_standard_output();
  Trainer trainer(*device.backend, config, data, device.threads, progress, run.initial ? &*run.initial : nullptr);
  for (const std::string& line : trainer.plan()) progress.line(line);
  for (const std::string& warning : run.warnings) progress.line("warning: " + warning);
  if (options.dry_run) {
    dry_run(trainer, output);
    return;
  }
  const RunFolder folder(output, options.overwrite);
  write_text_file(folder.config(), yaml);
  write_environment(folder.environment(), describe_environment(device, git_commit));
  progress.line("run folder  " + folder.path());
  trainer.run(folder);
  progress.line("checkpoint  " + folder.checkpoint("best") + " (and last.safetensors beside it)");
  progress.line("log         " + folder.metrics());
  progress.line("curves      " + folder.curves());
}

}  // namespace

void add_train_command(CLI::App& app, const std::string& git_commit) {
  auto options = std::make_shared<TrainOptions>();
  CLI::App* command = app.add_subcommand("train", "Train a network from a YAML configuration");
  command->add_option("CONFIG", options->config, "The configuration, a YAML file")->required();
  command->add_option("OVERRIDES", options->overrides, "key.path=value: replaces a value of the configuration");
  command->add_option("-o,--output", options->output, "The run folder; runs/<configuration>-<time> by default")
      ->type_name("RUN_DIR");
  command
      ->add_option("--init", options->init,
                   "Begin with the weights of a checkpoint (init.checkpoint); what the configuration leaves open, the "
                   "network among it, is the checkpoint's")
      ->type_name("CHECKPOINT");
  command->add_option("--init-weights", options->init_weights, "raw or ema: which of its weights (init.weights)")
      ->type_name("KIND")
      ->check(CLI::IsMember({"raw", "ema"}));
  command->add_flag("--reset-head", options->reset_head, "With a new classifier, for other classes (init.reset_head)");
  command->add_option("--seed", options->seed, "The same as train.seed=N")->type_name("N");
  command->add_flag("--dry-run", options->dry_run, "Check everything and take two steps, but write nothing");
  command->add_flag("--overwrite", options->overwrite, "Replace an earlier run in RUN_DIR");
  options->device.add_to(*command);
  command->footer(kFooter);
  command->callback([options, git_commit] { run_train(*options, git_commit); });
}

}  // namespace riffle
