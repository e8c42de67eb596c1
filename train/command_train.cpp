// riffle train
#include <unistd.h>
#include <yaml-cpp/yaml.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>

#include "train/commands.h"
#include "train/config_reader.h"
#include "train/config_values.h"
#include "train/dry_run.h"
#include "train/environment.h"
#include "train/initial_weights.h"
#include "train/resume.h"
#include "train/stop_signals.h"
#include "train/terminal.h"
#include "train/text.h"
#include "train/trainer.h"

namespace riffle {
namespace {

constexpr int64_t kDryRunSteps = 2;

const char* const kFooter =
    "RUN_DIR receives checkpoints/{last,best,step-*}.safetensors, config.resolved.yaml, environment.json, "
    "metrics.jsonl and\n"
    "metrics.csv (a record for each log line and evaluation; top1 and top5 are fractions from 0 to 1), curves.svg,\n"
    "samples.png, filters.png, and an event file for TensorBoard.\n"
    "SIGINT (Ctrl-C), SIGTERM, SIGUSR1 and SIGHUP end a run after its step, saved, with exit code 75; a second SIGINT\n"
    "ends it at once, with 130. --resume goes on bit for bit as if nothing had happened.\n"
    "Examples:\n"
    "  riffle train configs/fashion_mnist.yaml\n"
    "  riffle train configs/imagenet.yaml -o runs/a data.source=folder:/data/imagenet train.batch=128\n"
    "  riffle train configs/finetune_imagefolder.yaml --init best.safetensors --reset-head data.source=folder:photos\n"
    "  riffle train configs/imagenet.yaml -o runs/a --resume auto  the same command starts it and goes on with it\n"
    "  riffle train --resume runs/a\n"
    "  riffle train configs/imagenet.yaml --dry-run        checks everything, takes two steps, and says what memory "
    "and\n"
    "                                                      time the run would take; writes nothing";

struct TrainOptions {
  std::string config;
  std::vector<std::string> overrides;
  std::string output;
  std::string seed;
  std::string init, init_weights;
  bool reset_head = false;
  bool dry_run = false;
  bool overwrite = false;
  std::string resume;
  bool allow_config_change = false;
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

std::vector<std::string> all_overrides(const TrainOptions& options) {
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
  return overrides;
}

// Where the run writes, and what it goes on from.
struct Start {
  std::string folder;
  std::optional<ResumePoint> point;
  bool continues_folder = false;  // else it must be empty, or --overwrite given
  std::vector<std::string> warnings;
};

void check_resume_options(const TrainOptions& options) {
  if (options.resume.empty()) {
    if (options.config.empty()) fail_usage("CONFIG is required. See 'riffle train --help'");
    if (options.allow_config_change) fail_usage("--allow-config-change goes with --resume");
    return;
  }
  if (!options.init.empty() || !options.init_weights.empty() || options.reset_head)
    fail_usage("--resume goes on with the weights of the run, so --init, --init-weights and --reset-head cannot be ",
               "given with it; what a fresh start of --resume auto begins with is init.checkpoint=CHECKPOINT");
  if (options.overwrite)
    fail_usage("--resume goes on with a run, and --overwrite would replace it; expected one of them");
  if (options.dry_run) fail_usage("--dry-run takes the first steps of a run, so --resume cannot be given with it");
  if (options.resume == "auto" && options.output.empty())
    fail_usage("--resume auto looks into the run folder; name it: -o RUN_DIR");
}

bool is_same_folder(const std::string& a, const std::string& b) {
  std::error_code ignored;
  return std::filesystem::weakly_canonical(a, ignored) == std::filesystem::weakly_canonical(b, ignored);
}

// Of a run, perhaps one that was killed before it had written its configuration.
bool is_run_folder(const std::string& folder) {
  if (std::filesystem::exists(folder + "/config.resolved.yaml")) return true;
  if (!std::filesystem::is_directory(folder)) return false;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name != "checkpoints" && name.rfind("config.resolved.yaml.tmp-", 0) != 0) return false;
  }
  return true;
}

// --resume auto, or a run folder.
Start resume_folder(const TrainOptions& options, const std::string& folder) {
  Start start{folder, std::nullopt, true, {}};
  start.point = find_resume_point(folder, start.warnings);
  if (start.point) return start;
  if (options.resume != "auto")
    fail("no checkpoint in ", folder, "/checkpoints to go on from; expected step-*.safetensors");
  if (options.config.empty()) fail_usage("no checkpoint in ", folder, " yet, so CONFIG is required for a fresh start");
  start.continues_folder = is_run_folder(folder);
  return start;
}

Start find_start(const TrainOptions& options) {
  if (options.resume.empty())
    return {options.output.empty() ? default_run_folder(options.config) : options.output, std::nullopt, false, {}};
  if (options.resume == "auto") return resume_folder(options, options.output);
  if (std::filesystem::is_directory(options.resume)) {
    if (!options.output.empty() && !is_same_folder(options.output, options.resume))
      fail_usage("--resume and -o name two run folders; to go on elsewhere, give --resume a checkpoint file");
    return resume_folder(options, options.resume);
  }
  const std::filesystem::path checkpoints = std::filesystem::absolute(options.resume).parent_path();
  const bool in_a_run = checkpoints.filename() == "checkpoints";
  if (options.output.empty() && !in_a_run) fail_usage("where shall the run be written? Name its folder: -o RUN_DIR");
  const std::string own = checkpoints.parent_path().string();
  Start start{options.output.empty() ? own : options.output, read_resume_point(options.resume), false, {}};
  start.continues_folder = in_a_run && is_same_folder(start.folder, own);
  return start;
}

// Without CONFIG a run goes on with its own.
RunConfig resolve_config(const TrainOptions& options, const Start& start) {
  if (options.config.empty())
    return {checked(parse_sourced_config(start.point->config_yaml, start.point->path, all_overrides(options))),
            std::nullopt,
            {}};
  return resolve_run(read_sourced_config(options.config, all_overrides(options)));
}

void dry_run(Trainer& trainer, const Config& config, const std::string& output) {
  const Trial trial = trainer.try_out(std::min(kDryRunSteps, trainer.last_step()));
  const RunLength length{trainer.last_step(), trainer.steps_per_epoch()};
  for (const std::string& line : describe_trial(trial, config, trainer.learning_rate(), length,
                                                terminal_columns(STDOUT_FILENO), locale_is_utf8()))
    std::cout << line << '\n';
  std::cout << "            a run would write to " << output << "; nothing was written\n";
}

// Throws ExitRequest where a signal ended it.
void train(Trainer& trainer, const RunFolder& folder, Progress& progress) {
  const StopSignals signals;
  if (!trainer.run(folder, StopSignals::received)) {
    if (trainer.finished_steps() == 0) {
      progress.line(join("stopped     by ", StopSignals::name(), " before the first step"));
      throw ExitRequest{kStoppedExitCode};
    }
    progress.line(join("stopped     by ", StopSignals::name(), " after step ", trainer.finished_steps(), " of ",
                       trainer.last_step(), ", saved; to go on: riffle train --resume ", folder.path()));
    throw ExitRequest{kStoppedExitCode};
  }
  progress.line("checkpoint  " + folder.checkpoint("best") + " (and last.safetensors beside it)");
  progress.line("log         " + folder.metrics());
  progress.line("curves      " + folder.curves());
}

// Says what it goes on from; false if that was the end.
bool resume(const TrainOptions& options, const Start& start, const Config& config, const std::string& device,
            Trainer& trainer, Progress& progress) {
  if (options.resume == "auto" && !start.point) progress.line("resume      no checkpoint yet: a fresh start");
  if (!start.point) return true;
  for (const std::string& line : check_config_changes(*start.point, config, options.allow_config_change))
    progress.line("changed     " + line);
  if (const std::string note = device_note(*start.point, device); !note.empty()) progress.line("note: " + note);
  trainer.resume(start.point->file, start.point->path, options.allow_config_change);
  if (!trainer.finished() || trainer.recalibration_is_due(start.folder)) return true;
  progress.line(join("finished    the run in ", start.folder, " ", trainer.describe_finished()));
  return false;
}

void run_train(TrainOptions options, const std::string& git_commit) {
  // `riffle train --resume RUN_DIR key=value`: no configuration.
  if (!options.resume.empty() && options.config.find('=') != std::string::npos) {
    options.overrides.insert(options.overrides.begin(), options.config);
    options.config.clear();
  }
  check_resume_options(options);
  const Start start = find_start(options);
  const RunConfig run = resolve_config(options, start);
  const Config& config = run.config;
  DeviceOptions device_options = options.device;
  device_options.request.precision = config.train.precision;
  device_options.request.deterministic = config.train.deterministic;
  RunFolder::check(start.folder, options.overwrite || start.continues_folder);
  const std::string yaml = to_yaml(config);
  print_config(yaml);
  const DeviceChoice device = device_options.open(std::cout);
  const TrainData data = open_train_data(config);
  Progress progress = Progress::for_standard_output();
  const InitialWeights* initial = run.initial && !start.point ? &*run.initial : nullptr;
  Trainer trainer(*device.backend, config, data, device.threads, progress, initial);
  for (const std::string& warning : start.warnings) progress.line("warning: " + warning);
  if (!resume(options, start, config, device.backend->description(), trainer, progress)) return;
  for (const std::string& line : trainer.plan()) progress.line(line);
  for (const std::string& warning : run.warnings) progress.line("warning: " + warning);
  if (options.dry_run) {
    dry_run(trainer, config, start.folder);
    return;
  }
  const RunFolder folder =
      start.continues_folder ? RunFolder::reopen(start.folder) : RunFolder(start.folder, options.overwrite);
  write_text_file(folder.config(), yaml);
  write_environment(folder.environment(), describe_environment(device, git_commit));
  progress.line("run folder  " + folder.path());
  train(trainer, folder, progress);
}

}  // namespace

void add_train_command(CLI::App& app, const std::string& git_commit) {
  auto options = std::make_shared<TrainOptions>();
  CLI::App* command = app.add_subcommand("train", "Train a network from a YAML configuration");
  command->add_option("CONFIG", options->config,
                      "The configuration, a YAML file; with --resume the run's own where it is left out");
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
  command
      ->add_option(
          "--resume", options->resume,
          "Go on with a run, exactly: auto (the newest whole checkpoint in RUN_DIR, or a fresh start where there "
          "is none), a run folder, or a step-*.safetensors")
      ->type_name("auto|PATH");
  command->add_flag("--allow-config-change", options->allow_config_change,
                    "With --resume: accept a configuration that changes training");
  options->device.add_to(*command);
  command->footer(kFooter);
  command->callback([options, git_commit] { run_train(*options, git_commit); });
}

}  // namespace riffle
