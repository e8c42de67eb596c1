// Streams, events, pinned memory and device properties.
#include "cuda/runtime.h"

#include "cuda/status.h"

namespace riffle {

void use_device(int device) {
  RIFFLE_CUDA(cudaSetDevice(device));
}

DeviceProperties device_properties(int device) {
  int count = 0;
  RIFFLE_CUDA(cudaGetDeviceCount(&count));
  if (device < 0 || device >= count)
    fail("there is no CUDA device ", device, "; ", count, count == 1 ? " is" : " are",
         " visible, counted from 0 (`riffle devices` lists them)");
  cudaDeviceProp found{};
  RIFFLE_CUDA(cudaGetDeviceProperties(&found, device));
  DeviceProperties properties;
  properties.name = found.name;
  properties.compute_major = found.major;
  properties.compute_minor = found.minor;
  properties.multiprocessors = found.multiProcessorCount;
  properties.memory_bytes = static_cast<int64_t>(found.totalGlobalMem);
  int kilohertz = 0;
  if (cudaDeviceGetAttribute(&kilohertz, cudaDevAttrMemoryClockRate, device) == cudaSuccess) {
    const double transfers = 2e3 * kilohertz;  // double data rate
    properties.bandwidth = transfers * found.memoryBusWidth / 8;
  } else {
    cudaGetLastError();
  }
  return properties;
}

Event::Event(Timing timing) {
  RIFFLE_CUDA(cudaEventCreateWithFlags(&event_, timing == Timing::kOn ? cudaEventDefault : cudaEventDisableTiming));
}

Event::~Event() {
  cudaEventDestroy(event_);
}

void Event::record(cudaStream_t stream) const {
  RIFFLE_CUDA(cudaEventRecord(event_, stream));
}

void Event::wait() const {
  RIFFLE_CUDA(cudaEventSynchronize(event_));
}

float Event::milliseconds_since(const Event& start) const {
  float milliseconds = 0;
  RIFFLE_CUDA(cudaEventElapsedTime(&milliseconds, start.event_, event_));
  return milliseconds;
}

Stream::Stream() {
  RIFFLE_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
}

Stream::~Stream() {
  cudaStreamSynchronize(stream_);
  cudaStreamDestroy(stream_);
}

void Stream::synchronize() const {
  RIFFLE_CUDA(cudaStreamSynchronize(stream_));
}

void Stream::wait(const Event& event) const {
  RIFFLE_CUDA(cudaStreamWaitEvent(stream_, event.get(), 0));
}

bool Stream::capturing() const {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  RIFFLE_CUDA(cudaStreamIsCapturing(stream_, &status));
  return status != cudaStreamCaptureStatusNone;
}

PinnedBuffer::PinnedBuffer(size_t bytes) : bytes_(bytes) {
  RIFFLE_CUDA(cudaHostAlloc(&data_, bytes, cudaHostAllocDefault));
}

PinnedBuffer::~PinnedBuffer() {
  cudaFreeHost(data_);
}

PinnedStaging::~PinnedStaging() {
  for (const auto& slot : slots_)
    if (slot) cudaEventSynchronize(slot->copied.get());
}

PinnedStaging::Slot& PinnedStaging::next() {
  std::unique_ptr<Slot>& slot = slots_[turn_];
  turn_ = (turn_ + 1) % kSlots;
  if (slot) {
    slot->copied.wait();
  } else {
    slot = std::make_unique<Slot>();
  }
  return *slot;
}

}  // namespace riffle
