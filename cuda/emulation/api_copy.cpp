// cudaMemcpy and cudaMemset in their forms. Pinned host memory is read and written when the copy runs; pageable memory
// is read at once, and a copy into it returns when it is done, as the CUDA documentation promises for each.
#include <cstring>
#include <memory>
#include <vector>

#include "cuda/emulation/api.h"
#include "cuda/emulation/device_memory.h"
#include "cuda/emulation/image.h"
#include "cuda/emulation/shadow.h"

using namespace riffle::emulation;

namespace {

struct Rows {
  size_t bytes = 0, count = 1;  // of each row; how many
  size_t span(size_t pitch) const { return count == 0 || bytes == 0 ? 0 : (count - 1) * pitch + bytes; }
};

struct Copy {
  char* to;
  size_t to_pitch;
  const char* from;
  size_t from_pitch;
  Rows rows;
};

bool is_device(const void* pointer) {
  return device_of(pointer) >= 0;
}

bool lies_in_allocation(const void* pointer, size_t bytes) {
  const char* begin = nullptr;
  const Allocation* allocation = memory_of(device_of(pointer)).find(pointer, &begin);
  return allocation != nullptr && static_cast<const char*>(pointer) + bytes <= begin + allocation->bytes;
}

bool is_accessible(const void* pointer, const char* what) {
  if (!is_device(pointer)) return true;
  const Allocation* allocation = memory_of(device_of(pointer)).find(pointer);
  if (allocation != nullptr && allocation->accessible) return true;
  report("out of bounds", "%s device memory %p, which in stream order is freed or not yet allocated", what, pointer);
  return false;
}

void run_copy(const Copy& copy) {
  if (!is_accessible(copy.to, "a copy into") || !is_accessible(copy.from, "a copy from")) return;
  for (size_t row = 0; row < copy.rows.count; ++row) {
    char* to = copy.to + row * copy.to_pitch;
    std::memmove(to, copy.from + row * copy.from_pitch, copy.rows.bytes);
    if (kCheckBuild && is_device(to)) mark_written(to, copy.rows.bytes);
  }
}

bool agrees(cudaMemcpyKind kind, bool to_device, bool from_device) {
  switch (kind) {
    case cudaMemcpyHostToHost:
      return !to_device && !from_device;
    case cudaMemcpyHostToDevice:
      return to_device && !from_device;
    case cudaMemcpyDeviceToHost:
      return !to_device && from_device;
    case cudaMemcpyDeviceToDevice:
      return to_device && from_device;
    default:
      return kind == cudaMemcpyDefault;
  }
}

cudaError_t check_copy(const Copy& copy, cudaMemcpyKind kind) {
  if (!agrees(kind, is_device(copy.to), is_device(copy.from))) return cudaErrorInvalidMemcpyDirection;
  if (copy.to_pitch < copy.rows.bytes || copy.from_pitch < copy.rows.bytes) return cudaErrorInvalidPitchValue;
  if (is_device(copy.to) && !lies_in_allocation(copy.to, copy.rows.span(copy.to_pitch))) return cudaErrorInvalidValue;
  if (is_device(copy.from) && !lies_in_allocation(copy.from, copy.rows.span(copy.from_pitch)))
    return cudaErrorInvalidValue;
  return cudaSuccess;
}

// A copy of the host's rows, packed.
std::shared_ptr<std::vector<char>> snapshot(const Copy& copy) {
  auto bytes = std::make_shared<std::vector<char>>(copy.rows.count * copy.rows.bytes);
  for (size_t row = 0; row < copy.rows.count; ++row)
    std::memcpy(bytes->data() + row * copy.rows.bytes, copy.from + row * copy.from_pitch, copy.rows.bytes);
  return bytes;
}

cudaError_t copy_async(Copy copy, cudaMemcpyKind kind, cudaStream_t handle) {
  Stream* stream = find_stream(handle);
  if (stream == nullptr) return refuse(cudaErrorInvalidResourceHandle);
  if (copy.rows.count == 0 || copy.rows.bytes == 0) return cudaSuccess;
  const cudaError_t status = check_copy(copy, kind);
  if (status != cudaSuccess) return refuse(status);
  const auto is_pageable = [&](const char* pointer, size_t pitch) {
    return !is_device(pointer) && !is_pinned(pointer, copy.rows.span(pitch));
  };
  const bool to_pageable = is_pageable(copy.to, copy.to_pitch);
  const bool from_pageable = is_pageable(copy.from, copy.from_pitch);
  if (stream->capture != nullptr && (to_pageable || from_pageable))
    return invalidate(stream, cudaErrorStreamCaptureUnsupported);
  if (from_pageable && !to_pageable) {
    auto bytes = snapshot(copy);
    copy.from = bytes->data();
    copy.from_pitch = copy.rows.bytes;
    return submit(stream, [copy, bytes] { run_copy(copy); });
  }
  const cudaError_t submitted = submit(stream, [copy] { run_copy(copy); });
  if (submitted != cudaSuccess || !to_pageable) return submitted;
  wait_for_stream(stream);
  return kernel_error();
}

cudaError_t copy_and_wait(const Copy& copy, cudaMemcpyKind kind) {
  if (invalidate_captures(UnsafeCall::kLegacyStream)) return refuse(cudaErrorStreamCaptureImplicit);
  const cudaError_t status = copy_async(copy, kind, nullptr);
  // Between buffers of the device even this form returns at once.
  if (status != cudaSuccess || (is_device(copy.to) && is_device(copy.from))) return status;
  wait_for_stream(legacy_stream(current_device()));
  return kernel_error();
}

Copy plain_copy(void* to, const void* from, size_t bytes) {
  return {static_cast<char*>(to), bytes, static_cast<const char*>(from), bytes, {bytes, 1}};
}

Copy pitched_copy(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t height) {
  return {static_cast<char*>(to), to_pitch, static_cast<const char*>(from), from_pitch, {width, height}};
}

cudaError_t fill(void* pointer, size_t pitch, int value, Rows rows, cudaStream_t handle) {
  Stream* stream = find_stream(handle);
  if (stream == nullptr) return refuse(cudaErrorInvalidResourceHandle);
  if (rows.span(pitch) == 0) return cudaSuccess;
  if (!is_device(pointer) || pitch < rows.bytes || !lies_in_allocation(pointer, rows.span(pitch)))
    return refuse(cudaErrorInvalidValue);
  return submit(stream, [=] {
    if (!is_accessible(pointer, "a fill of")) return;
    for (size_t row = 0; row < rows.count; ++row) {
      char* begin = static_cast<char*>(pointer) + row * pitch;
      std::memset(begin, value, rows.bytes);
      if constexpr (kCheckBuild) mark_written(begin, rows.bytes);
    }
  });
}

// Symbols are variables of the program itself.
cudaError_t copy_symbol(void* to, const void* from, size_t bytes, const void* symbol, cudaStream_t handle, bool wait) {
  Stream* stream = find_stream(handle);
  if (stream == nullptr) return refuse(cudaErrorInvalidResourceHandle);
  if (!image().contains(symbol)) return refuse(cudaErrorInvalidSymbol);
  auto source = std::make_shared<std::vector<char>>();
  if (to == symbol && !is_device(from))
    source->assign(static_cast<const char*>(from), static_cast<const char*>(from) + bytes);
  const cudaError_t status = submit(stream, [=] { std::memcpy(to, source->empty() ? from : source->data(), bytes); });
  if (status != cudaSuccess || !wait) return status;
  wait_for_stream(stream);
  return kernel_error();
}

}  // namespace

