// Owners of what the CUDA runtime hands out: streams, events, pinned memory. Constructors and methods throw an Error
// when CUDA refuses; destructors cannot, and ignore it.
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>

namespace riffle {

struct DeviceProperties {
  std::string name;
  int compute_major = 0, compute_minor = 0;
  int multiprocessors = 0;
  int64_t memory_bytes = 0;
  double bandwidth = 0;  // of memory, bytes a second; 0 where the driver does not tell
};
// Throws if there is no such device. Does not make it current.
DeviceProperties device_properties(int device);
// Makes `device` the calling thread's.
void use_device(int device);

class Event {
 public:
  enum class Timing { kOff, kOn };
  explicit Event(Timing timing = Timing::kOff);
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  cudaEvent_t get() const { return event_; }
  void record(cudaStream_t stream) const;
  // Blocks until the work before record() is done; returns at once if there was no record().
  void wait() const;
  // Both with Timing::kOn, recorded and done.
  float milliseconds_since(const Event& start) const;

 private:
  cudaEvent_t event_ = nullptr;
};

// Of the current device. Does not wait for the legacy default stream.
class Stream {
 public:
  Stream();
  ~Stream();  // waits for its work
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  cudaStream_t get() const { return stream_; }
  void synchronize() const;
  // Work queued from now on starts after what `event` recorded.
  void wait(const Event& event) const;
  bool capturing() const;

 private:
  cudaStream_t stream_ = nullptr;
};

// Page-locked host memory, which a GPU copies from and to without the CPU.
class PinnedBuffer {
 public:
  explicit PinnedBuffer(size_t bytes);
  ~PinnedBuffer();
  PinnedBuffer(const PinnedBuffer&) = delete;
  PinnedBuffer& operator=(const PinnedBuffer&) = delete;

  char* data() const { return static_cast<char*>(data_); }
  size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

// A ring of pinned buffers through which data passes between the program's memory and the device, so that the program's
// may be pageable and is free again when a call returns. Whoever queues a copy records `copied` after it; next() waits
// for that before it hands the slot out again.
class PinnedStaging {
 public:
  static constexpr size_t kSlotBytes = size_t{4} << 20;  // a copy of this size runs at the full speed of the bus
  static constexpr size_t kSlots = 4;

  struct Slot {
    PinnedBuffer buffer{kSlotBytes};
    Event copied;
  };

  ~PinnedStaging();
  Slot& next();

 private:
  std::array<std::unique_ptr<Slot>, kSlots> slots_;  // made when first needed
  size_t turn_ = 0;
};

}  // namespace riffle
