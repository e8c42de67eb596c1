// From names and shapes to a ShuffleNetV2Config.
#include "train/checkpoint/infer_model.h"

#include <algorithm>
#include <map>

#include "train/text.h"

namespace riffle {
namespace {

constexpr size_t kStages = 3;
constexpr int64_t kMostUnits = 1 << 10;

std::string first_names(const TensorMap& tensors) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : tensors) {
    if (reason_to_ignore(name).empty()) names.push_back(name);
  }
  return names.empty() ? "none" : format_names(names);
}

// One name of each naming that occurs in the file.
std::map<Naming, std::string> examples_of_namings(const TensorMap& tensors) {
  std::map<Naming, std::string> examples;
  for (const auto& [name, tensor] : tensors) {
    if (!reason_to_ignore(name).empty()) continue;
    if (const auto kind = recognise(name)) examples.emplace(kind->naming, name);
  }
  return examples;
}

Naming find_naming(const TensorFile& file, const std::string& path) {
  const std::map<Naming, std::string> examples = examples_of_namings(file.tensors);
  if (examples.empty()) {
    fail(path,
         ": its names are none of ShuffleNetV2's that are known, which are torchvision's, Megvii's, tensorpack's, "
         "the Keras tutorial's and Riffle's own. Its ",
         file.tensors.size(), " tensors: ", first_names(file.tensors));
  }
  if (examples.size() > 1) {
    std::string list;
    for (const auto& [naming, name] : examples)
      list += join(list.empty() ? "" : ", ", format_names({name}), " is ", describe(naming));
    fail(path, " has names of several kinds, so that its dialect cannot be told: ", list);
  }
  return examples.begin()->first;
}

// Which dialect the names are of, and why.
struct NamedDialect {
  Dialect dialect;
  std::string evidence;
};

NamedDialect find_dialect(const TensorFile& file, Naming naming, const std::string& path) {
  if (naming == Naming::kTensorpack) return {Dialect::kTensorpack, "its names are tensorpack's"};
  if (naming == Naming::kKeras)
    return {Dialect::kTensorpack, "its names are the Keras tutorial's, whose network is tensorpack's"};
  if (naming == Naming::kMegvii) return {Dialect::kMegvii, "its names are Megvii's"};
  std::string torchvision, other;
  for (const auto& [name, tensor] : file.tensors) {
    if (!recognise(name)) continue;
    std::string& example = name.find(".branch_") == std::string::npos ? torchvision : other;
    if (example.empty()) example = name;
  }
  if (!torchvision.empty() && !other.empty()) {
    fail(path, " has names of two dialects: ", format_names({torchvision}), " is torchvision's, ",
         format_names({other}), " is not");
  }
  if (!torchvision.empty())
    return {Dialect::kTorchvision, "its names are torchvision's, " + format_names({torchvision})};
  const bool bias = file.tensors.count("fc.bias") != 0;
  return {bias ? Dialect::kTensorpack : Dialect::kMegvii,
          join("its names have branch_proj and branch_main, and its classifier ", bias ? "a bias" : "no bias")};
}

// Units of each stage. Where names count units through all stages, those that project begin a stage.
std::vector<int64_t> find_repeats(const TensorFile& file, const std::string& path) {
  std::map<int64_t, int64_t> units;   // stage -> its number of units
  std::map<int64_t, bool> all_units;  // number through all stages -> whether it projects
  for (const auto& [name, tensor] : file.tensors) {
    const auto kind = recognise(name);
    if (!kind || !reason_to_ignore(name).empty()) continue;
    if (kind->unit.unit >= kMostUnits) fail(path, ": '", name, "' would be unit ", kind->unit.unit, " of a stage");
    if (kind->unit.stage >= 0) {
      int64_t& count = units[kind->unit.stage];
      count = std::max(count, kind->unit.unit + 1);
    } else {
      all_units[kind->unit.unit] |= kind->unit.projects;
    }
  }
  int64_t stage = -1, begin = 0;
  for (const auto& [unit, projects] : all_units) {
    if (projects) {
      ++stage;
      begin = unit;
    }
    if (stage < 0) fail(path, ": its first unit, features.", unit, ", has no branch_proj, so no stage begins there");
    units[stage] = unit + 1 - begin;
  }
  std::vector<int64_t> repeats;
  for (const auto& [number, count] : units) repeats.push_back(count);
  if (units.size() != kStages || units.begin()->first != 0 || units.rbegin()->first != kStages - 1) {
    fail(path, " has ", units.size(), " stages; ShuffleNetV2 has ", kStages, ", stage2 to stage4");
  }
  return repeats;
}

