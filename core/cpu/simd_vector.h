// What the files compiled once for each instruction set share: lanes of channels, up to 16 floats wide (GCC's vectors, so
// one source serves all), and the loop over them. Everything is static and uses no library templates: an inline function
// shared with other files could otherwise be linked in the version of an instruction set that the processor lacks.
#pragma once

#include <cstdint>

#ifdef __AVX512BW__
#include <immintrin.h>
#endif

namespace riffle::RIFFLE_SIMD_NAMESPACE {
namespace {

typedef float F16 __attribute__((vector_size(64)));
typedef float F8 __attribute__((vector_size(32)));
typedef float F4 __attribute__((vector_size(16)));
typedef uint8_t U16 __attribute__((vector_size(16)));
typedef uint8_t U8 __attribute__((vector_size(8)));
typedef uint8_t U4 __attribute__((vector_size(4)));

template <class V>
inline V splat(float value) {
  return V{} + value;
}
template <class V>
inline V relu_of(V v) {
  return v < splat<V>(0) ? splat<V>(0) : v;  // keeps NaN
}

// Whole vectors at any address: channel slices start anywhere. The copies compile to single moves.
template <class V, class Bytes>
struct WholeLane {
  using Vector = V;
  static V load(const float* p) {
    V v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
  }
  static void store(float* p, V v) { __builtin_memcpy(p, &v, sizeof v); }
  // Bytes as floats and back; the floats are whole numbers from 0 to 255.
  static V load_bytes(const uint8_t* p) {
    Bytes bytes;
    __builtin_memcpy(&bytes, p, sizeof bytes);
    return __builtin_convertvector(bytes, V);
  }
  static void store_bytes(uint8_t* p, V v) {
    const Bytes bytes = __builtin_convertvector(v, Bytes);
    __builtin_memcpy(p, &bytes, sizeof bytes);
  }
  static Bytes bytes(const uint8_t* p) {
    Bytes v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
  }
  // p[i] where values[i] == byte, otherwise other[i].
  static V load_where(Bytes values, uint8_t byte, const float* p, V other) {
    return __builtin_convertvector(values, V) == splat<V>(byte) ? load(p) : other;
  }
};

struct SingleLane {
  using Vector = float;
  static float load(const float* p) { return *p; }
  static void store(float* p, float v) { *p = v; }
  static float load_bytes(const uint8_t* p) { return static_cast<float>(*p); }
  static void store_bytes(uint8_t* p, float v) { *p = static_cast<uint8_t>(v); }
  static uint8_t bytes(const uint8_t* p) { return *p; }
  static float load_where(uint8_t value, uint8_t byte, const float* p, float other) {
    return value == byte ? *p : other;
  }
};

#ifdef __AVX512BW__
template <>
inline F16 WholeLane<F16, U16>::load_where(U16 values, uint8_t byte, const float* p, F16 other) {
  const __m128i all = reinterpret_cast<__m128i>(values);
  const __mmask16 equal = _mm_cmpeq_epi8_mask(all, _mm_set1_epi8(static_cast<char>(byte)));
  return reinterpret_cast<F16>(_mm512_mask_loadu_ps(reinterpret_cast<__m512>(other), equal, p));
}

// The first few of 16 channels: what lies beyond is neither read nor written.
struct MaskedLane {
  using Vector = F16;
  __mmask16 mask;

  F16 load(const float* p) const { return reinterpret_cast<F16>(_mm512_maskz_loadu_ps(mask, p)); }
  void store(float* p, F16 v) const { _mm512_mask_storeu_ps(p, mask, reinterpret_cast<__m512>(v)); }
  F16 load_bytes(const uint8_t* p) const {
    return __builtin_convertvector(reinterpret_cast<U16>(_mm_maskz_loadu_epi8(mask, p)), F16);
  }
  void store_bytes(uint8_t* p, F16 v) const {
    _mm_mask_storeu_epi8(p, mask, reinterpret_cast<__m128i>(__builtin_convertvector(v, U16)));
  }
  U16 bytes(const uint8_t* p) const { return reinterpret_cast<U16>(_mm_maskz_loadu_epi8(mask, p)); }
  F16 load_where(U16 values, uint8_t byte, const float* p, F16 other) const {
    const __m128i all = reinterpret_cast<__m128i>(values);
    const __mmask16 equal = _mm_mask_cmpeq_epi8_mask(mask, all, _mm_set1_epi8(static_cast<char>(byte)));
    return reinterpret_cast<F16>(_mm512_mask_loadu_ps(reinterpret_cast<__m512>(other), equal, p));
  }
};
#endif

// Calls body(lane, c) for lanes that cover all channels: 16 wide, then the rest, with AVX-512 in one masked lane.
template <class Body>
inline void for_lanes(int64_t channels, const Body& body) {
  int64_t c = 0;
  for (; c + 16 <= channels; c += 16) body(WholeLane<F16, U16>{}, c);
#ifdef __AVX512BW__
  if (c < channels) body(MaskedLane{static_cast<__mmask16>((1u << (channels - c)) - 1)}, c);
#else
  if (c + 8 <= channels) {
    body(WholeLane<F8, U8>{}, c);
    c += 8;
  }
  if (c + 4 <= channels) {
    body(WholeLane<F4, U4>{}, c);
    c += 4;
  }
  for (; c < channels; ++c) body(SingleLane{}, c);
#endif
}

}  // namespace
}  // namespace riffle::RIFFLE_SIMD_NAMESPACE
