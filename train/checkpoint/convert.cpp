// Mapping, accounting and metadata.
#include "train/checkpoint/convert.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "data/imagenet_classes.h"
#include "train/checkpoint/keras_names.h"
#include "train/checkpoint/module_io.h"
#include "train/checkpoint/published_preprocessing.h"
#include "train/text.h"
#include "train/version.h"

namespace riffle {
namespace {

bool is_own(const TensorFile& file) {
  const auto model = file.metadata.find("model");
  return model != file.metadata.end() && model->is_object() && model->contains("architecture");
}

// TensorFlow's graphs number the outputs of operations: "conv1/W:0".
TensorMap without_output_numbers(const TensorMap& tensors, const std::string& path) {
  TensorMap result;
  for (const auto& [name, tensor] : tensors) {
    const bool numbered = name.size() > 2 && name.compare(name.size() - 2, 2, ":0") == 0;
    const std::string plain = numbered ? name.substr(0, name.size() - 2) : name;
    if (!result.emplace(plain, tensor).second) fail(path, ": two tensors are called ", format_names({plain}));
  }
  return result;
}

// Shapes of all tensors of a network, in PyTorch's axes, by native name.
std::map<std::string, std::vector<int64_t>> expected_shapes(const ShuffleNetV2Config& model) {
  std::map<std::string, std::vector<int64_t>> shapes;
  const auto block = [&](const std::string& prefix, int number, std::vector<int64_t> filter) {
    const int64_t outputs = filter.front();
    shapes[join(prefix, number, ".weight")] = std::move(filter);
    for (const char* part : {"weight", "bias", "running_mean", "running_var"}) {
      shapes[join(prefix, number + 1, ".", part)] = {outputs};
    }
  };
  const bool torchvision = model.dialect == Dialect::kTorchvision;
  block("conv1.", 0, {model.stem_channels, model.input_channels, 3, 3});
  int64_t inputs = model.stem_channels;
  for (size_t s = 0; s < model.stage_channels.size(); ++s) {
    const int64_t outputs = model.stage_channels[s], half = outputs / 2;
    for (int64_t u = 0; u < model.stage_repeats[s]; ++u) {
      const std::string unit = join("stage", s + 2, ".", u, ".");
      const std::string main = unit + (torchvision ? "branch2." : "branch_main.");
      const int64_t projected = torchvision ? half : inputs;
      if (u == 0) {
        const std::string projection = unit + (torchvision ? "branch1." : "branch_proj.");
        block(projection, 0, {inputs, 1, 3, 3});
        block(projection, 2, {projected, inputs, 1, 1});
      }
      block(main, 0, {half, u == 0 ? inputs : half, 1, 1});
      block(main, 3, {half, 1, 3, 3});
      block(main, 5, {u == 0 ? outputs - projected : half, half, 1, 1});
    }
    inputs = outputs;
  }
  block("conv5.", 0, {model.head_channels, inputs, 1, 1});
  shapes["fc.weight"] = {model.classes, model.head_channels};
  if (model.dialect != Dialect::kMegvii) shapes["fc.bias"] = {model.classes};
  return shapes;
}

HostTensor as_f32(const HostTensor& tensor, const std::string& what) {
  if (tensor.dtype == FileDType::kF32) return tensor;
  const std::vector<float> values = to_f32(tensor, what);
  HostTensor result{FileDType::kF32, tensor.shape, std::vector<uint8_t>(values.size() * sizeof(float))};
  if (!values.empty()) std::memcpy(result.bytes.data(), values.data(), result.bytes.size());
  return result;
}

class Mapping {
 public:
  Mapping(const TensorMap& file, ConvertedModel& result, const std::string& path)
      : file_(file), result_(result), path_(path) {}

  void run() {
    const ShuffleNetV2Config& model = result_.metadata.model;
    const auto shapes = expected_shapes(model);
    for (const NamePair& pair : name_pairs(result_.naming, model)) take(pair, shapes.at(pair.native));
    take_counters(counter_pairs(result_.naming, model));
    for (const auto& [name, tensor] : file_) {
      if (known_.count(name) != 0) continue;
      const std::string reason = reason_to_ignore(name);
      if (reason.empty()) {
        result_.reconciliation.unexpected.push_back(name);
      } else {
        ++result_.reconciliation.ignored[reason];
      }
    }
    for (const auto& [dtype, count] : converted_) {
      const bool exact = dtype == FileDType::kF16 || dtype == FileDType::kBF16;
      result_.notes.push_back(
          join(count, " tensors of ", name_of(dtype), " stored as f32", exact ? ", exactly" : ", rounded"));
    }
  }

