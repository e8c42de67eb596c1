// The device's time in the outermost ranges of what is queued on a stream, from events around them.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <string>
#include <vector>

#include "core/backend.h"
#include "cuda/runtime.h"

namespace riffle {

class RangeEvents {
 public:
  void start();
  // Waits.
  std::vector<RangeTime> stop();
  bool running() const { return running_; }
  void begin(const std::string& name, cudaStream_t stream);
  // Throws nothing, since ranges end in destructors: stop() says what went wrong.
  void end(cudaStream_t stream);

 private:
  struct Pair {
    Event begin{Event::Timing::kOn}, end{Event::Timing::kOn};
  };

  bool running_ = false;
  int depth_ = 0;                             // of the ranges that are open
  std::vector<std::string> names_;            // of the ranges so far
  std::vector<std::unique_ptr<Pair>> pairs_;  // at least as many; kept for the next start(), so that none is made then
  cudaError_t first_error_ = cudaSuccess;     // of end()
};

}  // namespace riffle
