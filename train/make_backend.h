// The one place that knows which backends this build has and decides which of them a command runs on.
#pragma once

#include <memory>
#include <string>

#include "core/backend.h"

namespace riffle {

struct DeviceChoice {
  std::unique_ptr<Backend> backend;
  std::string reason;  // why this one: "as asked", or what `auto` found
  int threads = 0;     // CPU threads, for sizing the loader
};

// device: "auto", "cpu", "cuda" or "cuda:N". threads: 0 means OMP_NUM_THREADS, or else every CPU this process may use.
// A device that this build or machine lacks is an error; nothing falls back.
DeviceChoice make_backend(const std::string& device, int threads);

// Why CUDA cannot be used here, for `riffle devices` and for the reason that `auto` gives.
std::string why_no_cuda();

}  // namespace riffle
