// Beginning with a checkpoint.
#include "train/initial_weights.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <utility>

#include "train/checkpoint/checkpoint.h"
#include "train/config_fields.h"
#include "train/label_map.h"
#include "train/text.h"

namespace riffle {
namespace {

// These belong together: a width stands for the others.
const std::vector<std::string>& shape_fields() {
  static const std::vector<std::string> fields{"model.width", "model.stage_channels", "model.stage_repeats",
                                               "model.stem_channels", "model.head_channels"};
  return fields;
}

const std::vector<std::string>& other_model_fields() {
  static const std::vector<std::string> fields{"model.dialect", "model.stem_stride", "model.stem_max_pool",
                                               "model.input_channels"};
  return fields;
}

// The configuration that says what the checkpoint does.
Config config_of(const CheckpointMetadata& metadata) {
  const ShuffleNetV2Config& network = metadata.model;
  Config config;
  ModelSection& model = config.model;
  model.width = network.width_name();
  model.dialect = name_of(network.dialect);
  if (model.width == "custom") {
    model.stage_channels = network.stage_channels;
    model.stage_repeats = network.stage_repeats;
    model.stem_channels = network.stem_channels;
    model.head_channels = network.head_channels;
  }
  model.stem_stride = network.stem_stride;
  model.stem_max_pool = network.stem_max_pool;
  model.input_channels = network.input_channels;
  if (network.dropout != config.network(1).dropout) model.dropout = network.dropout;
  config.normalisation.scale = metadata.normalisation.scale;
  config.normalisation.mean = metadata.normalisation.mean;
  config.normalisation.std = metadata.normalisation.std;
  config.normalisation.channel_order = metadata.normalisation.reverse_channels ? "bgr" : "rgb";
  config.eval.resize = metadata.preprocessing.resize;
  config.eval.crop = metadata.preprocessing.crop;
  config.eval.interpolation = name_of(metadata.preprocessing.interpolation);
  config.eval.rounding = name_of(metadata.preprocessing.rounding);
  config.eval.crop_offset = name_of(metadata.preprocessing.crop_offset);
  config.data.exif_orientation = metadata.preprocessing.exif_orientation;
  config.augment.size = metadata.preprocessing.crop;
  return config;
}

// Fields of two configurations, by path.
class Adoption {
 public:
  Adoption(SourcedConfig& ours, Config theirs, std::string checkpoint)
      : ours_(ours),
        theirs_(std::move(theirs)),
        checkpoint_(std::move(checkpoint)),
        our_fields_(fields_of(ours.config)),
        their_fields_(fields_of(theirs_)) {}

  bool is_set(const std::string& path) const { return ours_.sources.has(path); }
  bool differs(const std::string& path) const { return our_text(path) != their_text(path); }
  std::string our_text(const std::string& path) const { return field(our_fields_, path).value_text(); }
  std::string their_text(const std::string& path) const { return field(their_fields_, path).value_text(); }

  void take(const std::string& path) {
    const Field& from = field(their_fields_, path);
    std::visit([&](auto* value) { *value = *std::get<decltype(value)>(from.value); }, field(our_fields_, path).value);
    ours_.sources.set(path, checkpoint_);
  }
  void take_unless_set(const std::string& path) {
    if (!is_set(path)) take(path);
  }

 private:
  static const Field& field(const std::vector<Field>& fields, const std::string& path) {
    const auto found = std::find_if(fields.begin(), fields.end(), [&](const Field& f) { return f.path == path; });
    RIFFLE_CHECK(found != fields.end(), "no field ", path);
    return *found;
  }

