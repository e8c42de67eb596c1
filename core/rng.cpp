// RandomStream: sequential draws from one Philox stream.
#include "core/rng.h"

#include <cmath>
#include <numeric>
#include <utility>

#include "core/check.h"

namespace riffle {
namespace {

// SplitMix64's finaliser: spreads structured coordinates over all 64 bits.
uint64_t mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

}  // namespace

RandomStream::RandomStream(uint64_t seed, RandomPurpose purpose, uint64_t a, uint64_t b) {
  const uint64_t key = mix(mix(seed) ^ static_cast<uint64_t>(purpose));
  const uint64_t coordinates = mix(mix(a) + 0x632BE59BD9B4E019u * b + 1);
  key_.k0 = static_cast<uint32_t>(key);
  key_.k1 = static_cast<uint32_t>(key >> 32);
  key_.c2 = static_cast<uint32_t>(coordinates);
  key_.c3 = static_cast<uint32_t>(coordinates >> 32);
}

uint32_t RandomStream::next_u32() {
  if (used_ == 4) {
    const PhiloxBlock block = philox(key_, block_++);
    for (int i = 0; i < 4; ++i) buffer_[static_cast<size_t>(i)] = block.v[i];
    used_ = 0;
  }
  return buffer_[used_++];
}

double RandomStream::uniform() {
  return next_u32() * (1.0 / 4294967296.0);
}

double RandomStream::uniform(double low, double high) {
  return low + (high - low) * uniform();
}

double RandomStream::normal() {
  if (has_spare_normal_) {
    has_spare_normal_ = false;
    return spare_normal_;
  }
  const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));  // 1 - u is in (0, 1]
  const double angle = 2.0 * M_PI * uniform();
  spare_normal_ = radius * std::sin(angle);
  has_spare_normal_ = true;
  return radius * std::cos(angle);
}

// Marsaglia and Tsang, "A simple method for generating gamma variables", 2000: rejection from a squeezed normal, for
// shapes of 1 and more; smaller ones are gamma(shape + 1) * u^(1/shape). As a logarithm, since that may be far below the
// smallest double.
double RandomStream::log_gamma(double shape) {
  RIFFLE_CHECK(shape > 0, "a gamma distribution of shape ", shape);
  if (shape < 1) {
    const double whole = log_gamma(shape + 1);
    return whole + std::log(1.0 - uniform()) / shape;
  }
  const double d = shape - 1.0 / 3, c = 1 / std::sqrt(9 * d);
  for (;;) {
    const double x = normal(), root = 1 + c * x;
    const double u = 1.0 - uniform();
    if (root <= 0) continue;
    const double log_v = 3 * std::log(root), v = root * root * root;
    if (std::log(u) < 0.5 * x * x + d * (1 - v + log_v)) return std::log(d) + log_v;
  }
}

double RandomStream::beta(double a, double b) {
  const double log_x = log_gamma(a), log_y = log_gamma(b);
  return 1 / (1 + std::exp(log_y - log_x));
}

int64_t RandomStream::below(int64_t bound) {
  RIFFLE_CHECK(bound > 0 && bound <= (int64_t{1} << 32), "bound ", bound);
  // Lemire's multiplication with rejection: unbiased.
  const uint64_t range = static_cast<uint64_t>(bound);
  const uint64_t threshold = ((uint64_t{1} << 32) - range) % range;
  for (;;) {
    const uint64_t product = static_cast<uint64_t>(next_u32()) * range;
    if ((product & 0xFFFFFFFFu) >= threshold) return static_cast<int64_t>(product >> 32);
  }
}

std::vector<int64_t> random_permutation(int64_t size, uint64_t seed, RandomPurpose purpose, uint64_t a) {
  std::vector<int64_t> order(static_cast<size_t>(size));
  std::iota(order.begin(), order.end(), int64_t{0});
  RandomStream stream(seed, purpose, a);
  for (int64_t i = size - 1; i > 0; --i)
    std::swap(order[static_cast<size_t>(i)], order[static_cast<size_t>(stream.below(i + 1))]);
  return order;
}

}  // namespace riffle
