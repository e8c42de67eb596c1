// Which later unit consumes which channel of a stage. Split, concat and shuffle move no information: they decide that,
// and it is the same for every input. So the permutation is run once, over labels, and every branch then writes its
// output channels straight to the units that will read them, in contiguous slices.
#pragma once

#include <cstdint>
#include <vector>

#include "core/channel_order.h"
#include "layers/dialect.h"

namespace riffle {

// Branches, the producers: the projection and the main branch of the first unit, then the main branches of the others.
// Consumers: the main branches of units 1, 2, ... and, last, the stage's exit.
struct ChannelRouting {
  // Channels [first, first + count) of a branch's output, as stored, are those from `begin` of the consumer's input.
  struct Slice {
    size_t consumer;
    int64_t first, count, begin;
  };
  std::vector<Permutation> branch_orders;    // of each branch's output: logical channel of the branch
  std::vector<std::vector<Slice>> slices;    // of each branch, in the order of its stored channels
  std::vector<Permutation> consumer_orders;  // of each consumer's input: its logical channel there
  std::vector<int64_t> consumer_channels;
};

// A stage of `units` units and `channels` output channels, of which the first unit's projection makes `projected`.
ChannelRouting route_channels(Dialect dialect, int64_t units, int64_t channels, int64_t projected);

}  // namespace riffle