  SourcedConfig& ours_;
  Config theirs_;
  std::string checkpoint_;
  std::vector<Field> our_fields_, their_fields_;
};

bool same_but_for_classes(ShuffleNetV2Config a, const ShuffleNetV2Config& b) {
  a.classes = b.classes;
  a.dropout = b.dropout;
  return a == b;
}

void adopt_network(const InitialWeights& initial, SourcedConfig& read, Adoption& adoption) {
  // Before anything is taken: what was set, on top of defaults, must already be the checkpoint's.
  std::vector<std::string> set;
  const bool shape_is_set = std::any_of(shape_fields().begin(), shape_fields().end(),
                                        [&](const auto& path) { return adoption.is_set(path); });
  for (const std::string& path : shape_fields()) {
    if (shape_is_set) {
      set.push_back(path);
    } else {
      adoption.take(path);
    }
  }
  for (const std::string& path : other_model_fields()) {
    if (adoption.is_set(path)) {
      set.push_back(path);
    } else {
      adoption.take(path);
    }
  }
  adoption.take_unless_set("model.dropout");
  const ShuffleNetV2Config& theirs = initial.network.metadata.model;
  if (same_but_for_classes(read.config.network(1), theirs)) return;

  std::string ours_text, expected, where, where_set;  // the place of one that differs, else of one that was set
  for (const std::string& path : set) {
    std::string& place = adoption.differs(path) ? where : where_set;
    if (adoption.is_set(path) && place.empty()) place = read.sources.of({path.c_str()});
    if (!adoption.differs(path)) continue;
    ours_text += (ours_text.empty() ? "" : ", ") + path + " is " + adoption.our_text(path);
    expected += (expected.empty() ? "" : " ") + path + "=" + adoption.their_text(path);
  }
  fail_usage(where.empty() ? where_set : where, ": ", ours_text, ", but ", initial.path, " holds ",
             initial.network.architecture, "; expected ", expected,
             ", or none of the model's keys set: then the checkpoint's network is taken");
}

std::vector<std::string> adopt_input(const InitialWeights& initial, Adoption& adoption) {
  std::vector<std::string> warnings;
  for (const char* path :
       {"normalisation.scale", "normalisation.mean", "normalisation.std", "normalisation.channel_order", "eval.resize",
        "eval.crop", "eval.interpolation", "eval.rounding", "eval.crop_offset", "data.exif_orientation"}) {
    if (adoption.is_set(path) && adoption.differs(path)) {
      warnings.push_back(join(path, " is ", adoption.our_text(path), ", as the configuration says; the weights of ",
                              initial.path, " were measured with ", adoption.their_text(path)));
    }
    adoption.take_unless_set(path);
  }
  adoption.take_unless_set("augment.size");
  return warnings;
}

// A recipe for fine-tuning that trains from scratch would be a waste that nobody sees.
void check_needs_checkpoint(const SourcedConfig& read) {
  const Config& config = read.config;
  const char* path = !config.finetune.freeze.empty()       ? "finetune.freeze"
                     : config.finetune.head_only.value > 0 ? "finetune.head_only"
                     : config.init.reset_head              ? "init.reset_head"
                     : !config.init.weights.empty()        ? "init.weights"
                                                           : nullptr;
  if (!path) return;
  fail_usage(read.sources.of({path}), ": ", path,
             " is set, but init.checkpoint is not; name the weights to begin with: ", "--init CHECKPOINT");
}

StoredNetwork read_checkpoint(const InitSection& init) {
  const std::string extension = std::filesystem::path(init.checkpoint).extension().string();
  if (std::filesystem::exists(init.checkpoint) && extension != ".safetensors") {
    fail_usage("init.checkpoint: ", init.checkpoint, " is not a Riffle checkpoint (.safetensors); 'riffle convert ",
               init.checkpoint, " weights.safetensors' makes one of the formats it knows");
  }
  return read_network(init.checkpoint, init.weights);
}

// to_rows[i]: the row of the checkpoint's classifier that belongs to the network's class i.
std::vector<size_t> classifier_rows(const InitialWeights& initial, const std::vector<std::string>& classes) {
  const std::vector<std::string>& theirs = initial.network.metadata.classes;
  std::vector<size_t> rows;
  for (const std::string& name : classes) {
    const auto found = std::find(theirs.begin(), theirs.end(), name);
    if (found != theirs.end()) rows.push_back(static_cast<size_t>(found - theirs.begin()));
  }
  std::vector<size_t> sorted = rows;
  std::sort(sorted.begin(), sorted.end());
  const bool distinct = std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end();
  if (rows.size() == theirs.size() && rows.size() == classes.size() && distinct) return rows;
  fail_usage("the classifier of ", initial.path, " tells ", theirs.size(), " classes apart (", format_names(theirs),
             "), not the ", classes.size(), " of the data (", format_names(classes),
             "); to begin with a new classifier, pass --reset-head (init.reset_head=true)");
}

// Rows along the first axis, in another order.
void reorder_rows(HostTensor& tensor, const std::vector<size_t>& rows) {
  const std::vector<uint8_t> before = tensor.bytes;
  RIFFLE_CHECK(!rows.empty() && before.size() % rows.size() == 0, before.size(), " bytes in ", rows.size(), " rows");
  const size_t row_bytes = before.size() / rows.size();
  for (size_t i = 0; i < rows.size(); ++i)
    std::memcpy(tensor.bytes.data() + i * row_bytes, before.data() + rows[i] * row_bytes, row_bytes);
}

}  // namespace

RunConfig resolve_run(SourcedConfig read) {
  if (read.config.init.checkpoint.empty()) {
    check_needs_checkpoint(read);
    return {checked(read), std::nullopt, {}};
  }
  const InitialWeights initial{read.config.init.checkpoint, read_checkpoint(read.config.init)};
  Adoption adoption(read, config_of(initial.network.metadata), initial.path);
  adopt_network(initial, read, adoption);
  std::vector<std::string> warnings = adopt_input(initial, adoption);
  return {checked(read), initial, std::move(warnings)};
}

std::string load_initial_weights(Backend& backend, const InitialWeights& initial, bool reset_head,
                                 const std::vector<std::string>& classes, ShuffleNetV2& network) {
  TensorMap tensors = initial.network.tensors;
  const std::string prefix = std::string(ShuffleNetV2::kClassifier) + ".";
  const auto is_classifier = [&](const std::string& name) { return name.rfind(prefix, 0) == 0; };
  std::string classifier;
  if (reset_head) {
    network.for_each_parameter([&](const std::string& name, Parameter& parameter) {
      if (!is_classifier(name)) return;
      tensors.insert_or_assign(name, export_tensor(backend, parameter.kind, parameter.order, parameter.value));
    });
    classifier = join("new classifier of ", classes.size(), " classes");
  } else {
    const std::vector<size_t> rows = classifier_rows(initial, classes);
    for (auto& [name, tensor] : tensors)
      if (is_classifier(name)) reorder_rows(tensor, rows);
    const bool same_order = std::is_sorted(rows.begin(), rows.end());
    classifier = same_order ? "classifier kept" : "classifier kept, its classes put into the data's order by name";
  }
  import_module(backend, network, tensors, initial.path, initial.network.architecture);
  return join(initial.path, initial.network.metadata.averaged ? " (moving averages): " : ": ",
              initial.network.architecture, "; ", classifier);
}

}  // namespace riffle
