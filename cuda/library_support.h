// What the wrappers of cuBLASLt and cuDNN share: workspaces, and timing of the algorithms that a library offers.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <initializer_list>

#include "core/out_of_memory.h"
#include "core/tensor.h"
#include "cuda/runtime.h"

namespace riffle {

// Device memory of this many bytes, aligned to 256, for work on the compute stream; reused in stream order when the
// tensor goes.
using ScratchBytes = std::function<Tensor(int64_t bytes)>;

// Undefined, and raw() null, for none.
inline Tensor workspace_of(const ScratchBytes& scratch, size_t bytes) {
  if (bytes == 0) return {};
  const Tensor workspace = scratch(static_cast<int64_t>(bytes));
  RIFFLE_CHECK(reinterpret_cast<uintptr_t>(workspace.raw()) % 256 == 0, "cuBLASLt needs workspaces aligned to 256");
  return workspace;
}

struct LibrarySettings {
  bool tf32 = false;           // products of f32 may round their factors to tf32
  bool deterministic = false;  // the library's first choice, a function of the problem alone, instead of the quickest
};

// The largest power of two, up to `limit` (one itself), that divides the address and every one of `strides` (bytes).
inline uint32_t common_alignment(const void* address, std::initializer_list<int64_t> strides, uint32_t limit) {
  uint64_t bits = reinterpret_cast<uintptr_t>(address) | limit;
  for (int64_t stride : strides) bits |= static_cast<uint64_t>(stride);
  return static_cast<uint32_t>(bits & (~bits + 1));
}

// Whether a candidate runs: one whose workspace there is no memory for does not, and others may.
inline bool runs(const std::function<bool()>& attempt) {
  try {
    return attempt();
  } catch (const OutOfMemory&) {
    return false;
  }
}

// Milliseconds of device time of `launches` calls of `work`, which queues on `stream`, for each.
inline float milliseconds_each(const Stream& stream, const std::function<void()>& work, int launches) {
  const Event start(Event::Timing::kOn), end(Event::Timing::kOn);
  start.record(stream.get());
  for (int launch = 0; launch < launches; ++launch) work();
  end.record(stream.get());
  end.wait();
  return end.milliseconds_since(start) / static_cast<float>(launches);
}

// Milliseconds of device time that `work` takes, after whatever ran before warmed it up; `to_beat`: what another choice
// takes. A single launch tells work that is hopeless, and long work. Short work is queued several times: the first
// launch of a queue also counts what it costs the host.
inline float least_milliseconds(const Stream& stream, const std::function<void()>& work, float to_beat) {
  constexpr float kQueuedMilliseconds = 0.2f;
  constexpr int kMostLaunches = 10, kRepeats = 2;
  float least = milliseconds_each(stream, work, 1);
  if (least > 2 * to_beat) return least;
  const int launches = least * kMostLaunches < kQueuedMilliseconds
                           ? kMostLaunches
                           : std::max(1, static_cast<int>(kQueuedMilliseconds / least));
  for (int repeat = 0; repeat < kRepeats; ++repeat) least = std::min(least, milliseconds_each(stream, work, launches));
  return least;
}

}  // namespace riffle
