// A stage of shuffle units without its shuffles: every branch's last step writes each output channel where it will be
// read (channel_routing.h), so concat, shuffle and split do not exist at run time, forward or backward. The branches are
// the units' own; ShuffleUnit::forward, the plain composition, is the definition and the tests' oracle.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "layers/channel_routing.h"
#include "layers/shuffle_unit.h"

namespace riffle {

class RoutedStage {
 public:
  // The units must outlive this. `input_order`: in which the stage's input channels are stored (empty: as published).
  // Sets the order in which the units' parameters are stored, so it must come before their values.
  RoutedStage(Dialect dialect, const std::vector<std::unique_ptr<ShuffleUnit>>& units, const Permutation& input_order);

  // x (N,H,W,inputs) -> (N,OH,OW,outputs), its channels stored in output_order(). `name`: for tape nodes.
  Variable forward(const Context& context, const std::string& name, const Variable& x) const;
  const Permutation& output_order() const { return routing_.consumer_orders.back(); }

 private:
  std::vector<ShuffleUnit*> units_;
  std::vector<ConvBnSequence*> branches_;
  ChannelRouting routing_;
};

}  // namespace riffle
