// Opening data for a checkpoint.
#include "train/evaluation_data.h"

#include <algorithm>
#include <vector>

#include "core/check.h"
#include "train/config_reader.h"
#include "train/train_data.h"

namespace riffle {
namespace {

// IDX files carry no names, so their classes are called "0", "1", ...
bool are_numbers_in_order(const std::vector<std::string>& names) {
  for (size_t i = 0; i < names.size(); ++i) {
    if (names[i] != std::to_string(i)) return false;
  }
  return true;
}

bool contains_all(const std::vector<std::string>& all, const std::vector<std::string>& some) {
  return std::all_of(some.begin(), some.end(),
                     [&all](const std::string& name) { return std::find(all.begin(), all.end(), name) != all.end(); });
}

// What the checkpoint's configuration says of its data. `needed`: the user did not name data and split, so that a
// configuration which cannot be read is an error.
DataSection trained_on(const CheckpointMetadata& metadata, const std::string& path, bool needed) {
  if (metadata.config_yaml.empty()) return {};
  try {
    return parse_data_section(metadata.config_yaml, path + " (its configuration)");
  } catch (const Error& error) {
    if (!needed) return {};
    fail(error.what(), "; name the data yourself: riffle eval has --data and --split");
  }
}

}  // namespace

std::unique_ptr<Dataset> open_evaluation_data(const CheckpointMetadata& metadata, const std::string& path,
                                              const EvaluationSource& given) {
  const auto& [spec, split, val_labels, truncated] = given;
  DataSection trained = trained_on(metadata, path, /*needed=*/spec.empty() || split.empty());
  const std::string source = spec.empty() ? trained.source : spec;
  if (source.empty()) fail_usage(path, " does not say what data it was trained on; name the data with --data");
  if (source != trained.source) trained.truncated = "error";
  if (!truncated.empty()) trained.truncated = truncated;
  const std::string part = split.empty() ? trained.val_split : split;
  const auto channels = static_cast<int>(metadata.model.input_channels);
  DatasetOptions options = dataset_options(trained);
  options.cache.reset();  // every image is read once
  if (!val_labels.empty() && part == "train")
    fail_usage(val_labels, ": labels are for validation images, and the split is train; leave out --val-labels");
  if (!val_labels.empty()) options.val_labels = val_labels;
  // The training data may have been given other names by its configuration; data of the user's keeps its own.
  if (source == trained.source) return open_dataset(source, part, channels, options);
  options.classes.clear();
  options.val_labels = val_labels;
  std::unique_ptr<Dataset> data = open_dataset(source, part, channels, options);
  const bool nameless = are_numbers_in_order(data->classes()) && !contains_all(metadata.classes, data->classes());
  if (!nameless) return data;
  options.classes = metadata.classes;
  return open_dataset(source, part, channels, options);
}

}  // namespace riffle