extern "C" {

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  RIFFLE_API_ENTRY();
  return copy_and_wait(plain_copy(to, from, bytes), kind);
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  RIFFLE_API_ENTRY();
  return copy_async(plain_copy(to, from, bytes), kind, stream);
}

cudaError_t cudaMemcpy2D(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t height,
                         cudaMemcpyKind kind) {
  RIFFLE_API_ENTRY();
  return copy_and_wait(pitched_copy(to, to_pitch, from, from_pitch, width, height), kind);
}

cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
  RIFFLE_API_ENTRY();
  return copy_async(pitched_copy(to, to_pitch, from, from_pitch, width, height), kind, stream);
}

cudaError_t cudaMemset(void* pointer, int value, size_t bytes) {
  RIFFLE_API_ENTRY();
  return fill(pointer, bytes, value, {bytes, 1}, nullptr);
}

cudaError_t cudaMemsetAsync(void* pointer, int value, size_t bytes, cudaStream_t stream) {
  RIFFLE_API_ENTRY();
  return fill(pointer, bytes, value, {bytes, 1}, stream);
}

cudaError_t cudaMemset2D(void* pointer, size_t pitch, int value, size_t width, size_t height) {
  RIFFLE_API_ENTRY();
  return fill(pointer, pitch, value, {width, height}, nullptr);
}

cudaError_t cudaMemset2DAsync(void* pointer, size_t pitch, int value, size_t width, size_t height,
                              cudaStream_t stream) {
  RIFFLE_API_ENTRY();
  return fill(pointer, pitch, value, {width, height}, stream);
}

cudaError_t cudaMemcpyToSymbol(const void* symbol, const void* from, size_t bytes, size_t offset, cudaMemcpyKind) {
  RIFFLE_API_ENTRY();
  return copy_symbol(static_cast<char*>(const_cast<void*>(symbol)) + offset, from, bytes, symbol, nullptr, true);
}

cudaError_t cudaMemcpyToSymbolAsync(const void* symbol, const void* from, size_t bytes, size_t offset, cudaMemcpyKind,
                                    cudaStream_t stream) {
  RIFFLE_API_ENTRY();
  return copy_symbol(static_cast<char*>(const_cast<void*>(symbol)) + offset, from, bytes, symbol, stream, false);
}

cudaError_t cudaMemcpyFromSymbol(void* to, const void* symbol, size_t bytes, size_t offset, cudaMemcpyKind) {
  RIFFLE_API_ENTRY();
  return copy_symbol(to, static_cast<const char*>(symbol) + offset, bytes, symbol, nullptr, true);
}

}  // extern "C"
