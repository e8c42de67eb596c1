// cudaMalloc and its relatives, pinned memory, pointers.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "cuda/emulation/api.h"
#include "cuda/emulation/device_memory.h"

using namespace riffle::emulation;

namespace {

constexpr size_t kHostAlignment = 4096;

// An address range on `device`, after all queued frees if that is what it takes; null if there is none.
char* reserve(int device, size_t bytes) {
  char* address = memory_of(device).reserve(bytes);
  if (address != nullptr) return address;
  wait_for_device(device);
  return memory_of(device).reserve(bytes);
}

bool give_back(void* pointer) {
  const int device = device_of(pointer);
  return device >= 0 && memory_of(device).give_back(pointer);
}

void free_now(char* address) {
  DeviceMemory& memory = memory_of(device_of(address));
  memory.make_inaccessible(address);
  memory.release(address);
}

cudaError_t allocate_host(void** pointer, size_t bytes) {
  *pointer = nullptr;
  if (bytes == 0) return cudaSuccess;
  *pointer = std::aligned_alloc(kHostAlignment, (bytes + kHostAlignment - 1) / kHostAlignment * kHostAlignment);
  if (*pointer == nullptr) return refuse(cudaErrorMemoryAllocation);
  std::memset(*pointer, 0xff, bytes);  // NaN, rather than a convenient zero
  add_pinned(*pointer, bytes, false);
  return cudaSuccess;
}

void wait_for_all_devices() {
  for (int device = 0; device < device_count(); ++device) wait_for_device(device);
}

}  // namespace

extern "C" {

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  RIFFLE_API_ENTRY_NOT_IN_CAPTURE();
  *pointer = nullptr;
  if (bytes == 0) return cudaSuccess;
  const int device = current_device();
  char* address = reserve(device, bytes);
  if (address == nullptr) return refuse(cudaErrorMemoryAllocation);
  memory_of(device).make_accessible(address);
  *pointer = address;
  return cudaSuccess;
}

cudaError_t cudaFree(void* pointer) {
  RIFFLE_API_ENTRY_NOT_IN_CAPTURE();
  if (pointer == nullptr) return cudaSuccess;
  if (!give_back(pointer)) return refuse(cudaErrorInvalidValue);
  wait_for_device(device_of(pointer));
  free_now(static_cast<char*>(pointer));
  return kernel_error();
}

cudaError_t cudaMallocAsync(void** pointer, size_t bytes, cudaStream_t handle) {
  RIFFLE_API_ENTRY();
  Stream* stream = find_stream(handle);
  if (stream == nullptr) return refuse(cudaErrorInvalidResourceHandle);
  if (stream->capture != nullptr) return invalidate(stream, cudaErrorStreamCaptureUnsupported);
  *pointer = nullptr;
  if (bytes == 0) return cudaSuccess;
  const int device = stream->device;
  char* address = reserve(device, bytes);
  if (address == nullptr) return refuse(cudaErrorMemoryAllocation);
  *pointer = address;
  return submit(stream, [address, device] { memory_of(device).make_accessible(address); });
}

cudaError_t cudaFreeAsync(void* pointer, cudaStream_t handle) {
  RIFFLE_API_ENTRY();
  Stream* stream = find_stream(handle);
  if (stream == nullptr) return refuse(cudaErrorInvalidResourceHandle);
  if (stream->capture != nullptr) return invalidate(stream, cudaErrorStreamCaptureUnsupported);
  if (pointer == nullptr || !give_back(pointer)) return refuse(cudaErrorInvalidValue);
  return submit(stream, [address = static_cast<char*>(pointer)] { free_now(address); });
}

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  RIFFLE_API_ENTRY();
  const DeviceMemory& memory = memory_of(current_device());
  *total_bytes = memory.total_bytes();
  *free_bytes = memory.total_bytes() - std::min(memory.total_bytes(), memory.bytes_in_use());
  return cudaSuccess;
}

cudaError_t cudaMallocHost(void** pointer, size_t bytes) {
  RIFFLE_API_ENTRY_NOT_IN_CAPTURE();
  return allocate_host(pointer, bytes);
}

cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned) {
  RIFFLE_API_ENTRY_NOT_IN_CAPTURE();
  return allocate_host(pointer, bytes);
}

cudaError_t cudaFreeHost(void* pointer) {
  RIFFLE_API_ENTRY_NOT_IN_CAPTURE();
  if (pointer == nullptr) return cudaSuccess;
  wait_for_all_devices();
  if (!remove_pinned(pointer, false)) return refuse(cudaErrorInvalidValue);
  std::free(pointer);
  return kernel_error();
}

cudaError_t cudaHostRegister(void* pointer, size_t bytes, unsigned) {
  RIFFLE_API_ENTRY_NOT_IN_CAPTURE();
  if (pointer == nullptr || bytes == 0) return refuse(cudaErrorInvalidValue);
  if (is_pinned(pointer)) return refuse(cudaErrorHostMemoryAlreadyRegistered);
  add_pinned(pointer, bytes, true);
  return cudaSuccess;
}

cudaError_t cudaHostUnregister(void* pointer) {
  RIFFLE_API_ENTRY_NOT_IN_CAPTURE();
  wait_for_all_devices();
  return remove_pinned(pointer, true) ? kernel_error() : refuse(cudaErrorHostMemoryNotRegistered);
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  RIFFLE_API_ENTRY();
  *attributes = {};
  const int device = device_of(pointer);
  attributes->type = device >= 0          ? cudaMemoryTypeDevice
                     : is_pinned(pointer) ? cudaMemoryTypeHost
                                          : cudaMemoryTypeUnregistered;
  attributes->device = device >= 0 ? device : current_device();
  if (attributes->type != cudaMemoryTypeUnregistered) attributes->devicePointer = const_cast<void*>(pointer);
  if (device < 0) attributes->hostPointer = const_cast<void*>(pointer);
  return cudaSuccess;
}

// The pool behind cudaMallocAsync keeps nothing: freed memory goes back to the device.
cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int device) {
  RIFFLE_API_ENTRY();
  if (device < 0 || device >= device_count()) return refuse(cudaErrorInvalidDevice);
  *pool = reinterpret_cast<cudaMemPool_t>(&memory_of(device));
  return cudaSuccess;
}

cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) {
  RIFFLE_API_ENTRY();
  return cudaSuccess;
}

cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value) {
  RIFFLE_API_ENTRY();
  if (attribute != cudaMemPoolAttrUsedMemCurrent && attribute != cudaMemPoolAttrReservedMemCurrent)
    return refuse(cudaErrorNotSupported);
  *static_cast<uint64_t*>(value) = reinterpret_cast<const DeviceMemory*>(pool)->bytes_in_use();
  return cudaSuccess;
}

cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, size_t) {
  RIFFLE_API_ENTRY();
  return cudaSuccess;
}

}  // extern "C"
