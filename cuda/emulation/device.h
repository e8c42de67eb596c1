// The device side of CUDA for a host compiler: index variables, barriers, warp operations, atomics, gpu::launch.
// Threads are fibers of one OS thread (block.h). Included by cuda/gpu.h only.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "cuda/emulation/kernel_interface.h"

#undef __shared__
// At block scope thread_local implies static, also in templates, and puts all such arrays into one address range.
#define __shared__ thread_local
#define __launch_bounds__(...)
#define GPU_DYN_SHARED(T, name) T* name = static_cast<T*>(::riffle::emulation::dynamic_shared())
#define GPU_UNROLL

// Const here and not where they are defined: a thread's own never change, so the compiler may cache them, assigning to
// them is an error as in nvcc, and -fsanitize=thread leaves reads of them alone.
extern "C" {
extern const uint3 threadIdx, blockIdx;
extern const dim3 blockDim, gridDim;
}
constexpr int warpSize = 32;

// Where a barrier or a warp operation was called.
#define RIFFLE_CALLED_FROM const char *file = __builtin_FILE(), int line = __builtin_LINE()

namespace riffle::emulation {

template <class T>
uint64_t to_bits(T value) {
  static_assert(sizeof(T) <= sizeof(uint64_t) && std::is_trivially_copyable_v<T>);
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return bits;
}

template <class T>
T from_bits(uint64_t bits) {
  T value;
  std::memcpy(static_cast<void*>(&value), &bits, sizeof value);
  return value;
}

template <class T>
T shuffle(unsigned mask, T value, int source_lane, const char* file, int line) {
  return from_bits<T>(collective(Collective::kShuffle, mask, to_bits(value), source_lane, file, line));
}

// The old value. Only fibers of one OS thread run, so plain operations are atomic.
template <class T, class Function>
__attribute__((no_sanitize("thread"), noinline)) T read_modify_write(T* address, Function function) {
  note_atomic(address, sizeof(T));
  T old = *address;
  *address = function(old);
  return old;
}

template <class Kernel, class Arguments>
struct Closure {
  Kernel kernel;
  Arguments arguments;
  __attribute__((no_sanitize("thread"))) static void invoke(void* self) {
    auto* closure = static_cast<Closure*>(self);
    std::apply(closure->kernel, closure->arguments);
  }
};

template <class T>
void collect_pointer(const T& argument, std::vector<const void*>* pointers) {
  if constexpr (std::is_pointer_v<T>) pointers->push_back(reinterpret_cast<const void*>(argument));
}

// T is deduced from the address alone, as in CUDA's overload sets; the value converts.
template <class T>
struct Identity {
  using Type = T;
};
template <class T>
using NotDeduced = typename Identity<T>::Type;

}  // namespace riffle::emulation

namespace gpu {

// See the declaration in cuda/gpu.h.
template <class... Parameters, class... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
                   Arguments&&... arguments) {
  using Tuple = std::tuple<std::decay_t<Parameters>...>;
  using Closure = riffle::emulation::Closure<void (*)(Parameters...), Tuple>;
  auto closure = std::make_shared<Closure>(Closure{kernel, Tuple{static_cast<Parameters>(arguments)...}});
  riffle::emulation::KernelCall call;
  call.kernel = reinterpret_cast<const void*>(kernel);
  call.closure_bytes = sizeof(Closure);
  call.invoke = &Closure::invoke;
  std::apply([&](const auto&... argument) { (riffle::emulation::collect_pointer(argument, &call.pointers), ...); },
             closure->arguments);
  call.closure = std::move(closure);
  return riffle::emulation::launch(std::move(call), grid, block, shared_bytes, stream);
}

}  // namespace gpu

// --- barriers, fences ---

inline void __syncthreads(RIFFLE_CALLED_FROM) {
  riffle::emulation::barrier(riffle::emulation::Barrier::kPlain, false, file, line);
}
inline int __syncthreads_count(int predicate, RIFFLE_CALLED_FROM) {
  return riffle::emulation::barrier(riffle::emulation::Barrier::kCount, predicate != 0, file, line);
}
inline int __syncthreads_and(int predicate, RIFFLE_CALLED_FROM) {
  return riffle::emulation::barrier(riffle::emulation::Barrier::kAnd, predicate != 0, file, line);
}
inline int __syncthreads_or(int predicate, RIFFLE_CALLED_FROM) {
  return riffle::emulation::barrier(riffle::emulation::Barrier::kOr, predicate != 0, file, line);
}
inline void __syncwarp(unsigned mask = 0xffffffffu, RIFFLE_CALLED_FROM) {
  riffle::emulation::collective(riffle::emulation::Collective::kSyncWarp, mask, 0, 0, file, line);
}
inline void __threadfence() {
  riffle::emulation::fence();
}
inline void __threadfence_block() {}

