// Where in a pickled object the weights are.
#pragma once

#include <string>
#include <vector>

#include "train/checkpoint/pickle.h"
#include "train/checkpoint/torch_tensors.h"

namespace riffle {

struct FoundTensor {
  std::string name;
  const PickleValue* value;
};

// The tensors of a state dict or module, found as parse_pth() says; notes gets a line for each choice and for what was
// left aside. Throws where there are none, listing what there is.
std::vector<FoundTensor> find_torch_state(const Pickle& pickle, const std::string& entry, const std::string& file,
                                          std::vector<std::string>& notes);

}  // namespace riffle
