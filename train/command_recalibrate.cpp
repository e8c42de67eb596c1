// riffle recalibrate
#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>

#include "train/bad_images.h"
#include "train/checkpoint/checkpoint.h"
#include "train/commands.h"
#include "train/config_reader.h"
#include "train/evaluation_data.h"
#include "train/evaluator.h"
#include "train/label_map.h"
#include "train/loaded_model.h"
#include "train/progress.h"
#include "train/recalibration.h"
#include "train/text.h"
#include "train/version.h"
#include "train/whole_number.h"

namespace riffle {
namespace {

constexpr int64_t kDefaultImages = 8192;

const char* const kFooter =
    "The running mean and variance of every batch norm become the means, over whole batches of training images, of "
    "the\n"
    "batches' means and unbiased variances; weights stay as they are. docs/recalibration.md has the details.\n"
    "OUT holds one set of weights, those that --weights names.\n"
    "Examples:\n"
    "  riffle recalibrate runs/a/checkpoints/last.safetensors -o precise.safetensors\n"
    "  riffle recalibrate mean.safetensors --data folder:/data/imagenet --val folder:/data/imagenet --images 50000 \\\n"
    "      --batch 256 --transform eval -o precise.safetensors";

struct RecalibrateOptions {
  std::string checkpoint, output, data, val, weights, transform = "train";
  int64_t images = 0, batches = 0, batch = 64;
  bool force = false;
  DeviceOptions device;
};

// A checkpoint's network as it trains, that is with its batch norms.
struct TrainableModel {
  CheckpointMetadata metadata;
  std::unique_ptr<ShuffleNetV2> network;
};

TrainableModel load(Backend& backend, const std::string& path, const std::string& weights) {
  const StoredNetwork stored = read_network(path, weights);
  TrainableModel model{stored.metadata, std::make_unique<ShuffleNetV2>(backend, stored.metadata.model, /*seed=*/0)};
  import_module(backend, *model.network, stored.tensors, path, stored.architecture);
  return model;
}

int64_t count_batches(const RecalibrateOptions& options, int64_t images) {
  if (options.batches > 0) return options.batches;
  const int64_t wanted = options.images > 0 ? options.images : std::min(images, kDefaultImages);
  if (wanted < options.batch) {
    fail_usage(options.images > 0 ? "--images" : "the training data", " is ", wanted, " images, less than a batch of ",
               options.batch, "; lower --batch");
  }
  return wanted / options.batch;
}

// The images as the network saw them in training, or as it sees them in evaluation.
LoaderOptions loader_options(const RecalibrateOptions& options, const CheckpointMetadata& metadata, int threads) {
  LoaderOptions loader;
  loader.batch = options.batch;
  loader.threads = threads;
  loader.eval_transform = metadata.preprocessing;
  if (options.transform == "eval") return loader;
  if (metadata.config_yaml.empty()) {
    fail_usage(options.checkpoint,
               " does not say how its training images were made, for it was not trained by riffle; "
               "use --transform eval");
  }
  const Config config = parse_config(metadata.config_yaml, options.checkpoint + " (its configuration)", {});
  loader.training = true;
  loader.train_transform = config.train_transform();
  loader.seed = config.train.seed;
  loader.max_bad_images = config.data.max_bad_images;
  return loader;
}

int size_of_images(const LoaderOptions& options) {
  return options.training ? options.train_transform.size : options.eval_transform.crop;
}

// Returns how many images there were.
int64_t estimate(Backend& backend, const RecalibrateOptions& options, const Dataset& data, int threads,
                 TrainableModel& model) {
  const LoaderOptions how = loader_options(options, model.metadata, threads);
  const int64_t batches = count_batches(options, data.size()), images = batches * options.batch;
  if (images > data.size()) {
    fail_usage(options.batches > 0 ? "--batches and --batch" : "--images", " ask for ", images,
               " images, but there are ", data.size(), ": ", data.description());
  }
  const RandomSubset subset(data, images, how.seed);
  Loader loader(subset, how);
  const int size = size_of_images(how);
  NetworkInput input(backend, model.metadata.normalisation, {options.batch, size, size, data.channels()});
  std::cout << "statistics  from " << format_count(batches) << " batches of " << options.batch << ", "
            << (how.training ? "training" : "evaluation") << " transform; " << subset.description() << '\n';
  loader.start_epoch(0);
  recalibrate(backend, *model.network, batches, [&] {
    Batch batch;
    const bool delivered = loader.next(batch);
    RIFFLE_CHECK(delivered, "the images ended before ", batches, " batches of ", options.batch);
    return input.images(batch.images, batch.count);
  });
  for (const std::string& line : describe_bad_images(loader.bad_images(), "skipped")) std::cout << line << '\n';
  for (const std::string& line : TruncatedImageLog(subset).describe(loader.truncated_images()))
    std::cout << line << '\n';
  return images;
}

EvalResult evaluate(Backend& backend, const Dataset& data, TrainableModel& model, int threads, int64_t batch,
                    const std::string& when) {
  const LabelMap labels = match_classes(data.classes(), model.metadata.classes, data.description());
  EvaluatorOptions options;
  options.transform = model.metadata.preprocessing;
  options.normalisation = model.metadata.normalisation;
  options.batch = batch;
  options.loader_threads = threads;
  Evaluator evaluator(backend, data, labels.to_network, options);
  const EvalResult result = evaluator.run(*folded_copy(backend, *model.network), [](int64_t) {});
  std::cout << when << describe(result) << std::endl;
  return result;
}

void save(Backend& backend, const RecalibrateOptions& options, TrainableModel& model, int64_t images,
          const std::optional<EvalResult>& result) {
  CheckpointMetadata& metadata = model.metadata;
  metadata.recalibrated_images = images;
  metadata.riffle_version = kVersion;
  metadata.metrics.reset();  // of other statistics
  if (result) {
    const MetricSums& sums = result->sums;
    metadata.metrics = CheckpointMetadata::Metrics{100 * sums.top1(), 100 * sums.top5(), sums.loss()};
  }
  CheckpointFile file;
  file.metadata = to_json(metadata);
  export_module(backend, *model.network, file.tensors);
  write_safetensors(options.output, file);
  std::cout << "checkpoint  " << options.output << '\n';
}

void run_recalibrate(const RecalibrateOptions& options) {
  std::error_code ignored;
  if (std::filesystem::exists(options.output, ignored) && !options.force)
    fail(options.output, " exists already; --force replaces it");
  const DeviceChoice device = options.device.open(std::cout);
  Backend& backend = *device.backend;
  TrainableModel model = load(backend, options.checkpoint, options.weights);
  const std::unique_ptr<Dataset> data =
      open_evaluation_data(model.metadata, options.checkpoint, {options.data, "train", ""});
  std::unique_ptr<Dataset> val;
  if (!options.val.empty()) val = open_evaluation_data(model.metadata, options.checkpoint, {options.val, "val", ""});
  if (val) evaluate(backend, *val, model, device.threads, options.batch, "before      ");
  const int64_t images = estimate(backend, options, *data, device.threads, model);
  std::optional<EvalResult> result;
  if (val) result = evaluate(backend, *val, model, device.threads, options.batch, "after       ");
  save(backend, options, model, images, result);
}

}  // namespace

void add_recalibrate_command(CLI::App& app) {
  auto options = std::make_shared<RecalibrateOptions>();
  CLI::App* command =
      app.add_subcommand("recalibrate", "Estimate batch norm's statistics anew, from training images (precise BN)");
  command->add_option("CHECKPOINT", options->checkpoint, "A .safetensors file that riffle wrote")->required();
  command->add_option("-o,--output", options->output, "The checkpoint to write")->required()->type_name("OUT");
  command->add_option("--data", options->data, "Training images, as data.source; by default what it was trained with")
      ->type_name("SPEC");
  command->add_option("--val", options->val, "Validation images: measure before and after")->type_name("SPEC");
  CLI::Option* images =
      command->add_option("--images", options->images, "How many images; by default 8192, or all if there are fewer")
          ->check(whole_number(1, 1 << 30))
          ->type_name("N");
  command->add_option("--batches", options->batches, "How many batches, instead of --images")
      ->check(whole_number(1, 1 << 30))
      ->type_name("N")
      ->excludes(images);
  command->add_option("--batch", options->batch, "Images a batch; best what training used")
      ->check(whole_number(2, 1 << 20))
      ->capture_default_str();
  command->add_option("--transform", options->transform, "train: images as in training; eval: as in evaluation")
      ->check(CLI::IsMember({"train", "eval"}))
      ->capture_default_str()
      ->type_name("KIND");
  command->add_option("--weights", options->weights, "raw or ema, the moving average; by default what the file holds")
      ->check(CLI::IsMember({"raw", "ema"}))
      ->type_name("SET");
  command->add_flag("--force", options->force, "Replace OUT if it exists");
  options->device.add_to(*command);
  options->device.add_precision_to(*command);
  command->footer(kFooter);
  command->callback([options] { run_recalibrate(*options); });
}

}  // namespace riffle
