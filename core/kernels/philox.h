// Philox4x32-10, the block function: (128-bit counter, 64-bit key) -> 128 random bits. Salmon et al., SC'11.
#pragma once

#include <cstdint>

#include "core/kernels/host_device.h"

namespace riffle {

struct PhiloxKey {
  uint32_t k0 = 0, k1 = 0;  // key words
  uint32_t c2 = 0, c3 = 0;  // upper half of the counter: the stream's coordinates
};

struct PhiloxBlock {
  uint32_t v[4];
};

// The `block`-th group of four random words of a stream.
RIFFLE_HD inline PhiloxBlock philox(const PhiloxKey& key, uint64_t block) {
  uint32_t c0 = static_cast<uint32_t>(block), c1 = static_cast<uint32_t>(block >> 32), c2 = key.c2, c3 = key.c3;
  uint32_t k0 = key.k0, k1 = key.k1;
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = static_cast<uint64_t>(0xD2511F53u) * c0;
    const uint64_t p1 = static_cast<uint64_t>(0xCD9E8D57u) * c2;
    const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    const uint32_t n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(p1);
    c3 = static_cast<uint32_t>(p0);
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// Dropout's decision for one of fewer than 2^34 elements: keep with probability 1 - rate. 32 random bits an element; the
// step is part of the counter, so that each step draws another mask.
RIFFLE_HD inline bool dropout_keeps(const PhiloxKey& key, uint32_t step, int64_t element, float rate) {
  const PhiloxBlock block = philox(key, static_cast<uint64_t>(step) << 32 | static_cast<uint64_t>(element) / 4);
  const uint32_t bits = block.v[static_cast<uint64_t>(element) % 4];
  return static_cast<float>(bits >> 8) * (1.0f / 16777216.0f) >= rate;
}

}  // namespace riffle
