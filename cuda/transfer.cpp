// Transfers between host and device. A batch crosses the bus on the copy stream while the compute stream works on the
// one before it; then the compute stream copies it to its place, which its earlier work may have used until then.
// Conversions happen on the host: half as many bytes cross, and only parameters and results are converted.
#include <algorithm>
#include <cstring>

#include "cuda/cuda_backend.h"
#include "cuda/device_types.h"

namespace riffle {
namespace {

// To the nearest, ties to even, rounded once.
template <class To, class From>
To converted(From value) {
  return static_cast<To>(value);
}
template <>
__nv_bfloat16 converted<__nv_bfloat16, float>(float value) {
  return __float2bfloat16_rn(value);
}
template <>
__nv_bfloat16 converted<__nv_bfloat16, double>(double value) {
  return __double2bfloat16(value);
}
template <>
__half converted<__half, float>(float value) {
  return __float2half_rn(value);
}
template <>
__half converted<__half, double>(double value) {
  return __double2half(value);
}
template <>
float converted<float, __nv_bfloat16>(__nv_bfloat16 value) {
  return __bfloat162float(value);
}
template <>
double converted<double, __nv_bfloat16>(__nv_bfloat16 value) {
  return __bfloat162float(value);
}
template <>
float converted<float, __half>(__half value) {
  return __half2float(value);
}
template <>
double converted<double, __half>(__half value) {
  return __half2float(value);
}

template <class From, class To>
void convert(const void* from, size_t count, void* to) {
  const From* source = static_cast<const From*>(from);
  To* target = static_cast<To*>(to);
  for (size_t i = 0; i < count; ++i) target[i] = converted<To>(source[i]);
}

// Calls body(T{}) with the host's type of floating numbers.
template <class Body>
void dispatch_floating(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::kF64:
      return body(double{});
    default:
      return dispatch_dtype(dtype, body);
  }
}

bool is_floating(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF64 || dtype == DType::kBF16 || dtype == DType::kF16;
}

bool is_host_floating(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF64;
}

// `device` is a tensor's dtype, `host` that of the program's memory.
void check_convertible(DType host, DType device) {
  const bool converts = is_host_floating(host) && is_floating(device);
  const bool same_integers = host == device && !is_floating(host);
  RIFFLE_CHECK(converts || same_integers, "the CUDA backend cannot convert between ", host, " on the host and ", device,
               "; f32 and f64 convert to and from floating dtypes, others must be equal");
}

// `count` elements of `from_dtype` to `to_dtype`, one of which is the host's.
void convert_elements(const void* from, DType from_dtype, size_t count, void* to, DType to_dtype) {
  if (from_dtype == to_dtype) {
    std::memcpy(to, from, count * size_of(to_dtype));
    return;
  }
  dispatch_floating(from_dtype, [&](auto source) {
    dispatch_floating(to_dtype, [&](auto target) {
      using From = decltype(source);
      using To = decltype(target);
      constexpr bool kSameHalves = sizeof(From) == 2 && sizeof(To) == 2;  // excluded by check_convertible
      if constexpr (!kSameHalves) convert<From, To>(from, count, to);
    });
  });
}

// Calls body(first element, elements) for pieces that fit a slot of the staging ring.
template <class Body>
void for_each_piece(int64_t elements, size_t element_bytes, const Body& body) {
  const int64_t piece = static_cast<int64_t>(PinnedStaging::kSlotBytes / element_bytes);
  for (int64_t first = 0; first < elements; first += piece)
    body(static_cast<size_t>(first), static_cast<size_t>(std::min(piece, elements - first)));
}

}  // namespace

void CudaBackend::copy_matrix(const void* from, int64_t from_ld, const Tensor& like, void* to, int64_t to_ld) {
  const size_t size = size_of(like.dtype()), row = static_cast<size_t>(like.channels()) * size;
  if (from_ld == like.channels() && to_ld == like.channels()) {
    const size_t bytes = static_cast<size_t>(like.pixels()) * row;
    RIFFLE_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_.get()));
    return;
  }
  RIFFLE_CUDA(cudaMemcpy2DAsync(to, static_cast<size_t>(to_ld) * size, from, static_cast<size_t>(from_ld) * size, row,
                                static_cast<size_t>(like.pixels()), cudaMemcpyDeviceToDevice, stream_.get()));
}

CudaBackend::ArrivalBuffer& CudaBackend::next_arrival(size_t bytes) {
  ArrivalBuffer& arrival = arrivals_[next_arrival_];
  next_arrival_ = (next_arrival_ + 1) % arrivals_.size();
  if (arrival.bytes < bytes) {
    arrival.memory = nullptr;
    arrival.memory = allocator_->allocate(bytes);
    arrival.bytes = bytes;
    arrival.consumed.record(stream_.get());  // whose work may still use this memory for what it held before
  }
  copy_stream_.wait(arrival.consumed);
  return arrival;
}

void CudaBackend::upload(const void* host, DType host_dtype, const Tensor& y) {
  check_ours(y, "upload");
  check_convertible(host_dtype, y.dtype());
  check_not_capturing("upload");
  const size_t size = size_of(y.dtype()), host_size = size_of(host_dtype);
  ArrivalBuffer& arrival = next_arrival(static_cast<size_t>(y.elements()) * size);
  char* const target = static_cast<char*>(arrival.memory.get());
  for_each_piece(y.elements(), size, [&](size_t first, size_t count) {
    PinnedStaging::Slot& slot = staging_.next();
    convert_elements(static_cast<const char*>(host) + first * host_size, host_dtype, count, slot.buffer.data(),
                     y.dtype());
    RIFFLE_CUDA(cudaMemcpyAsync(target + first * size, slot.buffer.data(), count * size, cudaMemcpyHostToDevice,
                                copy_stream_.get()));
    slot.copied.record(copy_stream_.get());
  });
  arrival.arrived.record(copy_stream_.get());
  stream_.wait(arrival.arrived);
  copy_matrix(target, y.channels(), y, y.raw(), y.ld());
  arrival.consumed.record(stream_.get());
}

void CudaBackend::download(const Tensor& x, DType host_dtype, void* host) {
  check_ours(x, "download");
  check_convertible(host_dtype, x.dtype());
  check_not_capturing("download");
  const size_t size = size_of(x.dtype()), host_size = size_of(host_dtype);
  Tensor packed = x;
  if (!x.packed()) {
    packed = empty(x.shape(), x.dtype());
    copy_matrix(x.raw(), x.ld(), x, packed.raw(), packed.ld());
  }
  const char* const source = static_cast<const char*>(packed.raw());
  for_each_piece(x.elements(), size, [&](size_t first, size_t count) {
    PinnedStaging::Slot& slot = staging_.next();
    RIFFLE_CUDA(cudaMemcpyAsync(slot.buffer.data(), source + first * size, count * size, cudaMemcpyDeviceToHost,
                                stream_.get()));
    slot.copied.record(stream_.get());
    slot.copied.wait();
    convert_elements(slot.buffer.data(), x.dtype(), count, static_cast<char*>(host) + first * host_size, host_dtype);
  });
}

}  // namespace riffle
