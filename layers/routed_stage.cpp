// Routed stage: buffers for the consumers, branches that fill them.
#include "layers/routed_stage.h"

namespace riffle {
namespace {

// The order of the channels that a branch reads and writes. Those between its convolutions keep their own.
void set_orders(ConvBnSequence& branch, const Permutation& input, const Permutation& output) {
  const auto set_norm = [](BatchNorm2d& norm, const Permutation& order) {
    norm.for_each_parameter([&](const std::string&, Parameter& parameter) { parameter.order.c = order; });
    norm.for_each_buffer([&](const std::string&, Buffer& buffer) { buffer.order.c = order; });
  };
  Permutation order = input;
  for (auto& block : branch.blocks()) {
    Parameter& filter = block->conv().weight();
    const bool last = block == branch.blocks().back();
    filter.order.c = order;
    if (filter.kind != ParameterKind::kDepthwiseFilter) {
      order = last ? output : Permutation{};
      filter.order.n = order;
    }
    set_norm(block->norm(), order);
  }
}

// One consumer's input: a buffer that several branches fill.
struct Input {
  Tensor buffer;
  std::vector<Variable> parts;      // as they were made
  std::vector<int64_t> part_begin;  // first channel of each
};

// The parts as one variable: their gradients are slices of its gradient.
Variable assemble(const Context& context, const std::string& name, const Input& input) {
  bool records = false;
  std::vector<GradSlot> slots;
  for (const Variable& part : input.parts) {
    records = records || part.requires_grad();
    slots.push_back(part.slot());
  }
  const Variable whole(input.buffer, records);
  if (!records || !context.tape) return whole;
  context.tape->record(name, whole, [&backend = context.backend, slots, begins = input.part_begin](const Tensor& dy) {
    for (size_t i = 0; i < slots.size(); ++i)
      give_grad(backend, slots[i], dy.channel_slice(begins[i], slots[i].shape().c));
  });
  return whole;
}

}  // namespace

RoutedStage::RoutedStage(Dialect dialect, const std::vector<std::unique_ptr<ShuffleUnit>>& units,
                         const Permutation& input_order) {
  for (const auto& unit : units) {
    if (unit->projection()) branches_.push_back(unit->projection());
    branches_.push_back(&unit->main());
    units_.push_back(unit.get());
  }
  RIFFLE_CHECK(!units.empty() && branches_.size() == units.size() + 1, "a stage begins with its only unit of stride 2");
  const int64_t projected = branches_[0]->outputs(), channels = projected + branches_[1]->outputs();
  routing_ = route_channels(dialect, static_cast<int64_t>(units.size()), channels, projected);
  for (size_t b = 0; b < branches_.size(); ++b)
    set_orders(*branches_[b], b < 2 ? input_order : routing_.consumer_orders[b - 2], routing_.branch_orders[b]);
}

Variable RoutedStage::forward(const Context& context, const std::string& name, const Variable& x) const {
  const Shape out = branches_[0]->output_shape(x.shape());
  std::vector<Input> inputs(routing_.consumer_channels.size());
  const auto run = [&](size_t b, const Variable& in) {
    std::vector<Tensor> parts;
    for (const ChannelRouting::Slice& slice : routing_.slices[b]) {
      Input& input = inputs[slice.consumer];
      if (!input.buffer.defined())
        input.buffer = context.backend.empty(out.with_channels(routing_.consumer_channels[slice.consumer]));
      parts.push_back(input.buffer.channel_slice(slice.begin, slice.count));
    }
    const std::vector<Variable> made = branches_[b]->forward_into(context, in, parts);
    for (size_t i = 0; i < made.size(); ++i) {
      const ChannelRouting::Slice& slice = routing_.slices[b][i];
      inputs[slice.consumer].parts.push_back(made[i]);
      inputs[slice.consumer].part_begin.push_back(slice.begin);
    }
  };
  run(0, x);
  run(1, x);
  for (size_t b = 2; b < branches_.size(); ++b) {
    const Variable in = assemble(context, units_[b - 1]->path() + ".input", inputs[b - 2]);
    inputs[b - 2] = {};  // nobody else reads it
    run(b, in);
  }
  return assemble(context, name + ".exit", inputs.back());
}

}  // namespace riffle
