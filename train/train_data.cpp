// Opening the data of a run.
#include "train/train_data.h"

#include "core/check.h"
#include "data/listing.h"
#include "train/text.h"

namespace riffle {
namespace {

// Validation on training images measures nothing; a folder without train/ and val/ would lead there.
void check_splits(const DataSection& section, const Dataset& train, const Dataset& val) {
  if (train.size() == 0 || train.size() != val.size() || train.name(0) != val.name(0)) return;
  fail_usage(section.source, ": the training and the validation images are the same, ", train.description(),
             "; give it a part for each, such as DIR/train/<class>/* and DIR/val/<class>/*");
}

// The first image that can be read; where none of the first `tries` can, the error of the last.
int64_t first_readable(const Dataset& data, int64_t tries, Image& image) {
  for (int64_t index = 0;; ++index) {
    try {
      image = data.load(index);
      return index;
    } catch (const Error&) {
      if (index + 1 >= std::min(tries, data.size())) throw;
    }
  }
}

// Before an epoch is trained, not after it.
void check_evaluation(const EvalTransform& transform, const Dataset& val, int64_t max_bad_images) {
  if (val.size() == 0) return;
  Image image;
  const int64_t index = first_readable(val, std::min(max_bad_images, val.size()) + 1, image);
  try {
    transform.apply(image);
  } catch (const Error& error) {
    fail_usage(val.name(index), " (validation): ", error.what(), "; see eval.resize and eval.crop");
  }
}

// A single wrong label among IDX data makes a network of up to 256 classes.
std::vector<std::string> missing_class_warnings(const Dataset& data) {
  std::vector<bool> seen(data.classes().size(), false);
  for (int64_t i = 0; i < data.size(); ++i) seen[static_cast<size_t>(data.label(i))] = true;
  std::vector<std::string> missing;
  for (size_t label = 0; label < seen.size(); ++label) {
    if (!seen[label]) missing.push_back(data.classes()[label]);
  }
  if (missing.empty()) return {};
  return {join(missing.size(), " of the ", seen.size(), " classes have no training image: ", format_names(missing),
               "; is a label wrong? (data.class_names says which classes there are)")};
}

}  // namespace

DatasetOptions dataset_options(const DataSection& section) {
  DatasetOptions options;
  options.classes = section.class_names;
  options.val_labels = section.val_labels;
  options.index_cache = section.index_cache == "auto" ? default_index_cache() : section.index_cache;
  options.truncated = section.truncated == "accept" ? TruncatedImages::kAccept : TruncatedImages::kError;
  const int64_t cache_bytes = parse_bytes(section.cache_bytes);
  if (cache_bytes > 0) options.cache = std::make_shared<CacheBudget>(cache_bytes);
  return options;
}

TrainData open_train_data(const Config& config) {
  const DataSection& section = config.data;
  if (section.source.empty()) {
    fail_usage(
        "data.source is not set; name the data, such as data.source=folder:/data/imagenet or "
        "data.source=idx:/data/fashion-mnist");
  }
  const auto channels = static_cast<int>(config.model.input_channels);
  TrainData data;
  const DatasetOptions options = dataset_options(section);
  DatasetOptions train_options = options;
  train_options.shards_in_order = section.shuffle == "shards";
  data.train = open_dataset(section.source, section.train_split, channels, train_options);
  data.val = open_dataset(section.source, section.val_split, channels, options);
  check_splits(section, *data.train, *data.val);
  check_evaluation(config.eval_transform(), *data.val, config.eval.max_bad_images);
  data.classes = data.train->classes();
  data.warnings = missing_class_warnings(*data.train);
  for (const Dataset* part : {data.train.get(), data.val.get()}) {
    for (const std::string& warning : part->warnings()) data.warnings.push_back(warning);
  }
  // A network may have more outputs than the data has classes; every output needs a name of its own.
  const int64_t outputs = config.network(static_cast<int64_t>(data.classes.size())).classes;
  while (static_cast<int64_t>(data.classes.size()) < outputs) {
    data.classes.push_back(join("(unused ", data.classes.size(), ")"));
  }
  data.val_labels = match_classes(data.val->classes(), data.classes, data.val->description());
  return data;
}

LoaderOptions train_loader_options(const Config& config, int threads) {
  LoaderOptions options;
  options.batch = config.train.batch;
  options.threads = threads;
  options.prefetch = config.data.prefetch;
  options.seed = config.train.seed;
  options.training = true;
  options.train_transform = config.train_transform();
  for (const ImageSizeChange& change : config.augment.sizes)
    options.sizes.push_back({static_cast<int64_t>(change.from.value), change.size});
  options.shuffle = config.data.shuffle == "shards" ? Shuffle::kShards : Shuffle::kFull;
  options.shuffle_window = config.data.shuffle_window;
  options.repeats = config.data.repeats;
  options.max_bad_images = config.data.max_bad_images;
  return options;
}

}  // namespace riffle
