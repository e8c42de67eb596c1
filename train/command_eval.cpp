// riffle eval
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "train/bad_images.h"
#include "train/commands.h"
#include "train/evaluation_data.h"
#include "train/evaluator.h"
#include "train/label_map.h"
#include "train/loaded_model.h"
#include "train/preprocessing_options.h"
#include "train/progress.h"
#include "train/report/evaluation_files.h"
#include "train/report/image_records.h"
#include "train/run_folder.h"
#include "train/whole_number.h"

namespace riffle {
namespace {

const char* const kFooter =
    "Every image of the data is used exactly once, with the checkpoint's own preprocessing unless options say\n"
    "otherwise. Labels are matched by class name; the data may have fewer classes than the network.\n"
    "JSON keys: images, top1_correct, top5_correct, top1, top5 (fractions from 0 to 1), loss (mean cross-entropy),\n"
    "bad_images (unreadable ones, with --allow-bad: among images, wrong, not in the loss),\n"
    "truncated_images (files that end too early, with --truncated accept),\n"
    "images_per_s, device, weights (\"raw\" or \"ema\"), preprocessing (what was used).\n"
    "--report DIR writes tables (per class, confusion matrix, most confused pairs, every prediction), calibration, "
    "and\n"
    "the worst mistakes with their images; 'riffle report' makes a page of it. docs/reports.md describes each file.\n"
    "Examples:\n"
    "  riffle eval runs/a/checkpoints/best.safetensors                    on the data it was trained with\n"
    "  riffle eval best.safetensors --data folder:/data/imagenet --json -\n"
    "  riffle eval runs/a/checkpoints/best.safetensors --report runs/a/evaluation\n"
    "  riffle report runs/a --out a.html                                  curves, and the evaluation above";

const char* const kAllBad = "all";

// A number, or all; as CLI11 reads numbers of flags, 0 would be -1.
std::string check_allow_bad(std::string& text) {
  return text == kAllBad ? "" : whole_number(0, INT64_MAX)(text);
}

struct EvalOptions {
  std::string checkpoint, weights, json, report;
  bool force = false;  // --report may replace an earlier one
  EvaluationSource data;
  int64_t batch = 64;
  std::string allow_bad = "0";  // or kAllBad
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
          {"bad_images", sums.unreadable},
          {"truncated_images", result.truncated_images.size()},
          {"images_per_s", result.images_per_s()},
          {"device", device},
          {"weights", metadata.averaged ? "ema" : "raw"},
          {"preprocessing", to_json(metadata.preprocessing)}};
}

// The report's records and the evaluation's sums are computed apart, on the host and on the device.
void check_agreement(const RecordCounts& counts, const MetricSums& sums) {
  RIFFLE_CHECK(counts.images == sums.images && counts.top1_correct == sums.top1_correct &&
                   counts.top5_correct == sums.top5_correct,
               "the report counts ", counts.images, " images, ", counts.top1_correct, " and ", counts.top5_correct,
               " correct, the evaluation ", sums.images, ", ", sums.top1_correct, " and ", sums.top5_correct);
}

void run_eval(const EvalOptions& options) {
  // With the JSON on standard output, nothing else may be there.
  const bool json_to_output = options.json == "-";
  std::ostream& log = json_to_output ? std::cerr : std::cout;
  if (!options.json.empty() && !json_to_output) check_text_file(options.json);
  if (options.force && options.report.empty()) fail_usage("--force belongs to --report DIR, which is missing");
  const int64_t max_bad_images = options.allow_bad == kAllBad ? INT64_MAX : std::stoll(options.allow_bad);
  if (!options.report.empty() && max_bad_images > 0)
    fail_usage("--report shows every image, so it does not go with --allow-bad; leave out one of them");
  const DeviceChoice device = options.device.open(log);
  LoadedModel model = load_for_inference(*device.backend, options.checkpoint, options.weights);
  model.metadata.preprocessing = options.preprocessing.override_of(model.metadata.preprocessing, model.path);
  const std::unique_ptr<Dataset> data = open_evaluation_data(model.metadata, model.path, options.data);
  const LabelMap labels = match_classes(data->classes(), model.metadata.classes, data->description());
  if (!options.weights.empty()) log << "weights     " << options.weights << '\n';
  log << "data        " << data->description() << '\n';
  if (!labels.identity()) log << "            " << labels.note << '\n';

  const bool reported = !options.report.empty();
  if (reported) prepare_evaluation_folder(options.report, options.force);
  EvaluatorOptions evaluation;
  evaluation.transform = model.metadata.preprocessing;
  evaluation.normalisation = model.metadata.normalisation;
  evaluation.batch = options.batch;
  evaluation.loader_threads = device.threads;
  evaluation.max_bad_images = max_bad_images;
  Evaluator evaluator(*device.backend, *data, labels.to_network, evaluation);
  Progress progress = json_to_output ? Progress::for_standard_error() : Progress::for_standard_output();
  ImageRecorder recorder(reported ? data->size() : 0);
  const EvalResult result = evaluator.run(
      *model.network, [&](int64_t images) { progress.evaluation("evaluating", images, evaluator.images()); },
      reported ? [&](const EvaluatedBatch& batch) { recorder.observe(batch); } : BatchObserver{});
  for (const std::string& line : describe_bad_images(result.bad_images, "counted as wrong")) progress.line(line);
  for (const std::string& line : TruncatedImageLog(*data).describe(result.truncated_images)) progress.line(line);
  progress.line("result      " + describe(result));
  nlohmann::json summary = to_json(result, device.backend->description(), model.metadata);
  const std::string text = summary.dump() + "\n";
  if (reported) {
    check_agreement(count_records(recorder.records()), result.sums);
    summary["checkpoint"] = options.checkpoint;
    summary["data"] = data->description();
    write_evaluation(options.report, {*data, model.metadata.preprocessing, model.metadata.classes, summary},
                     recorder.records());
    progress.line("report      " + options.report);
  }

  if (options.json.empty()) return;
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
  command
      ->add_flag(join("--allow-bad{", kAllBad, "}"), options->allow_bad,
                 "Count unreadable images as wrong, and name them, instead of giving up at the first; "
                 "--allow-bad=N gives up above N")
      ->transform(CLI::Validator(check_allow_bad, ""));
  command
      ->add_option("--truncated", options->data.truncated,
                   "Image files that end too early: error, or accept, as far as they go; by default as in training, "
                   "and error for other data")
      ->check(CLI::IsMember({"error", "accept"}))
      ->type_name("POLICY");
  command->add_option("--json", options->json, "Write the result as JSON to FILE, or to standard output if it is -")
      ->type_name("FILE|-");
  command
      ->add_option("--report", options->report,
                   "Write tables, confusion matrix, calibration and worst mistakes into the folder DIR")
      ->type_name("DIR");
  command->add_flag("--force", options->force, "Replace an earlier report in the --report folder");
  options->preprocessing.add_to(*command);
  options->device.add_to(*command);
  options->device.add_precision_to(*command);
  command->footer(kFooter);
  command->callback([options] { run_eval(*options); });
}

}  // namespace riffle
