// Which taps and outputs of a window meet. Static, for the files compiled once for each instruction set: see simd_vector.h.
#pragma once

#include "core/cpu/simd_kernels.h"

namespace riffle::RIFFLE_SIMD_NAMESPACE {
namespace {

inline int64_t min_of(int64_t a, int64_t b) {
  return a < b ? a : b;
}
inline int64_t max_of(int64_t a, int64_t b) {
  return a > b ? a : b;
}

// begin <= i < end.
struct IndexRange {
  int64_t begin, end;
};

// The taps of a window that starts at `start` and lie inside [0, size).
inline IndexRange taps_inside(int64_t start, int64_t taps, int64_t size) {
  return {max_of(0, -start), min_of(taps, size - start)};
}

// The outputs whose windows lie wholly inside [0, size).
inline IndexRange interior(int64_t taps, int64_t stride, int64_t pad, int64_t size, int64_t outputs) {
  const int64_t first = max_of(0, (pad + stride - 1) / stride);
  const int64_t room = size - taps + pad;
  const int64_t last = room < 0 ? 0 : room / stride + 1;
  return {min_of(first, outputs), max_of(min_of(last, outputs), min_of(first, outputs))};
}

// The outputs o and taps t with o*stride - pad + t == i.
struct Contribution {
  int64_t output, tap;
};
inline int contributions(int64_t i, int64_t taps, int64_t stride, int64_t pad, int64_t outputs, Contribution* list) {
  int count = 0;
  for (int64_t tap = 0; tap < taps; ++tap) {
    const int64_t position = i + pad - tap;
    // The strides that occur are spared the division: there is one of these for every pixel.
    const int64_t output = stride == 1 ? position : stride == 2 ? position >> 1 : position / stride;
    if (position < 0 || output * stride != position || output >= outputs) continue;
    list[count++] = {output, tap};
  }
  return count;
}

}  // namespace
}  // namespace riffle::RIFFLE_SIMD_NAMESPACE