// Reads extents of tensors by their native names.
class Shapes {
 public:
  Shapes(const TensorFile& file, const std::vector<NamePair>& pairs, const std::string& path)
      : file_(file), path_(path) {
    for (const NamePair& pair : pairs) by_native_.emplace(pair.native, pair);
  }

  // In our order of axes.
  int64_t extent(const std::string& native, size_t axis) const {
    const NamePair& pair = by_native_.at(native);
    const auto found = file_.tensors.find(pair.file);
    if (found == file_.tensors.end()) fail(path_, " lacks '", pair.file, "', without which its channels are not known");
    const std::vector<int64_t>& shape = found->second.shape;
    const size_t rank = pair.layout == FileLayout::kTransposed || native == "fc.weight" ? 2 : 4;
    if (shape.size() != rank) {
      fail(path_, ": '", pair.file, "' has shape ", shape_text(shape), "; expected ", rank, " axes");
    }
    const bool reversed = pair.layout == FileLayout::kConvolution || pair.layout == FileLayout::kTransposed;
    const int64_t size = shape[reversed ? rank - 1 - axis : axis];
    if (size < 1 || size > (1 << 20)) fail(path_, ": '", pair.file, "' has shape ", shape_text(shape));
    return size;
  }

 private:
  const TensorFile& file_;
  const std::string& path_;
  std::map<std::string, NamePair> by_native_;
};

void read_channels(const Shapes& shapes, ShuffleNetV2Config& model, const std::string& path) {
  const bool torchvision = model.dialect == Dialect::kTorchvision;
  model.stem_channels = shapes.extent("conv1.0.weight", 0);
  model.input_channels = shapes.extent("conv1.0.weight", 1);
  for (size_t s = 0; s < kStages; ++s) {
    const std::string unit = join("stage", s + 2, ".0.");
    model.stage_channels[s] = shapes.extent(unit + (torchvision ? "branch1.2.weight" : "branch_proj.2.weight"), 0) +
                              shapes.extent(unit + (torchvision ? "branch2.5.weight" : "branch_main.5.weight"), 0);
    if (model.stage_channels[s] % 2 != 0) {
      fail(path, ": stage", s + 2, " would have ", model.stage_channels[s], " channels; expected an even number");
    }
  }
  model.head_channels = shapes.extent("conv5.0.weight", 0);
  model.classes = shapes.extent("fc.weight", 0);
  if (model.input_channels != 1 && model.input_channels != 3) {
    fail(path, " reads images of ", model.input_channels, " channels; expected 3 or 1");
  }
}

void check_width(const ShuffleNetV2Config& model, const std::string& width, const std::string& path) {
  const ShuffleNetV2Config claimed = ShuffleNetV2Config::published(width, model.dialect);
  if (claimed.width_name() == model.width_name()) return;
  const auto channels = [](const ShuffleNetV2Config& config) {
    return join(config.stage_channels[0], ", ", config.stage_channels[1], ", ", config.stage_channels[2], " and ",
                config.head_channels);
  };
  fail(path, " has ", channels(model), " channels (", model.width_name(), "); --width ", width, " would have ",
       channels(claimed), ". Leave --width out");
}

void check_dialect(const NamedDialect& found, Dialect claimed, const std::string& path) {
  if (found.dialect == claimed) return;
  fail(
      path, " is of the ", name_of(found.dialect), " dialect: ", found.evidence, ". --dialect ", name_of(claimed),
      " contradicts that; the networks differ in the order of channels even where shapes agree, so that a rename would "
      "load and be wrong. Leave --dialect out, or use --to ",
      name_of(claimed), " for an exact conversion where there is one");
}

}  // namespace

InferredModel infer_model(const TensorFile& file, const ModelClaims& claims, const std::string& path) {
  InferredModel inferred;
  inferred.naming = find_naming(file, path);
  const NamedDialect dialect = find_dialect(file, inferred.naming, path);
  if (claims.dialect) check_dialect(dialect, *claims.dialect, path);
  ShuffleNetV2Config& model = inferred.model;
  model.dialect = dialect.dialect;
  model.stage_repeats = find_repeats(file, path);
  read_channels(Shapes(file, name_pairs(inferred.naming, model), path), model, path);
  const std::string width = model.width_name();
  if (width != "custom") model.dropout = ShuffleNetV2Config::published(width, model.dialect).dropout;
  if (claims.width) check_width(model, *claims.width, path);
  if (claims.stem_stride) model.stem_stride = *claims.stem_stride;
  if (claims.stem_max_pool) model.stem_max_pool = *claims.stem_max_pool;
  return inferred;
}

std::string describe(const ShuffleNetV2Config& model) {
  return join("ShuffleNetV2 ", model.width_name(), " (", name_of(model.dialect), "), ", model.classes, " classes");
}

}  // namespace riffle
