// A defect of cuBLASLt to stay clear of: an algorithm that splits k into parts may leave the end of k out.
#pragma once

#include <cstdint>

namespace riffle {

// Whether a product whose k is split into `parts` may be summed without the last k % block of k, and nobody told: where
// the parts get equally many whole blocks and what is left is less than one for each. Reported with a reproducer, of
// factors of 16 bits and results in f32, for H100, GB200 and GB300 and cuBLASLt 12.8.5 to 13.2.2
// (https://github.com/facebookexperimental/triton/pull/2767); no confirmation by NVIDIA is known. The library does not
// tell the length of an algorithm's blocks, so the usual ones are all taken into account, for every type.
inline bool may_lose_tail(int64_t k, int64_t parts) {
  if (parts < 2) return false;
  for (const int64_t block : {32, 64, 128}) {
    const int64_t tail = k % block;
    if (tail != 0 && k / block % parts == 0 && tail < parts) return true;
  }
  return false;
}

}  // namespace riffle
