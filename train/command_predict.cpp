// riffle predict
#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "data/imagenet_classes.h"
#include "train/checkpoint/checkpoint.h"
#include "train/checkpoint/file_io.h"
#include "train/commands.h"
#include "train/evaluation_data.h"
#include "train/image_paths.h"
#include "train/label_map.h"
#include "train/predictor.h"
#include "train/preprocessing_options.h"
#include "train/text.h"
#include "train/whole_number.h"

namespace riffle {
namespace {

const char* const kFooter =
    "PATH is an image, a folder (searched recursively), a pattern such as 'photos/*.jpg', or a data set: idx:DIR or\n"
    "folder:DIR, whose validation images are shown with their true labels.\n"
    "--json prints one object a line: {\"path\", \"predictions\": [{\"index\", \"name\", \"probability\"}, ...]}, "
    "with\n"
    "\"label\": {\"index\", \"name\"} for a data set, \"wnid\" beside the name of an ImageNet class, and "
    "\"preprocessing\"\n"
    "where options change the checkpoint's. An unreadable image is reported on standard error; the others are\n"
    "predicted, and the exit code is 1.\n"
    "--tensor verifies conversions: 'images' is u8 RGB (N,H,W,3), normalised as the checkpoint says but never "
    "resized.\n"
    "Examples:\n"
    "  riffle predict best.safetensors photo.jpg holidays/ --topk 3\n"
    "  riffle predict best.safetensors idx:/usr/share/datasets/fashion-mnist --limit 5\n"
    "  riffle predict best.safetensors --tensor images.npz --logits logits.npy";

struct PredictOptions {
  std::string checkpoint, weights, tensor, logits;
  std::vector<std::string> paths;
  int64_t top_k = 5, limit = 0;
  bool json = false;
  PreprocessingOptions preprocessing;
  DeviceOptions device;
};

bool is_data_spec(const std::string& word) {
  return word.rfind("idx:", 0) == 0 || word.rfind("folder:", 0) == 0;
}

// The images to predict, with the data sets that some of them live in and those data sets' labels.
struct Inputs {
  std::vector<std::unique_ptr<Dataset>> datasets;
  std::vector<LabelMap> labels;  // of each data set
  std::vector<PredictionInput> images;
  std::vector<std::string> failures;  // of paths that led to no image

