// Tables of names, made from one walk over the network's blocks.
#include "train/checkpoint/name_map.h"

#include <algorithm>
#include <functional>
#include <iterator>
#include <regex>

namespace riffle {
namespace {

// A convolution and its norm. Stage -1: the stem or, with `last`, the head.
struct Block {
  int64_t stage = -1, unit = 0, unit_of_all = 0;
  bool last = false, projection = false, depthwise = false;
  int64_t number = 0;  // of the convolution within its branch, as PyTorch numbers layers; the norm's is one more
};

std::vector<Block> blocks_of(const std::vector<int64_t>& stage_repeats) {
  std::vector<Block> blocks{Block{}};
  int64_t unit_of_all = 0;
  for (size_t s = 0; s < stage_repeats.size(); ++s) {
    for (int64_t u = 0; u < stage_repeats[s]; ++u, ++unit_of_all) {
      const auto add = [&](bool projection, bool depthwise, int64_t number) {
        blocks.push_back({static_cast<int64_t>(s), u, unit_of_all, false, projection, depthwise, number});
      };
      if (u == 0) add(true, true, 0);
      if (u == 0) add(true, false, 2);
      add(false, false, 0);
      add(false, true, 3);
      add(false, false, 5);
    }
  }
  Block head;
  head.last = true;
  blocks.push_back(head);
  return blocks;
}

std::string riffle_prefix(const Block& block, Dialect dialect) {
  if (block.stage < 0) return block.last ? "conv5." : "conv1.";
  const bool torchvision = dialect == Dialect::kTorchvision;
  const char* branch =
      block.projection ? (torchvision ? "branch1" : "branch_proj") : (torchvision ? "branch2" : "branch_main");
  return join("stage", block.stage + 2, ".", block.unit, ".", branch, ".");
}

std::string megvii_prefix(const Block& block) {
  if (block.stage < 0) return block.last ? "conv_last." : "first_conv.";
  return join("features.", block.unit_of_all, block.projection ? ".branch_proj." : ".branch_main.");
}

// tensorpack calls a unit's layers conv1, dconv, conv2, shortcut_dconv and shortcut_conv; the norm of a depthwise one is
// beside it, the others' norms are inside.
std::string tensorpack_layer(const Block& block) {
  if (block.stage < 0) return block.last ? "conv5" : "conv1";
  const std::string unit = join("stage", block.stage + 2, "/block", block.unit, "/");
  if (block.projection) return unit + (block.depthwise ? "shortcut_dconv" : "shortcut_conv");
  return unit + (block.depthwise ? "dconv" : block.number == 0 ? "conv1" : "conv2");
}

// The attributes of the tutorial's classes.
std::string keras_layer(const Block& block) {
  if (block.stage < 0) return block.last ? "conv5_bn_relu/" : "conv1_bn_relu/";
  const std::string unit = join("stage", block.stage + 2, "/ops/", block.unit, "/");
  if (block.projection) return unit + (block.depthwise ? "shortcut_dconv_bn/" : "shortcut_conv_bn_relu/");
  return unit + (block.depthwise ? "dconv_bn/" : block.number == 0 ? "conv1_bn_relu/" : "conv2_bn_relu/");
}

// What follows the name of a norm, in the order weight, bias, running_mean, running_var.
constexpr const char* kRiffleNorm[] = {"weight", "bias", "running_mean", "running_var"};
constexpr const char* kTensorpackNorm[] = {"gamma", "beta", "mean/EMA", "variance/EMA"};
constexpr const char* kKerasNorm[] = {"gamma", "beta", "moving_mean", "moving_variance"};

// A file's names of one block: its filter, and its norm without the last part.
struct BlockNames {
  std::string filter, norm;
};

BlockNames block_names(Naming naming, Dialect dialect, const Block& block) {
  switch (naming) {
    case Naming::kRiffle:
    case Naming::kMegvii: {
      const std::string prefix = naming == Naming::kMegvii ? megvii_prefix(block) : riffle_prefix(block, dialect);
      return {join(prefix, block.number, ".weight"), join(prefix, block.number + 1, ".")};
    }
    case Naming::kTensorpack: {
      const std::string layer = tensorpack_layer(block);
      return {layer + "/W", layer + (block.depthwise ? "_bn/" : "/bn/")};
    }
    case Naming::kKeras: {
      const std::string layer = keras_layer(block);
      return {layer + (block.depthwise ? "dconv/depthwise_kernel" : "conv/kernel"), layer + "bn/"};
    }
  }
  fail("unknown naming ", static_cast<int>(naming));
}

struct ClassifierNames {
  const char *weight, *bias;
};

ClassifierNames classifier_names(Naming naming) {
  switch (naming) {
    case Naming::kRiffle:
      return {"fc.weight", "fc.bias"};
    case Naming::kMegvii:
      return {"classifier.0.weight", "classifier.0.bias"};
    case Naming::kTensorpack:
      return {"linear/W", "linear/b"};
    case Naming::kKeras:
      return {"linear/kernel", "linear/bias"};
  }
  fail("unknown naming ", static_cast<int>(naming));
}

bool is_tensorflow(Naming naming) {
  return naming == Naming::kTensorpack || naming == Naming::kKeras;
}

// How a layout's axes are permuted: axis i of the result is axis order[i] of the source.
HostTensor permuted(const HostTensor& source, const std::vector<size_t>& order) {
  HostTensor result{source.dtype, {}, std::vector<uint8_t>(source.bytes.size())};
  const size_t rank = order.size(), element = size_of(source.dtype);
  std::vector<size_t> stride(rank, element);  // of the source, in bytes
  for (size_t axis = rank - 1; axis > 0; --axis) {
    stride[axis - 1] = stride[axis] * static_cast<size_t>(source.shape[axis]);
  }
  for (const size_t axis : order) result.shape.push_back(source.shape[axis]);
  size_t target = 0;
  const std::function<void(size_t, size_t)> copy = [&](size_t axis, size_t from) {
    if (axis == rank) {
      std::copy_n(source.bytes.begin() + static_cast<std::ptrdiff_t>(from), element,
                  result.bytes.begin() + static_cast<std::ptrdiff_t>(target));
      target += element;
      return;
    }
    for (int64_t i = 0; i < result.shape[axis]; ++i)
      copy(axis + 1, from + static_cast<size_t>(i) * stride[order[axis]]);
  };
  if (!source.bytes.empty()) copy(0, 0);
  return result;
}

void check_rank(const HostTensor& tensor, size_t rank, const std::string& what) {
  if (tensor.shape.size() != rank) {
    fail(what, " has shape ", shape_text(tensor.shape), "; expected ", rank, " axes");
  }
}

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

}  // namespace

const char* describe(Naming naming) {
  switch (naming) {
    case Naming::kRiffle:
      return "torchvision's or Riffle's (stage2.0.branch...)";
    case Naming::kMegvii:
      return "Megvii's (features.0.branch_main...)";
    case Naming::kTensorpack:
      return "tensorpack's (stage2/block0/conv1/W)";
    case Naming::kKeras:
      return "the Keras tutorial's (stage2/ops/0/conv1_bn_relu/conv/kernel)";
  }
  fail("unknown naming ", static_cast<int>(naming));
}

std::vector<NamePair> name_pairs(Naming naming, const ShuffleNetV2Config& model) {
  const bool tensorflow = is_tensorflow(naming);
  const char* const* norm = !tensorflow ? kRiffleNorm : naming == Naming::kKeras ? kKerasNorm : kTensorpackNorm;
  std::vector<NamePair> pairs;
  for (const Block& block : blocks_of(model.stage_repeats)) {
    const BlockNames native = block_names(Naming::kRiffle, model.dialect, block);
    const BlockNames file = block_names(naming, model.dialect, block);
    const FileLayout layout = block.depthwise ? FileLayout::kDepthwise : FileLayout::kConvolution;
    pairs.push_back({native.filter, file.filter, tensorflow ? layout : FileLayout::kSame});
    for (size_t i = 0; i < std::size(kRiffleNorm); ++i) {
      pairs.push_back({native.norm + kRiffleNorm[i], file.norm + norm[i], FileLayout::kSame});
    }
  }
  const ClassifierNames native = classifier_names(Naming::kRiffle), file = classifier_names(naming);
  pairs.push_back({native.weight, file.weight, tensorflow ? FileLayout::kTransposed : FileLayout::kSame});
  if (model.dialect != Dialect::kMegvii) pairs.push_back({native.bias, file.bias, FileLayout::kSame});
  return pairs;
}

std::vector<NamePair> counter_pairs(Naming naming, const ShuffleNetV2Config& model) {
  std::vector<NamePair> pairs;
  if (is_tensorflow(naming)) return pairs;
  const std::string counter = "num_batches_tracked";
  for (const Block& block : blocks_of(model.stage_repeats)) {
    pairs.push_back({block_names(Naming::kRiffle, model.dialect, block).norm + counter,
                     block_names(naming, model.dialect, block).norm + counter, FileLayout::kSame});
  }
  return pairs;
}

std::optional<NameKind> recognise(const std::string& name) {
  if (name.size() > kLongestName) return std::nullopt;
  static const std::regex kRiffle(R"(stage([2-9])\.(\d{1,4})\.(branch1|branch_proj|branch2|branch_main)\..*)");
  static const std::regex kMegvii(R"(features\.(\d{1,4})\.(branch_proj|branch_main)\..*)");
  static const std::regex kTensorpack(R"(stage([2-9])/block(\d{1,4})/(shortcut_)?(d?conv).*)");
  static const std::regex kKeras(R"(stage([2-9])/ops/(\d{1,4})/(shortcut_)?(d?conv).*)");
  std::smatch part;
  if (std::regex_match(name, part, kMegvii)) {
    return NameKind{Naming::kMegvii, {-1, std::stoll(part[1]), part[2] == "branch_proj"}};
  }
  for (const auto& [naming, pattern] : {std::pair<Naming, const std::regex*>{Naming::kRiffle, &kRiffle},
                                        {Naming::kTensorpack, &kTensorpack},
                                        {Naming::kKeras, &kKeras}}) {
    if (!std::regex_match(name, part, *pattern)) continue;
    const bool projects = part[3] == "branch1" || part[3] == "branch_proj" || part[3] == "shortcut_";
    return NameKind{naming, {std::stoll(part[1]) - 2, std::stoll(part[2]), projects}};
  }
  return std::nullopt;
}

HostTensor from_file_layout(const HostTensor& tensor, FileLayout layout, const std::string& what) {
  switch (layout) {
    case FileLayout::kSame:
      return tensor;
    case FileLayout::kConvolution:
      check_rank(tensor, 4, what);
      return permuted(tensor, {3, 2, 0, 1});
    case FileLayout::kDepthwise: {
      HostTensor source = tensor;
      if (source.shape.size() == 3) source.shape.push_back(1);
      check_rank(source, 4, what);
      return permuted(source, {2, 3, 0, 1});
    }
    case FileLayout::kTransposed:
      check_rank(tensor, 2, what);
      return permuted(tensor, {1, 0});
  }
  fail("unknown layout ", static_cast<int>(layout));
}

HostTensor to_file_layout(const HostTensor& tensor, FileLayout layout, const std::string& what) {
  switch (layout) {
    case FileLayout::kSame:
      return tensor;
    case FileLayout::kConvolution:
      check_rank(tensor, 4, what);
      return permuted(tensor, {2, 3, 1, 0});
    case FileLayout::kDepthwise:
      check_rank(tensor, 4, what);
      return permuted(tensor, {2, 3, 0, 1});
    case FileLayout::kTransposed:
      check_rank(tensor, 2, what);
      return permuted(tensor, {1, 0});
  }
  fail("unknown layout ", static_cast<int>(layout));
}

std::string reason_to_ignore(const std::string& name) {
  if (ends_with(name, "num_batches_tracked") || name == "n_averaged") return "batch counters";
  if (name.size() > kLongestName) return "";
  static const std::regex kSlots(R"(.*/(Momentum|Adam|Adam_1|RMSProp|RMSProp_1|Adagrad|AccumGrad)(:0)?)");
  static const std::regex kOptimizer(
      R"((optimizer|optim|momentum_buffer)[./].*|.*[./]momentum_buffer|.*\.OPTIMIZER_SLOT.*)");
  // Keras: the slots of a variable, and the optimizer's own numbers.
  static const std::regex kKeras(
      R"(.*/(kernel|depthwise_kernel|bias|gamma|beta|W|b)/(m|v|vhat|rms|momentum|ExponentialMovingAverage)(:0)?|)"
      R"((.*/)?(SGD|Adam|RMSprop|Adagrad)/(iter|decay|momentum|beta_[12]|learning_rate|rho|iterations)(:0)?)");
  if (std::regex_match(name, kSlots) || std::regex_match(name, kOptimizer) || std::regex_match(name, kKeras))
    return "optimizer state";
  static const std::regex kCounters(
      R"((.*/)?(global_step|learning_rate|beta[12]_power|save_counter|iterations?)(:0)?)");
  if (std::regex_match(name, kCounters)) return "counters and learning rates";
  if (name.rfind("EMA/", 0) == 0) return "averages of a training's statistics";
  return "";
}

}  // namespace riffle
