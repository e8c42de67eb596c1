// riffle eval
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "train/commands.h"
#include "train/evaluation_data.h"
#include "train/evaluator.h"
#include "train/label_map.h"
#include "train/loaded_model.h"
#include "train/preprocessing_options.h"
#include "train/progress.h"
#include "train/run_folder.h"
#include "train/whole_number.h"

namespace riffle {
namespace {

const char* const kFooter =
    "Every image of the data is used exactly once, with the checkpoint's own preprocessing unless options say\n"
    "otherwise. Labels are matched by class name; the data may have fewer classes than the network.\n"
    "JSON keys: images, top1_correct, top5_correct, top1, top5 (fractions from 0 to 1), loss (mean cross-entropy),\n"
    "images_per_s, device, weights (\"raw\" or \"ema\"), preprocessing (what was used).\n"
    "Examples:\n"
    "  riffle eval runs/a/checkpoints/best.safetensors                    on the data it was trained with\n"
    "  riffle eval best.safetensors --data folder:/data/imagenet --json -";

struct EvalOptions {
  std::string checkpoint, weights, json;
  EvaluationSource data;
  int64_t batch = 64;
  PreprocessingOptions preprocessing;
  DeviceOptions device;
};

nlohmann::json to_json(const EvalResult& result, const std::string& device, const CheckpointMetadata& metadata) {
  const MetricSums& sums = result.sums;
  return {{"images", sums.images},
          {"top1", sums.top1()},
          {"top5", sums.top5()},
          {"top1_correct", sums.top1_correct},
          {"top5_correct", sums.top5_correct},
          {"loss", sums.loss()},
          {"images_per_s", result.images_per_s()},
          {"device", device},
          {"weights", metadata.averaged ? "ema" : "raw"},
          {"preprocessing", to_json(metadata.preprocessing)}};
}

void run_eval(const EvalOptions& options) {
  // With the JSON on standard output, nothing else may be there.
  const bool json_to_output = options.json == "-";
  std::ostream& log = json_to_output ? std::cerr : std::cout;
  if (!options.json.empty() && !json_to_output) check_text_file(options.json);
  const DeviceChoice device = options.device.open(log);
  LoadedModel model = load_for_inference(*device.backend, options.checkpoint, options.weights);
  model.metadata.preprocessing = options.preprocessing.override_of(model.metadata.preprocessing, model.path);
  const std::unique_ptr<Dataset> data = open_evaluation_data(model.metadata, model.path, options.data);
  const LabelMap labels = match_classes(data->classes(), model.metadata.classes, data->description());
  if (!options.weights.empty()) log << "weights     " << options.weights << '\n';
  log << "data        " << data->description() << '\n';
  if (!labels.identity()) log << "            " << labels.note << '\n';

  EvaluatorOptions evaluation;
  evaluation.transform = model.metadata.preprocessing;
  evaluation.normalisation = model.metadata.normalisation;
  evaluation.batch = options.batch;
  evaluation.loader_threads = device.threads;
  Evaluator evaluator(*device.backend, *data, labels.to_network, evaluation);
  Progress progress = json_to_output ? Progress::for_standard_error() : Progress::for_standard_output();
  const EvalResult result = evaluator.run(
      *model.network, [&](int64_t images) { progress.evaluation("evaluating", images, evaluator.images()); });
  progress.line("result      " + describe(result));

  if (options.json.empty()) return;
  const std::string text = to_json(result, device.backend->description(), model.metadata).dump() + "\n";
  if (json_to_output) {
    std::cout << text;
  } else {
    write_text_file(options.json, text);
  }
}

}  // namespace

void add_eval_command(CLI::App& app) {
  auto options = std::make_shared<EvalOptions>();
  CLI::App* command = app.add_subcommand("eval", "Measure a checkpoint: top-1 and top-5 accuracy and error, loss");
  command->add_option("CHECKPOINT", options->checkpoint, "A .safetensors file that riffle wrote")->required();
  command
      ->add_option("--data", options->data.spec,
                   "What data.source may be: DIR, FILE.tar, ...; by default what it was trained with")
      ->type_name("SPEC");
  command->add_option("--split", options->data.split, "train, val or test; by default the validation data")
      ->type_name("SPLIT");
  command->add_option("--val-labels", options->data.val_labels, "Labels of validation images without class folders")
      ->type_name("FILE");
  command->add_option("--weights", options->weights, "raw or ema, the moving average; by default what the file holds")
      ->check(CLI::IsMember({"raw", "ema"}))
      ->type_name("SET");
  command->add_option("--batch", options->batch, "Images a forward pass; the result does not depend on it")
      ->check(whole_number(1, 1 << 20))
      ->capture_default_str();
  command->add_option("--json", options->json, "Write the result as JSON to FILE, or to standard output if it is -")
      ->type_name("FILE|-");
  options->preprocessing.add_to(*command);
  options->device.add_to(*command);
  options->device.add_precision_to(*command);
  command->footer(kFooter);
  command->callback([options] { run_eval(*options); });
}

}  // namespace riffle
