// Recording of streams into graphs, with the refusals of the real one; see cudaStreamBeginCapture. Stricter than CUDA
// in two things: work on the legacy stream is refused wherever unsafe calls are, even if the captured streams do not
// synchronise with it (it would be missing in the graph), and so are cudaMallocAsync and copies of pageable memory.
#pragma once

#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "cuda/emulation/queue.h"

namespace riffle::emulation {

struct Node {
  std::function<void()> run;
  std::vector<std::shared_ptr<Node>> after;
};
using NodePtr = std::shared_ptr<Node>;

struct Capture {
  uint64_t id = 0;
  Stream* origin = nullptr;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  std::thread::id thread;  // that began it
  bool invalid = false;
  std::vector<Stream*> streams;  // origin and forks
  std::vector<NodePtr> nodes;    // as recorded
};

// An event that was recorded in a capture.
struct CapturedEvent {
  std::shared_ptr<Capture> capture;
  std::vector<NodePtr> after;
};

cudaError_t begin_capture(Stream* stream, cudaStreamCaptureMode mode);
// Returns the nodes; none and an error if the capture went wrong.
cudaError_t end_capture(Stream* stream, std::vector<NodePtr>* nodes);
// The stream is about to be destroyed.
void abandon_capture(Stream* stream);
cudaError_t add_node(Stream* stream, std::function<void()> run);
// cudaStreamWaitEvent for a captured event: the stream joins the capture.
cudaError_t join_capture(Stream* stream, const CapturedEvent& event);

enum class UnsafeCall { kLegacyStream, kSynchronous };
// If a capture forbids calls of this kind: makes all such captures invalid and returns true.
bool invalidate_captures(UnsafeCall call);
// Makes the stream's capture invalid; returns `status`, for cudaGetLastError as well.
cudaError_t invalidate(Stream* stream, cudaError_t status);
// cudaThreadExchangeStreamCaptureMode
void exchange_capture_mode(cudaStreamCaptureMode* mode);

}  // namespace riffle::emulation
