// Channel labels are run through both dialects' shuffles (layers/channel_routing.h). What a branch writes is grouped by
// who reads it; where the groups have the same sizes in both, channels of one group take the other group's places.
#include "train/checkpoint/dialect_conversion.h"

#include <algorithm>
#include <numeric>

#include "layers/channel_routing.h"

namespace riffle {
namespace {

// Channel i of the new network is channel from[i] of the old one; empty: i.
using Channels = Permutation;

// new_order[t] of the new network is old_order[t] of the old one.
Channels matching(const Permutation& new_order, const Permutation& old_order) {
  Channels from(new_order.size());
  for (size_t t = 0; t < new_order.size(); ++t) from[static_cast<size_t>(new_order[t])] = old_order[t];
  return from;
}

bool same_groups(const ChannelRouting& a, const ChannelRouting& b) {
  const auto equal = [](const ChannelRouting::Slice& x, const ChannelRouting::Slice& y) {
    return x.consumer == y.consumer && x.first == y.first && x.count == y.count && x.begin == y.begin;
  };
  if (a.slices.size() != b.slices.size()) return false;
  for (size_t i = 0; i < a.slices.size(); ++i) {
    if (!std::equal(a.slices[i].begin(), a.slices[i].end(), b.slices[i].begin(), b.slices[i].end(), equal))
      return false;
  }
  return true;
}

// Selects along the first two axes (outputs, inputs).
HostTensor select(const HostTensor& source, const Channels& outputs, const Channels& inputs) {
  HostTensor result = source;
  const auto rows = static_cast<size_t>(source.shape.at(0));
  const auto columns = inputs.empty() ? 1 : static_cast<size_t>(source.shape.at(1));
  const size_t cell = source.bytes.size() / (rows * columns);
  for (size_t row = 0; row < rows; ++row) {
    const size_t from_row = outputs.empty() ? row : static_cast<size_t>(outputs[row]);
    for (size_t column = 0; column < columns; ++column) {
      const size_t from_column = inputs.empty() ? column : static_cast<size_t>(inputs[column]);
      std::copy_n(source.bytes.begin() + static_cast<std::ptrdiff_t>((from_row * columns + from_column) * cell), cell,
                  result.bytes.begin() + static_cast<std::ptrdiff_t>((row * columns + column) * cell));
    }
  }
  return result;
}

class Conversion {
 public:
  Conversion(const ShuffleNetV2Config& model, const TensorMap& tensors, Dialect to, const std::string& path)
      : from_(model), old_(tensors), path_(path) {
    result_.model = model;
    result_.model.dialect = to;
  }

  DialectConversion run() {
    copy_block("conv1.", "conv1.", 0, {}, {});
    Channels inputs;  // of the next stage
    int64_t channels = from_.stem_channels;
    for (size_t s = 0; s < from_.stage_channels.size(); ++s) {
      inputs =
          convert_stage(s, inputs, from_.dialect == Dialect::kTorchvision ? from_.stage_channels[s] / 2 : channels);
      channels = from_.stage_channels[s];
    }
    copy_block("conv5.", "conv5.", 0, {}, inputs);
    result_.tensors["fc.weight"] = old_.at("fc.weight");
    convert_bias();
    return std::move(result_);
  }

 private:
  // Returns the permutation of the stage's outputs.
  Channels convert_stage(size_t stage, const Channels& inputs, int64_t projected) {
    const int64_t units = from_.stage_repeats[stage], channels = from_.stage_channels[stage];
    const ChannelRouting old_routing = route_channels(from_.dialect, units, channels, projected);
    const ChannelRouting new_routing = route_channels(result_.model.dialect, units, channels, projected);
    if (!same_groups(old_routing, new_routing)) {
      fail(path_, ": stage", stage + 2, " has ", channels, " channels in ", units, " units, which ",
           name_of(from_.dialect), " and ", name_of(result_.model.dialect),
           " hand on in groups of different sizes; no permutation makes them equal");
    }
    const auto outputs_of = [&](size_t branch) {
      return matching(new_routing.branch_orders[branch], old_routing.branch_orders[branch]);
    };
    const auto inputs_of = [&](size_t consumer) {
      return matching(new_routing.consumer_orders[consumer], old_routing.consumer_orders[consumer]);
    };
    convert_branch(stage, 0, /*projection=*/true, inputs, outputs_of(0));
    for (int64_t unit = 0; unit < units; ++unit) {
      const auto number = static_cast<size_t>(unit);
      convert_branch(stage, unit, /*projection=*/false, unit == 0 ? inputs : inputs_of(number - 1),
                     outputs_of(number + 1));
    }
    return inputs_of(static_cast<size_t>(units) - 1);
  }

