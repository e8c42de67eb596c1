// Counter-based random numbers (Philox4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2,
// 3", SC'11). Every number is a pure function of (seed, purpose, a, b, index), where a and b are e.g. epoch and sample,
// or step and layer; so results depend on neither thread count nor order, and resuming is exact.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "core/kernels/philox.h"

namespace riffle {

// What a stream is for. The numbers are part of the reproducibility contract: append, never renumber.
enum class RandomPurpose : uint32_t {
  kInitialise = 1,
  kShuffleEpoch = 2,
  kAugment = 3,
  kDropout = 4,
  kTest = 5,
  kMix = 6
};

class RandomStream {
 public:
  // a, b: coordinates of the stream, e.g. (epoch, sample index).
  RandomStream(uint64_t seed, RandomPurpose purpose, uint64_t a = 0, uint64_t b = 0);

  uint32_t next_u32();
  double uniform();                         // [0, 1), 32 random bits
  double uniform(double low, double high);  // [low, high)
  double normal();                          // mean 0, standard deviation 1 (Box-Muller)
  double log_gamma(double shape);           // logarithm of a gamma variate of scale 1; shape > 0
  double beta(double a, double b);          // [0, 1], for any a, b > 0
  int64_t below(int64_t bound);             // 0 .. bound-1, unbiased; bound in 1 .. 2^32
  bool flip(double probability) { return uniform() < probability; }

  // The Philox key of this stream, for kernels that draw by element index.
  PhiloxKey key() const { return key_; }

 private:
  PhiloxKey key_;
  uint64_t block_ = 0;
  uint32_t used_ = 4;
  std::array<uint32_t, 4> buffer_{};
  bool has_spare_normal_ = false;
  double spare_normal_ = 0;
};

// A permutation of 0 .. size-1 (Fisher-Yates), a pure function of the arguments.
std::vector<int64_t> random_permutation(int64_t size, uint64_t seed, RandomPurpose purpose, uint64_t a);

}  // namespace riffle
