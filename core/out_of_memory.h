// A device's memory is exhausted. Its own type, with the numbers, so that whoever chose the batch size can say which
// one would have fitted.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "core/check.h"

namespace riffle {

class OutOfMemory : public Error {
 public:
  struct Bytes {
    int64_t asked = 0;       // what could not be had
    int64_t in_use = 0;      // of living tensors
    int64_t obtainable = 0;  // all that tensors could ever use: in use, cached, and free on the device
  };

  OutOfMemory(const std::string& message, Bytes bytes) : Error(ErrorKind::kRuntime, message), bytes_(bytes) {}

  const Bytes& bytes() const { return bytes_; }

  // No batch larger than this fits, if `batch` failed and `fixed` bytes (parameters, optimiser) do not depend on it. An
  // upper bound, because the step had more to ask for; 0: not even one image fits.
  int64_t largest_batch(int64_t batch, int64_t fixed) const {
    const int64_t needed = bytes_.in_use + bytes_.asked - fixed, available = bytes_.obtainable - fixed;
    if (available <= 0 || needed <= 0) return 0;
    const double images = static_cast<double>(batch) * static_cast<double>(available) / static_cast<double>(needed);
    return std::min(batch - 1, static_cast<int64_t>(images));
  }

 private:
  Bytes bytes_;
};

}  // namespace riffle
