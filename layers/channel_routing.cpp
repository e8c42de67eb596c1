// The shuffle, run over labels.
#include "layers/channel_routing.h"

#include <algorithm>
#include <numeric>

#include "core/kernels/channel_shuffle.h"

namespace riffle {
namespace {

struct Label {
  size_t branch;
  int64_t channel;  // logical, of the branch's output
};
using Labels = std::vector<Label>;

Labels outputs_of(size_t branch, int64_t channels) {
  Labels labels;
  for (int64_t c = 0; c < channels; ++c) labels.push_back({branch, c});
  return labels;
}

Labels shuffled(const Labels& labels, int64_t groups) {
  const ChannelShuffle shuffle{static_cast<int64_t>(labels.size()), groups};
  Labels result;
  for (size_t c = 0; c < labels.size(); ++c)
    result.push_back(labels[static_cast<size_t>(shuffle.source(static_cast<int64_t>(c)))]);
  return result;
}

// What ShuffleUnit's join does to the channels.
Labels joined(Dialect dialect, Labels a, const Labels& b) {
  a.insert(a.end(), b.begin(), b.end());
  const auto channels = static_cast<int64_t>(a.size());
  switch (dialect) {
    case Dialect::kTorchvision:
      return shuffled(a, 2);
    case Dialect::kMegvii:
      return a;
    case Dialect::kTensorpack:
      return shuffled(a, channels / 2);
  }
  fail("unknown dialect ", static_cast<int>(dialect));
}

struct Halves {
  Labels passed, processed;
};

// What its split does.
Halves split(Dialect dialect, const Labels& labels) {
  const Labels source =
      dialect == Dialect::kMegvii ? shuffled(labels, static_cast<int64_t>(labels.size()) / 2) : labels;
  const auto middle = source.begin() + static_cast<ptrdiff_t>(source.size() / 2);
  return {Labels(source.begin(), middle), Labels(middle, source.end())};
}

// Whose input each label is, and where in it.
struct Use {
  size_t consumer = 0;
  int64_t position = 0;
};

}  // namespace

ChannelRouting route_channels(Dialect dialect, int64_t units, int64_t channels, int64_t projected) {
  std::vector<Labels> inputs;  // of each consumer, in logical order
  std::vector<int64_t> branch_channels{projected, channels - projected};
  Labels now = joined(dialect, outputs_of(0, projected), outputs_of(1, channels - projected));
  for (int64_t unit = 1; unit < units; ++unit) {
    const Halves halves = split(dialect, now);
    inputs.push_back(halves.processed);
    now = joined(dialect, halves.passed, outputs_of(branch_channels.size(), channels / 2));
    branch_channels.push_back(channels / 2);
  }
  inputs.push_back(now);

  std::vector<std::vector<Use>> uses;  // [branch][logical channel]
  for (const int64_t count : branch_channels) uses.emplace_back(static_cast<size_t>(count));
  for (size_t consumer = 0; consumer < inputs.size(); ++consumer)
    for (size_t i = 0; i < inputs[consumer].size(); ++i) {
      const Label& label = inputs[consumer][i];
      uses[label.branch][static_cast<size_t>(label.channel)] = {consumer, static_cast<int64_t>(i)};
    }

  ChannelRouting routing;
  routing.consumer_orders.resize(inputs.size());
  routing.slices.resize(uses.size());
  for (size_t branch = 0; branch < uses.size(); ++branch) {
    Permutation order(uses[branch].size());
    std::iota(order.begin(), order.end(), 0);
    const auto use = [&](int64_t channel) { return uses[branch][static_cast<size_t>(channel)]; };
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return use(a).consumer < use(b).consumer; });
    std::vector<ChannelRouting::Slice>& slices = routing.slices[branch];
    for (size_t i = 0; i < order.size(); ++i) {
      const Use to = use(order[i]);
      Permutation& target = routing.consumer_orders[to.consumer];
      if (slices.empty() || slices.back().consumer != to.consumer)
        slices.push_back({to.consumer, static_cast<int64_t>(i), 0, static_cast<int64_t>(target.size())});
      ++slices.back().count;
      target.push_back(to.position);
    }
    routing.branch_orders.push_back(std::move(order));
  }
  for (const Labels& input : inputs) routing.consumer_channels.push_back(static_cast<int64_t>(input.size()));
  return routing;
}

}  // namespace riffle
