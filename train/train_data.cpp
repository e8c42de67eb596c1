// Opening the data of a run.
#include "train/train_data.h"

#include "core/check.h"

namespace riffle {

TrainData open_train_data(const Config& config) {
  const DataSection& section = config.data;
  if (section.source.empty()) {
    fail_usage(
        "data.source is not set; name the data, such as data.source=folder:/data/imagenet or "
        "data.source=idx:/data/fashion-mnist");
  }
  const auto channels = static_cast<int>(config.model.input_channels);
  TrainData data;
  data.train = open_dataset(section.source, section.train_split, channels, section.class_names);
  data.val = open_dataset(section.source, section.val_split, channels, section.class_names);
  data.classes = data.train->classes();
  // A network may have more outputs than the data has classes; every output needs a name of its own.
  const int64_t outputs = config.network(static_cast<int64_t>(data.classes.size())).classes;
  while (static_cast<int64_t>(data.classes.size()) < outputs) {
    data.classes.push_back(join("(unused ", data.classes.size(), ")"));
  }
  data.val_labels = match_classes(data.val->classes(), data.classes, data.val->description());
  return data;
}

}  // namespace riffle
