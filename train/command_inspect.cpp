// riffle inspect
#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "train/checkpoint/checkpoint.h"
#include "train/checkpoint/convert.h"
#include "train/checkpoint/read_tensor_file.h"
#include "train/commands.h"
#include "train/config_reader.h"
#include "train/initial_weights.h"
#include "train/text.h"
#include "train/train_data.h"

namespace riffle {
namespace {

const char* const kFooter =
    "Shapes and multiply-accumulates (MACs) are for one image of the evaluation size.\n"
    "Of a checkpoint, anybody's that riffle convert reads, also whether its tensors are all there and finite.\n"
    "Examples:\n"
    "  riffle inspect runs/a/checkpoints/best.safetensors\n"
    "  riffle inspect shufflenetv2_x1.pth\n"
    "  riffle inspect configs/imagenet.yaml model.width=2.0x model.classes=1000";

struct InspectOptions {
  std::string file;
  std::vector<std::string> overrides;
  DeviceOptions device{{"cpu"}};
  bool json = false;
};

struct Subject {
  ShuffleNetV2Config model;
  int64_t size = 0;         // of the input image
  nlohmann::json metadata;  // of a checkpoint; null of a configuration and of a file that Riffle did not write
  // Of a checkpoint, what it is and what became of its tensors; else "" and null.
  std::string file;
  nlohmann::json tensors;
};

// A configuration is text. TensorFlow's checkpoints may be given as a folder or as what their files' names begin with.
bool is_checkpoint(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  if (fs::is_directory(path, ignored) || (!fs::exists(path, ignored) && fs::exists(path + ".index", ignored)))
    return true;
  std::ifstream file(path, std::ios::binary);
  if (!file) fail(path, ": cannot open the file; expected a checkpoint or a configuration");
  std::string start(64, ' ');
  file.read(start.data(), static_cast<std::streamsize>(start.size()));
  const bool binary = std::any_of(start.begin(), start.end(), [](char c) { return c >= 0 && c < '\t'; });
  return binary || fs::path(path).extension() == ".safetensors";
}

Subject from_checkpoint(const std::string& path) {
  const TensorFile file = read_tensor_file(path);
  const ConvertedModel converted = convert(file, {}, path);
  Subject subject{converted.metadata.model, converted.metadata.preprocessing.crop, nullptr, "", nullptr};
  if (converted.own) subject.metadata = file.metadata;
  subject.file = join("format      ", file.format, ", ", file.tensors.size(), " tensors",
                      converted.own ? "" : join(", names are ", describe(converted.naming)), "\ntensors     ",
                      converted.reconciliation.text(), '\n');
  for (const std::string& note : file.notes) subject.file += join("note        ", note, '\n');
  subject.tensors = converted.reconciliation.to_json();
  subject.tensors["format"] = file.format;
  return subject;
}

Subject from_config(const std::string& path, const std::vector<std::string>& overrides) {
  SourcedConfig read = read_sourced_config(path, overrides);
  const Config config = read.config.init.checkpoint.empty() ? checked(read) : resolve_run(std::move(read)).config;
  auto classes = static_cast<int64_t>(config.data.class_names.size());
  if (config.model.classes == 0 && classes == 0) {
    if (config.data.source.empty())
      fail_usage(path, ": neither model.classes nor data.source is set; add model.classes=N");
    classes = static_cast<int64_t>(open_train_data(config).classes.size());
  }
  return {config.network(classes), config.eval.crop, nullptr, "", nullptr};
}

void print_json(const Subject& subject, const std::vector<LayerRow>& rows, int64_t parameters, int64_t macs) {
  nlohmann::json layers = nlohmann::json::array();
  for (const LayerRow& row : rows) {
    layers.push_back({{"name", row.name},
                      {"kind", row.kind},
                      {"output", {row.output.h, row.output.w, row.output.c}},
                      {"parameters", row.parameters},
                      {"macs", row.macs}});
  }
  const ShuffleNetV2Config& model = subject.model;
  const nlohmann::json all{{"model",
                            {{"width", model.width_name()},
                             {"dialect", name_of(model.dialect)},
                             {"classes", model.classes},
                             {"stage_channels", model.stage_channels},
                             {"stage_repeats", model.stage_repeats}}},
                           {"input", {subject.size, subject.size, model.input_channels}},
                           {"parameters", parameters},
                           {"macs", macs},
                           {"layers", layers},
                           {"tensors", subject.tensors},
                           {"metadata", subject.metadata}};
  std::cout << all.dump(2) << '\n';
}

void print_table(const std::vector<LayerRow>& rows, int64_t parameters, int64_t macs) {
  std::vector<std::vector<std::string>> cells{{"layer", "kind", "output", "parameters", "MACs"}};
  for (const LayerRow& row : rows) {
    cells.push_back({row.name, row.kind, join(row.output.h, "x", row.output.w, "x", row.output.c),
                     format_count(row.parameters), format_count(row.macs)});
  }
  cells.push_back({"total", "", "", format_count(parameters), format_count(macs)});
  std::cout << aligned_table(cells, /*first_number=*/2);
}

void print_metadata(const nlohmann::json& metadata) {
  std::cout << "\nmetadata\n";
  for (const auto& [key, value] : metadata.items()) {
    std::cout << "  " << key << ": ";
    if (key == "config" && value.is_string()) {
      std::string text = value.get<std::string>();
      for (size_t at = 0; (at = text.find('\n', at)) != std::string::npos; at += 5) text.replace(at, 1, "\n    ");
      std::cout << "\n    " << text << '\n';
    } else {
      std::cout << (value.is_string() ? value.get<std::string>() : value.dump()) << '\n';
    }
  }
}

void run_inspect(const InspectOptions& options) {
  const bool checkpoint = is_checkpoint(options.file);
  if (checkpoint && !options.overrides.empty()) fail_usage("overrides are for a configuration, not for a checkpoint");
  const Subject subject = checkpoint ? from_checkpoint(options.file) : from_config(options.file, options.overrides);
  const DeviceChoice device = make_backend(options.device.request);
  const ShuffleNetV2 network(*device.backend, subject.model, /*seed=*/0);
  const std::vector<LayerRow> rows = network.layer_table(subject.size, subject.size);
  int64_t parameters = 0, macs = 0;
  for (const LayerRow& row : rows) {
    parameters += row.parameters;
    macs += row.macs;
  }
  if (options.json) {
    print_json(subject, rows, parameters, macs);
    return;
  }
  const ShuffleNetV2Config& model = subject.model;
  std::cout << "ShuffleNetV2 " << model.width_name() << " (" << name_of(model.dialect) << "), " << model.classes
            << " classes, input " << subject.size << 'x' << subject.size << 'x' << model.input_channels << '\n'
            << subject.file << '\n';
  print_table(rows, parameters, macs);
  if (!subject.metadata.is_null()) print_metadata(subject.metadata);
}

}  // namespace

void add_inspect_command(CLI::App& app) {
  auto options = std::make_shared<InspectOptions>();
  CLI::App* command = app.add_subcommand("inspect", "Show the layers, parameters, tensors and metadata of a network");
  command->add_option("FILE", options->file, "A checkpoint or a configuration")->required();
  command->add_option("OVERRIDES", options->overrides, "key.path=value: replaces a value of the configuration");
  options->device.add_to(*command);
  command->add_flag("--json", options->json, "Print JSON");
  command->footer(kFooter);
  command->callback([options] { run_inspect(*options); });
}

}  // namespace riffle
