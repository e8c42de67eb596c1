// The element types of device memory. Storage may be f32, bf16 or f16; arithmetic is in float.
#pragma once

#include "core/tensor.h"
#include "cuda/gpu.h"

namespace riffle {

template <>
struct DTypeOf<__nv_bfloat16> {
  static constexpr DType value = DType::kBF16;
};
template <>
struct DTypeOf<__half> {
  static constexpr DType value = DType::kF16;
};

__host__ __device__ inline float to_float(float x) {
  return x;
}
__host__ __device__ inline float to_float(__nv_bfloat16 x) {
  return __bfloat162float(x);
}
__host__ __device__ inline float to_float(__half x) {
  return __half2float(x);
}

// To the nearest, ties to even.
template <class T>
__host__ __device__ inline T from_float(float x);
template <>
__host__ __device__ inline float from_float<float>(float x) {
  return x;
}
template <>
__host__ __device__ inline __nv_bfloat16 from_float<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}
template <>
__host__ __device__ inline __half from_float<__half>(float x) {
  return __float2half_rn(x);
}

// Calls body(T{}) with the element type of activations.
template <class Body>
void dispatch_dtype(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::kF32:
      return body(float{});
    case DType::kBF16:
      return body(__nv_bfloat16{});
    case DType::kF16:
      return body(__half{});
    default:
      fail("activations of dtype ", dtype, " do not exist on CUDA; f32, bf16 and f16 do");
  }
}

// The largest number of elements, up to 16 bytes of them, that one load or store may move at once when every row of
// `tensor` begins at a multiple of its pitch: a power of two, 1 at least.
inline int vector_width(const Tensor& tensor) {
  const auto size = size_of(tensor.dtype());
  const auto address = reinterpret_cast<uintptr_t>(tensor.raw());
  for (size_t width = 16 / size; width > 1; width /= 2) {
    const bool pitch_divides = tensor.ld() % static_cast<int64_t>(width) == 0;
    const bool channels_divide = tensor.channels() % static_cast<int64_t>(width) == 0;
    if (address % (width * size) == 0 && pitch_divides && channels_divide) return static_cast<int>(width);
  }
  return 1;
}

// `Width` neighbouring elements, moved as one load or store.
template <class T, int Width>
struct alignas(sizeof(T) * Width) Pack {
  T element[Width];
};

}  // namespace riffle
