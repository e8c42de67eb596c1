// Work that was submitted and has not run. Every operation names those it must run after (its stream's previous one,
// events it waits for); somebody who waits for one makes all of those run, in an order that options().work chooses.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

namespace riffle::emulation {

struct Operation {
  std::function<void()> run;  // may be empty
  std::vector<std::shared_ptr<Operation>> after;
  uint64_t number = 0;  // as submitted
  bool done = false;
};
using OperationPtr = std::shared_ptr<Operation>;

struct Capture;
struct Node;

}  // namespace riffle::emulation

struct CUstream_st {
  int device = 0;
  unsigned flags = cudaStreamDefault;
  int priority = 0;
  bool is_legacy = false;
  bool destroyed = false;                               // its work remains
  riffle::emulation::OperationPtr tail;                 // null or the last operation
  std::shared_ptr<riffle::emulation::Capture> capture;  // null: not capturing
  std::vector<std::shared_ptr<riffle::emulation::Node>> capture_tail;

  bool is_blocking() const { return (flags & cudaStreamNonBlocking) == 0; }
};

namespace riffle::emulation {

using Stream = CUstream_st;

// One OS thread at a time is in the emulated runtime. The first one also runs the canary of a check build.
class Lock {
 public:
  Lock();

 private:
  std::lock_guard<std::recursive_mutex> guard_;
};

// Of the calling OS thread.
int current_device();
void set_current_device(int device);

// The stream of a handle, among them null (the current device's legacy stream); null pointer if there is none.
Stream* find_stream(cudaStream_t handle);
Stream* create_stream(unsigned flags, int priority);
void destroy_stream(Stream* stream);
Stream* legacy_stream(int device);

// Queues `run` behind what the stream holds, or adds it to the stream's capture. Returns what a launch returns.
cudaError_t submit(Stream* stream, std::function<void()> run);
// Queues an operation that also waits for `others`; never captured.
OperationPtr enqueue(Stream* stream, std::function<void()> run, std::vector<OperationPtr> others = {});
// Queues operations with their `after` among themselves as one: all behind the stream's last, the next behind all.
void enqueue_graph(Stream* stream, const std::vector<OperationPtr>& operations);

// Runs an operation and all that it must run after.
void wait_for(const OperationPtr& operation);
void wait_for_stream(Stream* stream);
void wait_for_device(int device);
// Runs one operation of those that `operation` must wait for, if any is left: polling makes progress.
void advance(const OperationPtr& operation);
bool is_done(const OperationPtr& operation);

// True while a function given to cudaLaunchHostFunc runs: it may not call CUDA.
bool in_host_function();
void run_host_function(cudaHostFn_t function, void* data);

}  // namespace riffle::emulation
