// What the resampling loops share: vectors of one pixel's channels, and the choice of an instruction set. Loops are
// written once, always inlined, and instantiated in functions for AVX2 and for every CPU.
#pragma once

#include <cstdint>

#include "data/resize.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define RIFFLE_RESIZE_AVX2 1
#else
#define RIFFLE_RESIZE_AVX2 0
#endif

namespace riffle {

// Four channels at a time: a pixel's three and its neighbour's first, which is computed and then overwritten.
using Int4 = int32_t __attribute__((vector_size(16)));
using Byte4 = uint8_t __attribute__((vector_size(4)));

inline bool resize_with_avx2(ResizeLoops loops) {
#if RIFFLE_RESIZE_AVX2
  return loops == ResizeLoops::kBest && __builtin_cpu_supports("avx2");
#else
  static_cast<void>(loops);
  return false;
#endif
}

}  // namespace riffle