 private:
  void take(const NamePair& pair, const std::vector<int64_t>& expected) {
    Reconciliation& report = result_.reconciliation;
    const auto found = file_.find(pair.file);
    if (found == file_.end()) {
      report.missing.push_back(pair.file);
      return;
    }
    known_.insert(pair.file);
    const HostTensor& source = found->second;
    if (!converts_to_f32(source.dtype)) {
      report.mismatched.push_back(join(pair.file, " (", name_of(source.dtype), ", expected floating point)"));
      return;
    }
    const bool fits = has_rank(source, pair.layout);
    HostTensor tensor = fits ? from_file_layout(source, pair.layout, pair.file) : source;
    if (!fits || tensor.shape != expected) {
      report.mismatched.push_back(join(pair.file, " (file ", shape_text(source.shape), ", expected ",
                                       expected_text(pair.layout, expected), ")"));
      return;
    }
    if (tensor.dtype != FileDType::kF32) ++converted_[tensor.dtype];
    tensor = as_f32(tensor, join(path_, ": tensor '", pair.file, "'"));
    const OddValues odd = count_odd_values(pair.file, tensor);
    if (odd.nans + odd.infinities + odd.denormals > 0) report.odd.push_back(odd);
    ++report.matched;
    result_.tensors.emplace(pair.native, std::move(tensor));
  }

  // Kept, so that what is written as .pth again is what was read.
  void take_counters(const std::vector<NamePair>& pairs) {
    for (const NamePair& pair : pairs) {
      const auto found = file_.find(pair.file);
      if (found == file_.end() || found->second.dtype != FileDType::kI64 || found->second.elements() != 1) continue;
      known_.insert(pair.file);
      ++result_.reconciliation.counters;
      result_.tensors.emplace(pair.native, found->second);
    }
  }

  static bool has_rank(const HostTensor& tensor, FileLayout layout) {
    const size_t rank = tensor.shape.size();
    switch (layout) {
      case FileLayout::kSame:
        return true;
      case FileLayout::kConvolution:
        return rank == 4;
      case FileLayout::kDepthwise:
        return rank == 3 || rank == 4;
      case FileLayout::kTransposed:
        return rank == 2;
    }
    fail("unknown layout ", static_cast<int>(layout));
  }

  // In the file's order of axes.
  static std::string expected_text(FileLayout layout, const std::vector<int64_t>& native) {
    switch (layout) {
      case FileLayout::kSame:
        return shape_text(native);
      case FileLayout::kConvolution:
        return shape_text({native[2], native[3], native[1], native[0]});
      case FileLayout::kDepthwise:
        return shape_text({native[2], native[3], native[0], native[1]});
      case FileLayout::kTransposed:
        return shape_text({native[1], native[0]});
    }
    fail("unknown layout ", static_cast<int>(layout));
  }