  // Class of the network, or -1 for a file.
  int64_t true_class(const PredictionInput& image) const {
    for (size_t i = 0; i < datasets.size(); ++i) {
      if (datasets[i].get() == image.dataset) {
        return labels[i].to_network.at(static_cast<size_t>(image.dataset->label(image.index)));
      }
    }
    return -1;
  }
};

Inputs find_inputs(const PredictOptions& options, const LoadedModel& model) {
  Inputs inputs;
  for (const std::string& word : options.paths) {
    if (!is_data_spec(word)) {
      try {
        for (const std::string& path : find_images({word})) inputs.images.push_back({path});
      } catch (const Error& error) {  // the other paths are predicted
        inputs.failures.emplace_back(error.what());
      }
      continue;
    }
    inputs.datasets.push_back(open_evaluation_data(model.metadata, model.path, {word, "", ""}));
    const Dataset& data = *inputs.datasets.back();
    inputs.labels.push_back(match_classes(data.classes(), model.metadata.classes, data.description()));
    for (int64_t i = 0; i < data.size(); ++i) inputs.images.push_back({data.name(i), &data, i});
  }
  const auto limit = static_cast<size_t>(options.limit);
  if (limit > 0 && inputs.images.size() > limit) inputs.images.resize(limit);
  return inputs;
}

// What people call a class: networks of ImageNet have WordNet ids for names.
std::string display_name(const std::string& name) {
  const char* const names = imagenet_names(name);
  return names == nullptr ? name : names;
}

nlohmann::json to_json(int64_t index, const std::string& name) {
  nlohmann::json json{{"index", index}, {"name", display_name(name)}};
  if (imagenet_names(name) != nullptr) json["wnid"] = name;
  return json;
}

// preprocessing: null where it is the checkpoint's own.
void print_json(const std::string& path, const PredictionOutput& output, int64_t label,
                const std::vector<std::string>& names, const nlohmann::json& preprocessing) {
  nlohmann::json line{{"path", path}, {"predictions", nlohmann::json::array()}};
  for (const Prediction& p : output.classes) {
    line["predictions"].push_back(to_json(p.index, names[static_cast<size_t>(p.index)]));
    line["predictions"].back()["probability"] = p.probability;
  }
  if (label >= 0) line["label"] = to_json(label, names[static_cast<size_t>(label)]);
  if (!preprocessing.is_null()) line["preprocessing"] = preprocessing;
  // A path need not be UTF-8, JSON must be.
  std::cout << line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
}

void print_text(const std::string& path, const PredictionOutput& output, int64_t label,
                const std::vector<std::string>& names) {
  std::cout << path;
  if (label >= 0) std::cout << "  (true class: " << display_name(names[static_cast<size_t>(label)]) << ')';
  std::cout << '\n';
  for (const Prediction& p : output.classes) {
    const std::string percent = format_percent(p.probability), index = std::to_string(p.index);
    std::cout << std::string(9 - percent.size(), ' ') << percent
              << std::string(index.size() < 6 ? 6 - index.size() : 1, ' ') << index << "  "
              << display_name(names[static_cast<size_t>(p.index)]) << '\n';
  }
}

// changed_preprocessing: of the checkpoint, or null.
void predict_images(const PredictOptions& options, const DeviceChoice& device, const LoadedModel& model,
                    const nlohmann::json& changed_preprocessing) {
  const Inputs inputs = find_inputs(options, model);
  Predictor predictor(*device.backend, model, options.top_k, device.threads);
  const std::vector<std::string>& names = model.metadata.classes;
  for (const std::string& failure : inputs.failures) std::cerr << "riffle: error: " << failure << '\n';
  size_t unreadable = 0;
  for (size_t begin = 0; begin < inputs.images.size(); begin += Predictor::kBatch) {
    const size_t end = std::min(inputs.images.size(), begin + Predictor::kBatch);
    const std::vector<PredictionInput> batch(inputs.images.begin() + static_cast<std::ptrdiff_t>(begin),
                                             inputs.images.begin() + static_cast<std::ptrdiff_t>(end));
    const std::vector<PredictionOutput> outputs = predictor.predict(batch);
    for (size_t i = 0; i < batch.size(); ++i) {
      if (!outputs[i].error.empty()) {
        ++unreadable;
        std::cerr << "riffle: error: " << outputs[i].error << '\n';
        continue;
      }
      const int64_t label = inputs.true_class(batch[i]);
      if (options.json) {
        print_json(batch[i].path, outputs[i], label, names, changed_preprocessing);
      } else {
        print_text(batch[i].path, outputs[i], label, names);
      }
    }
    std::cout << std::flush;
  }
  if (unreadable > 0) fail(unreadable, " of ", inputs.images.size(), " images could not be predicted");
  if (!inputs.failures.empty()) fail(inputs.failures.size(), " of ", options.paths.size(), " paths led to no image");
}

void predict_tensor(const PredictOptions& options, Backend& backend, const LoadedModel& model) {
  const TensorMap arrays = read_npz(options.tensor);
  const auto found = arrays.find("images");
  if (found == arrays.end()) fail(options.tensor, ": has no array 'images'");
  const HostTensor& images = found->second;
  const int64_t channels = model.metadata.model.input_channels;
  if (images.dtype != FileDType::kU8 || images.shape.size() != 4 ||
      std::any_of(images.shape.begin(), images.shape.end(), [](int64_t size) { return size < 1; }) ||
      images.shape[3] != channels) {
    std::string shape;
    for (const int64_t size : images.shape) shape += (shape.empty() ? "" : ",") + std::to_string(size);
    fail(options.tensor, ": 'images' is ", name_of(images.dtype), " (", shape, "); expected u8 (N,H,W,", channels, ")");
  }
  const int64_t count = images.shape[0], height = images.shape[1], width = images.shape[2];
  const int64_t batch = std::min(count, Predictor::kBatch);
  NetworkInput input(backend, model.metadata.normalisation, {batch, height, width, channels});
  HostTensor logits;
  logits.shape = {count, model.metadata.model.classes};
  for (int64_t begin = 0; begin < count; begin += batch) {
    const uint8_t* first = images.bytes.data() + begin * height * width * channels;
    const std::vector<float> part =
        compute_logits(backend, *model.network, input, first, std::min(batch, count - begin));
    const auto* bytes = reinterpret_cast<const uint8_t*>(part.data());
    logits.bytes.insert(logits.bytes.end(), bytes, bytes + part.size() * sizeof(float));
  }
  write_npy(options.logits, logits);
}

void run_predict(const PredictOptions& options) {
  if (options.paths.empty() == options.tensor.empty()) {
    fail_usage(options.paths.empty() ? "predict needs images: give PATH... or --tensor IN.npz"
                                     : "predict takes either PATH... or --tensor, not both");
  }
  if (!options.logits.empty()) const AtomicFile probe(options.logits);  // throws now rather than after the work
  // Standard output holds the predictions alone, so that it can be piped.
  const DeviceChoice device = options.device.open(std::cerr);
  LoadedModel model = load_for_inference(*device.backend, options.checkpoint, options.weights);
  if (options.tensor.empty()) {
    const EvalTransform used = options.preprocessing.override_of(model.metadata.preprocessing, model.path);
    const bool changed = !(used == model.metadata.preprocessing);
    model.metadata.preprocessing = used;
    predict_images(options, device, model, changed ? to_json(used) : nlohmann::json());
  } else {
    predict_tensor(options, *device.backend, model);
  }
}

}  // namespace

void add_predict_command(CLI::App& app) {
  auto options = std::make_shared<PredictOptions>();
  CLI::App* command = app.add_subcommand("predict", "Classify images with a checkpoint");
  command->add_option("CHECKPOINT", options->checkpoint, "A .safetensors file that riffle wrote")->required();
  command->add_option("PATH", options->paths, "Images, folders, patterns or data sets");
  command->add_option("--weights", options->weights, "raw or ema, the moving average; by default what the file holds")
      ->check(CLI::IsMember({"raw", "ema"}))
      ->type_name("SET");
  CLI::Option* top_k = command->add_option("--topk", options->top_k, "Classes to show for each image")
                           ->check(whole_number(1, 1 << 20))
                           ->capture_default_str();
  CLI::Option* limit = command->add_option("--limit", options->limit, "Predict only the first N images")
                           ->check(whole_number(1, 1 << 30))
                           ->type_name("N");
  CLI::Option* json = command->add_flag("--json", options->json, "One JSON object a line");
  CLI::Option* tensor = command->add_option("--tensor", options->tensor, "Raw images, array 'images' of an .npz file")
                            ->type_name("IN.npz");
  CLI::Option* logits =
      command->add_option("--logits", options->logits, "Where the logits of --tensor go, f32 (N,classes)")
          ->type_name("OUT.npy");
  tensor->needs(logits);
  logits->needs(tensor);
  for (CLI::Option* of_images : {top_k, limit, json}) tensor->excludes(of_images);
  options->preprocessing.add_to(*command);
  options->preprocessing.exclude(*command, *tensor);
  options->device.add_to(*command);
  options->device.add_precision_to(*command);
  command->footer(kFooter);
  command->callback([options] { run_predict(*options); });
}

}  // namespace riffle
