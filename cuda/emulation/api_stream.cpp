// Streams, events and host functions.
#include <chrono>
#include <memory>
#include <unordered_set>

#include "cuda/emulation/api.h"

using namespace riffle::emulation;

struct CUevent_st {
  int device = 0;
  unsigned flags = cudaEventDefault;
  OperationPtr recorded;  // null: never, or in a capture
  std::shared_ptr<double> when_ms = std::make_shared<double>(0);
  CapturedEvent captured;  // capture is null unless it was last recorded in one
};

namespace {

std::unordered_set<cudaEvent_t>& events() {
  static auto* events = new std::unordered_set<cudaEvent_t>;
  return *events;
}

bool exists(cudaEvent_t event) {
  return events().count(event) != 0;
}

double now_ms() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// What a call that may not be made on a capturing stream begins with; cudaSuccess if it may go on.
cudaError_t check_not_capturing(const Stream* stream) {
  if (stream == nullptr) return refuse(cudaErrorInvalidResourceHandle);
  if (stream->capture != nullptr) return invalidate(const_cast<Stream*>(stream), cudaErrorStreamCaptureUnsupported);
  if (stream->is_legacy && invalidate_captures(UnsafeCall::kLegacyStream))
    return refuse(cudaErrorStreamCaptureImplicit);
  return cudaSuccess;
}

cudaError_t check_waitable(cudaEvent_t event) {
  if (!exists(event)) return refuse(cudaErrorInvalidResourceHandle);
  if (event->captured.capture == nullptr) return cudaSuccess;
  event->captured.capture->invalid = true;
  return refuse(cudaErrorCapturedEvent);
}

cudaError_t poll(const OperationPtr& operation) {
  if (is_done(operation)) return kernel_error();
  advance(operation);
  return cudaErrorNotReady;
}

}  // namespace

extern "C" {

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int priority) {
  RIFFLE_API_ENTRY();
  if (flags != cudaStreamDefault && flags != cudaStreamNonBlocking) return refuse(cudaErrorInvalidValue);
  *stream = create_stream(flags, priority);
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return cudaStreamCreateWithPriority(stream, flags, 0);
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return cudaStreamCreateWithPriority(stream, cudaStreamDefault, 0);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t handle) {
  RIFFLE_API_ENTRY();
  Stream* stream = find_stream(handle);
  if (stream == nullptr || stream != handle) return refuse(cudaErrorInvalidResourceHandle);
  if (stream->capture != nullptr) abandon_capture(stream);
  destroy_stream(stream);
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  RIFFLE_API_ENTRY();
  Stream* stream = find_stream(handle);
  const cudaError_t status = check_not_capturing(stream);
  if (status != cudaSuccess) return status;
  wait_for_stream(stream);
  return kernel_error();
}

cudaError_t cudaStreamQuery(cudaStream_t handle) {
  RIFFLE_API_ENTRY();
  Stream* stream = find_stream(handle);
  const cudaError_t status = check_not_capturing(stream);
  return status != cudaSuccess ? status : poll(stream->tail);
}

cudaError_t cudaStreamGetDevice(cudaStream_t handle, int* device) {
  RIFFLE_API_ENTRY();
  const Stream* stream = find_stream(handle);
  if (stream == nullptr) return refuse(cudaErrorInvalidResourceHandle);
  *device = stream->device;
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned) {
  RIFFLE_API_ENTRY();
  Stream* stream = find_stream(handle);
  if (stream == nullptr || !exists(event)) return refuse(cudaErrorInvalidResourceHandle);
  if (event->captured.capture != nullptr) return join_capture(stream, event->captured);
  if (stream->capture != nullptr) return invalidate(stream, cudaErrorStreamCaptureIsolation);
  if (!is_done(event->recorded)) enqueue(stream, nullptr, {event->recorded});
  return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t handle, cudaHostFn_t function, void* data) {
  RIFFLE_API_ENTRY();
  Stream* stream = find_stream(handle);
  if (stream == nullptr) return refuse(cudaErrorInvalidResourceHandle);
  return submit(stream, [=] { run_host_function(function, data); });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  RIFFLE_API_ENTRY();
  *event = new CUevent_st;
  (*event)->device = current_device();
  (*event)->flags = flags;
  events().insert(*event);
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  RIFFLE_API_ENTRY();
  if (events().erase(event) == 0) return refuse(cudaErrorInvalidResourceHandle);
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t handle) {
  RIFFLE_API_ENTRY();
  Stream* stream = find_stream(handle);
  if (stream == nullptr || !exists(event) || event->device != stream->device)
    return refuse(cudaErrorInvalidResourceHandle);
  if (stream->capture != nullptr) {
    if (stream->capture->invalid) return refuse(cudaErrorStreamCaptureInvalidated);
    event->captured = {stream->capture, stream->capture_tail};
    event->recorded = nullptr;
    return cudaSuccess;
  }
  if (stream->is_legacy && invalidate_captures(UnsafeCall::kLegacyStream))
    return refuse(cudaErrorStreamCaptureImplicit);
  event->captured = {};
  event->when_ms = std::make_shared<double>(0);
  event->recorded = enqueue(stream, [when_ms = event->when_ms] { *when_ms = now_ms(); });
  return cudaSuccess;
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags) {
  return flags == cudaEventRecordDefault ? cudaEventRecord(event, stream) : cudaErrorNotSupported;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  RIFFLE_API_ENTRY();
  const cudaError_t status = check_waitable(event);
  if (status != cudaSuccess) return status;
  if (invalidate_captures(UnsafeCall::kSynchronous)) return refuse(cudaErrorStreamCaptureUnsupported);
  wait_for(event->recorded);
  return kernel_error();
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  RIFFLE_API_ENTRY();
  const cudaError_t status = check_waitable(event);
  if (status != cudaSuccess) return status;
  if (invalidate_captures(UnsafeCall::kSynchronous)) return refuse(cudaErrorStreamCaptureUnsupported);
  return poll(event->recorded);
}

cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t begin, cudaEvent_t end) {
  RIFFLE_API_ENTRY();
  if (!exists(begin) || !exists(end) || begin->recorded == nullptr || end->recorded == nullptr ||
      ((begin->flags | end->flags) & cudaEventDisableTiming) != 0)
    return refuse(cudaErrorInvalidResourceHandle);
  if (!is_done(begin->recorded) || !is_done(end->recorded)) return refuse(cudaErrorNotReady);
  *ms = static_cast<float>(*end->when_ms - *begin->when_ms);
  return cudaSuccess;
}

}  // extern "C"
