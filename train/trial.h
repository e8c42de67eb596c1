// What a dry run measures.
#pragma once

#include <cstdint>

namespace riffle {

// Bytes. What tensors take adds up to peak: the backend reports in_use and peak, the others are the tensors' own sizes.
struct MemoryPlan {
  int64_t parameters = 0;  // with the rounded copies that convolutions read, and batch norm's running statistics
  int64_t gradients = 0, momentum = 0;
  int64_t averages = 0;  // of weights, and the network that receives them to be evaluated
  int64_t in_use = 0;    // between steps: those above, and what images are uploaded to
  int64_t peak = 0;      // during a step
  int64_t held = 0;      // by the backend's allocator, for reuse
  int64_t training_batches = 0, evaluation_batches = 0;  // that loaders prepare, in the memory of the host
  int64_t process_peak = 0;                              // resident
};

struct Trial {
  int64_t steps = 0;
  double step_seconds = 0;     // the last of them took
  double loading_seconds = 0;  // of one step's images, while nothing else is computed
  MemoryPlan memory;
};

}  // namespace riffle
