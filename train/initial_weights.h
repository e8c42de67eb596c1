// Fine-tuning: a run that begins with a checkpoint's weights instead of random ones. What the configuration leaves open
// (the network, how images become its input) is taken from the checkpoint; where the two contradict, the network is an
// error and the input a warning.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "train/config_reader.h"
#include "train/loaded_model.h"

namespace riffle {

struct InitialWeights {
  std::string path;
  StoredNetwork network;
};

// A configuration that is ready to run.
struct RunConfig {
  Config config;
  std::optional<InitialWeights> initial;  // none: random weights
  std::vector<std::string> warnings;      // where the configuration overrules the checkpoint
};

// Reads init.checkpoint, if any.
RunConfig resolve_run(SourcedConfig read);

// Copies the weights into a network of the same architecture but for its classes, and says for people what was done.
// The classifier's rows follow the class names; other names are an error unless reset_head keeps the network's own
// classifier.
std::string load_initial_weights(Backend& backend, const InitialWeights& initial, bool reset_head,
                                 const std::vector<std::string>& classes, ShuffleNetV2& network);

}  // namespace riffle