  void convert_branch(size_t stage, int64_t unit, bool projection, const Channels& inputs, const Channels& outputs) {
    const auto prefix = [&](Dialect dialect) {
      const bool torchvision = dialect == Dialect::kTorchvision;
      const char* branch =
          projection ? (torchvision ? "branch1." : "branch_proj.") : (torchvision ? "branch2." : "branch_main.");
      return join("stage", stage + 2, ".", unit, ".", branch);
    };
    const std::string before = prefix(from_.dialect), after = prefix(result_.model.dialect);
    if (projection) {
      copy_block(before, after, 0, inputs, {});  // depthwise: one axis of channels
      copy_block(before, after, 2, outputs, inputs);
    } else {
      copy_block(before, after, 0, {}, inputs);
      copy_block(before, after, 3, {}, {});
      copy_block(before, after, 5, outputs, {});
    }
  }

  // A convolution and the norm after it.
  void copy_block(const std::string& before, const std::string& after, int number, const Channels& outputs,
                  const Channels& inputs) {
    const std::string filter = join(number, ".weight");
    result_.tensors[after + filter] = select(old_.at(before + filter), outputs, inputs);
    for (const char* part : {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}) {
      const std::string name = join(number + 1, ".", part);
      const auto found = old_.find(before + name);
      if (found == old_.end()) continue;  // the counter, which not every file has
      const bool per_channel = !found->second.shape.empty();
      result_.tensors[after + name] = per_channel ? select(found->second, outputs, {}) : found->second;
    }
  }

  void convert_bias() {
    const auto found = old_.find("fc.bias");
    if (result_.model.dialect == Dialect::kMegvii) {
      if (found == old_.end()) return;
      const std::vector<float> bias = to_f32(found->second, path_ + ": fc.bias");
      const bool zero = std::all_of(bias.begin(), bias.end(), [](float value) { return value == 0; });
      if (!zero)
        fail(path_, ": its classifier has a bias that is not zero; Megvii's has none, so nothing equals it there");
      return;
    }
    result_.tensors["fc.bias"] =
        found != old_.end() ? found->second
                            : HostTensor{FileDType::kF32,
                                         {from_.classes},
                                         std::vector<uint8_t>(sizeof(float) * static_cast<size_t>(from_.classes))};
  }

  const ShuffleNetV2Config& from_;
  const TensorMap& old_;
  const std::string& path_;
  DialectConversion result_;
};

// Megvii and tensorpack keep the number of inputs in a stage's projection, torchvision makes it half of the outputs.
void check_shapes(const ShuffleNetV2Config& model, Dialect to, const std::string& path) {
  int64_t inputs = model.stem_channels;
  for (size_t s = 0; s < model.stage_channels.size(); ++s) {
    const int64_t outputs = model.stage_channels[s];
    if (inputs * 2 != outputs) {
      fail(path, ": ", name_of(model.dialect), " and ", name_of(to), " have different shapes in stage", s + 2,
           ", which maps ", inputs, " to ", outputs,
           " channels: torchvision's projection makes half of them, the others' keeps ", inputs,
           ". Of the published widths only 0.5x has equal shapes");
    }
    inputs = outputs;
  }
}

}  // namespace

DialectConversion convert_dialect(const ShuffleNetV2Config& model, const TensorMap& tensors, Dialect to,
                                  const std::string& path) {
  if (to == model.dialect) return {model, tensors};
  if (to == Dialect::kTensorpack || model.dialect == Dialect::kTensorpack) {
    fail(
        path, ": no exact conversion from ", name_of(model.dialect), " to ", name_of(to),
        ": tensorpack pads 3x3 windows of stride 2 as TensorFlow does (0 before and 1 after, at even sizes), the other "
        "dialects by 1 on each side, so that no weights make them equal. Fine-tune instead, or keep the dialect");
  }
  check_shapes(model, to, path);
  return Conversion(model, tensors, to, path).run();
}

}  // namespace riffle