  const TensorMap& file_;
  ConvertedModel& result_;
  const std::string& path_;
  std::set<std::string> known_;
  std::map<FileDType, int64_t> converted_;
};

void add_preprocessing(ConvertedModel& result, const ConvertOptions& options, const std::string& path) {
  const std::optional<bool> bgr = options.bgr;
  CheckpointMetadata& metadata = result.metadata;
  if (metadata.model.input_channels != 3) {
    fail(path, " reads gray images; no published weights do, so that its preprocessing is not known");
  }
  ShuffleNetV2Config like = metadata.model;
  if (options.preprocessing) {
    like.dialect = *options.preprocessing;
    result.notes.push_back(join("preprocessing is the ", name_of(like.dialect), " dialect's, as asked"));
  }
  PublishedPreprocessing published = published_preprocessing(like);
  if (result.naming == Naming::kKeras && !options.preprocessing) {  // RGB, and Keras's own resizing of whole images
    published.transform = EvalTransform{};
    published.normalisation = Normalisation{};
    result.notes.emplace_back(
        "the tutorial feeds RGB with torchvision's mean and std, and squashes images to 224x224 with the nearest "
        "pixel; "
        "stored is the same normalisation with torchvision's resizing, which keeps the aspect");
  }
  if (bgr && *bgr != published.normalisation.reverse_channels) {
    published.normalisation.reverse_channels = *bgr;
    std::reverse(published.normalisation.mean.begin(), published.normalisation.mean.end());
    std::reverse(published.normalisation.std.begin(), published.normalisation.std.end());
    result.notes.push_back(
        join("colours are stored as ", *bgr ? "BGR" : "RGB", ", as asked, which is not the dialect's order"));
  }
  metadata.preprocessing = published.transform;
  metadata.normalisation = published.normalisation;
}

void add_classes(ConvertedModel& result, const std::vector<std::string>& classes, const std::string& path) {
  CheckpointMetadata& metadata = result.metadata;
  const int64_t count = metadata.model.classes;
  if (!classes.empty()) {
    if (static_cast<int64_t>(classes.size()) != count) {
      fail(path, " has ", count, " classes, but ", classes.size(), " names are given with --classes");
    }
    metadata.classes = classes;
  } else if (!result.own) {
    metadata.classes = imagenet_wnids();
    if (static_cast<int64_t>(metadata.classes.size()) == count) {
      result.notes.emplace_back("1000 classes: taken for ImageNet's, in the order of their WordNet ids");
      return;
    }
    metadata.classes.clear();
    for (int64_t i = 0; i < count; ++i) metadata.classes.push_back(std::to_string(i));
    result.notes.push_back(join("classes are named \"0\" to \"", count - 1, "\"; give names with --classes FILE"));
  }
}

// Of a checkpoint that Riffle wrote: what it says of itself, which claims may not contradict.
void read_own(const TensorFile& file, const ConvertOptions& options, const std::string& path, ConvertedModel& result) {
  result.own = true;
  result.metadata = metadata_from_json(file.metadata, path);
  const ShuffleNetV2Config& model = result.metadata.model;
  if (options.claims.dialect && *options.claims.dialect != model.dialect) {
    fail(path, " says that it is of the ", name_of(model.dialect), " dialect, --dialect says ",
         name_of(*options.claims.dialect), "; leave --dialect out, or use --to for a conversion");
  }
  if (options.claims.width &&
      ShuffleNetV2Config::published(*options.claims.width, model.dialect).width_name() != model.width_name()) {
    fail(path, " says that its width is ", model.width_name(), ", --width says ", *options.claims.width);
  }
  if (options.claims.stem_stride.value_or(model.stem_stride) != model.stem_stride ||
      options.claims.stem_max_pool.value_or(model.stem_max_pool) != model.stem_max_pool) {
    fail(path, " says that its stem has stride ", model.stem_stride, model.stem_max_pool ? " and" : " and no",
         " max-pool; --stem-stride and --stem-max-pool contradict that");
  }
}

// Of a Riffle checkpoint, the weights asked for and nothing else.
TensorMap own_weights(const TensorFile& file, ConvertedModel& result, bool averages, const std::string& path) {
  TensorMap tensors;
  const std::string prefix = kAveragePrefix;
  const bool beside = averages && !result.metadata.averaged;
  for (const auto& [name, tensor] : file.tensors) {
    const bool average = name.rfind(prefix, 0) == 0;
    if (average != beside) {
      if (average) ++result.reconciliation.ignored["moving averages"];
    } else {
      tensors.emplace(average ? name.substr(prefix.size()) : name, tensor);
    }
  }
  if (beside && tensors.empty()) fail(path, " has no moving averages; train with ema.decay to get them");
  if (beside) result.metadata.averaged = true;
  return tensors;
}

}  // namespace

ConvertedModel convert(const TensorFile& file, const ConvertOptions& options, const std::string& path) {
  ConvertedModel result;
  result.notes = file.notes;
  if (is_own(file)) {
    if (options.bgr)
      fail_usage(path, " says in which order it reads colours; --channel-order is for files that do not");
    read_own(file, options, path, result);
    Mapping(own_weights(file, result, options.averages, path), result, path).run();
  } else {
    if (options.averages)
      fail_usage(path, " is not a Riffle checkpoint; --entry ema is for those and for PyTorch's files");
    TensorFile plain = file;
    plain.tensors = with_keras_paths(without_output_numbers(file.tensors, path), path);
    const InferredModel inferred = infer_model(plain, options.claims, path);
    result.naming = inferred.naming;
    result.metadata.model = inferred.model;
    result.metadata.riffle_version = kVersion;
    Mapping(plain.tensors, result, path).run();
    add_preprocessing(result, options, path);
  }
  add_classes(result, options.classes, path);
  return result;
}

void check(const ConvertedModel& converted, bool allow_unexpected, bool allow_nonfinite, const std::string& path) {
  const Reconciliation& report = converted.reconciliation;
  if (!report.missing.empty() || !report.mismatched.empty()) {
    fail(path, " is not a whole ", describe(converted.metadata.model), ": ", report.missing.size(),
         " tensors are missing, ", report.mismatched.size(), " have another shape or type, ", report.unexpected.size(),
         " are unexpected");
  }
  if (!report.unexpected.empty() && !allow_unexpected) {
    fail(path, " has ", report.unexpected.size(), " tensors that are not ", describe(converted.metadata.model),
         "'s; --allow-unexpected leaves them out");
  }
  if (report.nonfinite_tensors() > 0 && !allow_nonfinite) {
    fail(path, ": ", report.nonfinite_tensors(),
         " tensors have values that are NaN or infinite; its training diverged or the "
         "file is damaged. --allow-nonfinite converts it nevertheless");
  }
}

TensorMap to_naming(const TensorMap& tensors, const ShuffleNetV2Config& model, Naming naming) {
  TensorMap result;
  for (const NamePair& pair : name_pairs(naming, model)) {
    result.emplace(pair.file, to_file_layout(tensors.at(pair.native), pair.layout, pair.native));
  }
  for (const NamePair& pair : counter_pairs(naming, model)) {
    const auto found = tensors.find(pair.native);
    const HostTensor zero{FileDType::kI64, {}, std::vector<uint8_t>(sizeof(int64_t))};
    result.emplace(pair.file, found == tensors.end() ? zero : found->second);
  }
  return result;
}

}  // namespace riffle
