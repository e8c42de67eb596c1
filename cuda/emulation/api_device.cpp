// Devices, their properties and limits (an H100's), errors and versions.
#include <algorithm>
#include <cstdio>
#include <cstring>

#include "cuda/emulation/api.h"
#include "cuda/emulation/block.h"
#include "cuda/emulation/device_memory.h"
#include "cuda/emulation/image.h"
#include "cuda/emulation/launch.h"

using namespace riffle::emulation;

namespace {

constexpr int kMultiprocessors = 132, kThreadsPerMultiprocessor = 2048, kBlocksPerMultiprocessor = 32;
constexpr int kRegistersPerMultiprocessor = 65536, kReservedSharedPerBlock = 1024;
constexpr size_t kSharedPerMultiprocessor = 228 << 10;
constexpr int kAssumedRegisters = 32;  // a thread's, of every kernel: the host compiler does not know

bool is_device(int device) {
  return device >= 0 && device < device_count();
}

cudaDeviceProp properties_of(int device) {
  cudaDeviceProp properties{};
  std::snprintf(properties.name, sizeof properties.name, "Emulated device");
  properties.totalGlobalMem = memory_of(device).total_bytes();
  properties.sharedMemPerBlock = kDefaultShared;
  properties.sharedMemPerBlockOptin = kMaxDynamicShared;
  properties.sharedMemPerMultiprocessor = kSharedPerMultiprocessor;
  properties.reservedSharedMemPerBlock = kReservedSharedPerBlock;
  properties.regsPerBlock = properties.regsPerMultiprocessor = kRegistersPerMultiprocessor;
  properties.warpSize = 32;
  properties.memPitch = 0x7fffffff;
  properties.maxThreadsPerBlock = 1024;
  properties.maxThreadsDim[0] = properties.maxThreadsDim[1] = 1024;
  properties.maxThreadsDim[2] = 64;
  properties.maxGridSize[0] = 0x7fffffff;
  properties.maxGridSize[1] = properties.maxGridSize[2] = 65535;
  properties.totalConstMem = 65536;
  properties.major = 9;
  properties.minor = 0;
  properties.multiProcessorCount = kMultiprocessors;
  properties.maxThreadsPerMultiProcessor = kThreadsPerMultiprocessor;
  properties.maxBlocksPerMultiProcessor = kBlocksPerMultiprocessor;
  properties.l2CacheSize = 50 << 20;
  properties.memoryBusWidth = 5120;
  properties.asyncEngineCount = 3;
  properties.concurrentKernels = properties.unifiedAddressing = properties.canMapHostMemory = 1;
  properties.memoryPoolsSupported = properties.streamPrioritiesSupported = properties.hostRegisterSupported = 1;
  properties.pciBusID = device + 1;
  return properties;
}

struct ErrorText {
  cudaError_t error;
  const char *name, *text;
};

#define RIFFLE_ERROR(name, text) \
  { name, #name, text }
const ErrorText kErrors[] = {
    RIFFLE_ERROR(cudaSuccess, "no error"),
    RIFFLE_ERROR(cudaErrorInvalidValue, "invalid argument"),
    RIFFLE_ERROR(cudaErrorMemoryAllocation, "out of memory"),
    RIFFLE_ERROR(cudaErrorInvalidConfiguration, "invalid configuration argument"),
    RIFFLE_ERROR(cudaErrorInvalidPitchValue, "invalid pitch argument"),
    RIFFLE_ERROR(cudaErrorInvalidSymbol, "invalid device symbol"),
    RIFFLE_ERROR(cudaErrorInvalidMemcpyDirection, "invalid copy direction for memcpy"),
    RIFFLE_ERROR(cudaErrorInvalidDevice, "invalid device ordinal"),
    RIFFLE_ERROR(cudaErrorInvalidResourceHandle, "invalid resource handle, or one of another device"),
    RIFFLE_ERROR(cudaErrorIllegalState, "the operation cannot be performed in the present state"),
    RIFFLE_ERROR(cudaErrorNotReady, "device not ready"),
    RIFFLE_ERROR(cudaErrorPeerAccessUnsupported, "peer access is not supported between these two devices"),
    RIFFLE_ERROR(cudaErrorHostMemoryAlreadyRegistered, "host memory is already registered"),
    RIFFLE_ERROR(cudaErrorHostMemoryNotRegistered, "host memory is not registered"),
    RIFFLE_ERROR(cudaErrorLaunchFailure, "a kernel did something wrong; see the [emulation] lines on stderr"),
    RIFFLE_ERROR(cudaErrorNotPermitted, "operation not permitted, such as CUDA calls in a host function"),
    RIFFLE_ERROR(cudaErrorNotSupported, "operation not supported"),
    RIFFLE_ERROR(cudaErrorStreamCaptureUnsupported, "operation not permitted when a stream is capturing"),
    RIFFLE_ERROR(cudaErrorStreamCaptureInvalidated, "the capture failed because of an earlier error"),
    RIFFLE_ERROR(cudaErrorStreamCaptureMerge, "the call would merge two captures"),
    RIFFLE_ERROR(cudaErrorStreamCaptureUnmatched, "the capture was begun in another stream"),
    RIFFLE_ERROR(cudaErrorStreamCaptureUnjoined, "the capture has a fork that was not joined"),
    RIFFLE_ERROR(cudaErrorStreamCaptureIsolation, "the capture would depend on work outside it"),
    RIFFLE_ERROR(cudaErrorStreamCaptureImplicit, "a capture does not allow the implicit use of the legacy stream"),
    RIFFLE_ERROR(cudaErrorStreamCaptureWrongThread, "the capture was begun by another thread"),
    RIFFLE_ERROR(cudaErrorCapturedEvent, "operation not permitted on an event that was last recorded in a capture"),
};
#undef RIFFLE_ERROR

const ErrorText* find_error(cudaError_t error) {
  for (const ErrorText& known : kErrors)
    if (known.error == error) return &known;
  return nullptr;
}

}  // namespace

extern "C" {

cudaError_t cudaGetLastError() {
  const Lock lock;
  return last_error(true);
}

cudaError_t cudaPeekAtLastError() {
  const Lock lock;
  return last_error(false);
}

const char* cudaGetErrorName(cudaError_t error) {
  const ErrorText* known = find_error(error);
  return known != nullptr ? known->name : "unrecognized error code";
}

const char* cudaGetErrorString(cudaError_t error) {
  const ErrorText* known = find_error(error);
  return known != nullptr ? known->text : "unrecognized error code";
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int* count) {
  RIFFLE_API_ENTRY();
  *count = device_count();
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  RIFFLE_API_ENTRY();
  *device = current_device();
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  RIFFLE_API_ENTRY();
  if (!is_device(device)) return refuse(cudaErrorInvalidDevice);
  set_current_device(device);
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  RIFFLE_API_ENTRY_NOT_IN_CAPTURE();
  wait_for_device(current_device());
  return kernel_error();
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  RIFFLE_API_ENTRY();
  if (!is_device(device)) return refuse(cudaErrorInvalidDevice);
  *properties = properties_of(device);
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  RIFFLE_API_ENTRY();
  if (!is_device(device)) return refuse(cudaErrorInvalidDevice);
  const cudaDeviceProp properties = properties_of(device);
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      *value = properties.maxThreadsPerBlock;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = static_cast<int>(properties.sharedMemPerBlock);
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(properties.sharedMemPerBlockOptin);
      break;
    case cudaDevAttrWarpSize:
      *value = properties.warpSize;
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = properties.multiProcessorCount;
      break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = properties.maxThreadsPerMultiProcessor;
      break;
    case cudaDevAttrMaxBlocksPerMultiprocessor:
      *value = properties.maxBlocksPerMultiProcessor;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = properties.major;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = properties.minor;
      break;
    case cudaDevAttrL2CacheSize:
      *value = properties.l2CacheSize;
      break;
    case cudaDevAttrMemoryPoolsSupported:
      *value = properties.memoryPoolsSupported;
      break;
    case cudaDevAttrGlobalMemoryBusWidth:
      *value = properties.memoryBusWidth;
      break;
    case cudaDevAttrClockRate:
      *value = 1980000;
      break;  // kHz
    case cudaDevAttrMemoryClockRate:
      *value = 2619000;
      break;  // kHz
    default:
      return refuse(cudaErrorNotSupported);
  }
  return cudaSuccess;
}

cudaError_t cudaDeviceCanAccessPeer(int* can, int device, int peer) {
  RIFFLE_API_ENTRY();
  if (!is_device(device) || !is_device(peer)) return refuse(cudaErrorInvalidDevice);
  *can = 0;
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
  RIFFLE_API_ENTRY();
  if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout) return cudaSuccess;  // a hint
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return refuse(cudaErrorNotSupported);
  return allow_dynamic_shared(function, value) ? cudaSuccess : refuse(cudaErrorInvalidValue);
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* function) {
  RIFFLE_API_ENTRY();
  *attributes = {};
  attributes->sharedSizeBytes = image().kernel(function).shared_bytes;
  attributes->maxThreadsPerBlock = 1024;
  attributes->numRegs = kAssumedRegisters;
  attributes->binaryVersion = attributes->ptxVersion = 90;
  return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* function, int threads,
                                                          size_t dynamic_bytes) {
  RIFFLE_API_ENTRY();
  if (threads <= 0) return refuse(cudaErrorInvalidValue);
  const size_t shared = image().kernel(function).shared_bytes + dynamic_bytes + kReservedSharedPerBlock;
  const int whole_warps = (threads + 31) / 32 * 32;
  *blocks = threads > 1024 ? 0
                           : std::min({kBlocksPerMultiprocessor, kThreadsPerMultiprocessor / whole_warps,
                                       kRegistersPerMultiprocessor / kAssumedRegisters / whole_warps,
                                       static_cast<int>(kSharedPerMultiprocessor / shared)});
  return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void* function, int threads,
                                                                   size_t dynamic_bytes, unsigned) {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks, function, threads, dynamic_bytes);
}

}  // extern "C"