// --- votes and shuffles ---

inline unsigned __ballot_sync(unsigned mask, int predicate, RIFFLE_CALLED_FROM) {
  return static_cast<unsigned>(
      riffle::emulation::collective(riffle::emulation::Collective::kBallot, mask, predicate != 0, 0, file, line));
}
inline int __any_sync(unsigned mask, int predicate, RIFFLE_CALLED_FROM) {
  return static_cast<int>(
      riffle::emulation::collective(riffle::emulation::Collective::kAny, mask, predicate != 0, 0, file, line));
}
inline int __all_sync(unsigned mask, int predicate, RIFFLE_CALLED_FROM) {
  return static_cast<int>(
      riffle::emulation::collective(riffle::emulation::Collective::kAll, mask, predicate != 0, 0, file, line));
}
inline unsigned __activemask() {
  return riffle::emulation::active_lanes();
}

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, RIFFLE_CALLED_FROM) {
  const int segment = riffle::emulation::lane() & ~(width - 1);
  return riffle::emulation::shuffle(mask, value, segment | (source & (width - 1)), file, line);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, RIFFLE_CALLED_FROM) {
  const int lane = riffle::emulation::lane(), source = lane - static_cast<int>(delta);
  return riffle::emulation::shuffle(mask, value, source < (lane & ~(width - 1)) ? lane : source, file, line);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, RIFFLE_CALLED_FROM) {
  const int lane = riffle::emulation::lane(), source = lane + static_cast<int>(delta);
  return riffle::emulation::shuffle(mask, value, source > (lane | (width - 1)) ? lane : source, file, line);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32, RIFFLE_CALLED_FROM) {
  const int lane = riffle::emulation::lane(), source = lane ^ lane_mask;
  return riffle::emulation::shuffle(mask, value, source > (lane | (width - 1)) ? lane : source, file, line);
}

// --- atomics: each returns the old value ---

template <class T>
T atomicAdd(T* address, riffle::emulation::NotDeduced<T> value) {
  return riffle::emulation::read_modify_write(address, [=](T old) { return T(old + value); });
}
template <class T>
T atomicSub(T* address, riffle::emulation::NotDeduced<T> value) {
  return riffle::emulation::read_modify_write(address, [=](T old) { return T(old - value); });
}
template <class T>
T atomicMax(T* address, riffle::emulation::NotDeduced<T> value) {
  return riffle::emulation::read_modify_write(address, [=](T old) { return old < value ? value : old; });
}
template <class T>
T atomicMin(T* address, riffle::emulation::NotDeduced<T> value) {
  return riffle::emulation::read_modify_write(address, [=](T old) { return value < old ? value : old; });
}
template <class T>
T atomicOr(T* address, riffle::emulation::NotDeduced<T> value) {
  return riffle::emulation::read_modify_write(address, [=](T old) { return T(old | value); });
}
template <class T>
T atomicAnd(T* address, riffle::emulation::NotDeduced<T> value) {
  return riffle::emulation::read_modify_write(address, [=](T old) { return T(old & value); });
}
template <class T>
T atomicExch(T* address, riffle::emulation::NotDeduced<T> value) {
  return riffle::emulation::read_modify_write(address, [=](T) { return value; });
}
template <class T>
T atomicCAS(T* address, riffle::emulation::NotDeduced<T> expected, riffle::emulation::NotDeduced<T> value) {
  return riffle::emulation::read_modify_write(address, [=](T old) { return old == expected ? value : old; });
}
inline unsigned atomicInc(unsigned* address, unsigned last) {
  return riffle::emulation::read_modify_write(address, [=](unsigned old) { return old >= last ? 0u : old + 1; });
}

#undef RIFFLE_CALLED_FROM

#include "cuda/emulation/intrinsics.h"
