// What each of 256 pixel values becomes, for every channel of the network's input: exact, the same on every device, and
// quicker than arithmetic.
#pragma once

#include <cstddef>
#include <vector>

#include "core/backend.h"

namespace riffle {

// [channel * 256 + value], computed in double.
inline std::vector<float> normalisation_table(const Normalisation& normalisation) {
  std::vector<float> table;
  table.reserve(normalisation.mean.size() * 256);
  for (size_t c = 0; c < normalisation.mean.size(); ++c)
    for (int v = 0; v < 256; ++v)
      table.push_back(static_cast<float>((v * normalisation.scale - normalisation.mean[c]) / normalisation.std[c]));
  return table;
}

}  // namespace riffle
