// What the files compiled once for each instruction set share: vectors of 16, 8 and 4 floats (GCC's, so one source
// serves all) and the loop over channels. Everything is static and uses no library templates: an inline function shared
// with other files could otherwise be linked in the version of an instruction set that the processor lacks.
#pragma once

#include <cstdint>

namespace riffle::RIFFLE_SIMD_NAMESPACE {
namespace {

typedef float F16 __attribute__((vector_size(64)));
typedef float F8 __attribute__((vector_size(32)));
typedef float F4 __attribute__((vector_size(16)));

// Unaligned, since channel slices start anywhere; the copies compile to single moves.
template <class V>
inline V load(const float* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
template <class V>
inline void store(float* p, V v) {
  __builtin_memcpy(p, &v, sizeof v);
}
template <class V>
inline V splat(float value) {
  return V{} + value;
}
template <class V>
inline V relu_of(V v) {
  return v < splat<V>(0) ? splat<V>(0) : v;  // keeps NaN
}

// Calls body.template operator()<V>(c) over all channels: 16 at a time, then at most one 8 and one 4, then singles.
template <class Body>
inline void for_lanes(int64_t channels, const Body& body) {
  int64_t c = 0;
  for (; c + 16 <= channels; c += 16) body(F16{}, c);
  if (c + 8 <= channels) {
    body(F8{}, c);
    c += 8;
  }
  if (c + 4 <= channels) {
    body(F4{}, c);
    c += 4;
  }
  for (; c < channels; ++c) body(float{}, c);
}

}  // namespace
}  // namespace riffle::RIFFLE_SIMD_NAMESPACE
