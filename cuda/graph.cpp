// StepGraph: capture and replay.
#include "cuda/graph.h"

#include "cuda/status.h"

namespace riffle {
namespace {

using OwnedGraph = std::unique_ptr<CUgraph_st, decltype(&cudaGraphDestroy)>;

// Ends a capture that went wrong, if CUDA has not ended it already; its errors would only repeat what is known.
void abandon_capture(cudaStream_t stream) {
  cudaGraph_t graph = nullptr;
  cudaStreamEndCapture(stream, &graph);
  if (graph) cudaGraphDestroy(graph);
  cudaGetLastError();
}

// `allocator` must be in capture.
OwnedGraph record(cudaStream_t stream, const std::function<void()>& work) {
  // Thread-local: other threads, such as the loader's, may go on using CUDA.
  RIFFLE_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  try {
    work();
  } catch (...) {
    abandon_capture(stream);
    throw;
  }
  cudaGraph_t graph = nullptr;
  const cudaError_t status = cudaStreamEndCapture(stream, &graph);
  OwnedGraph owned(graph, &cudaGraphDestroy);
  if (status != cudaSuccess) {
    cudaGetLastError();
    fail("CUDA refused to capture the work: ", cudaGetErrorName(status), ": ", cudaGetErrorString(status),
         "; something in it waits for the device or allocates memory");
  }
  return owned;
}

}  // namespace

StepGraph::StepGraph(const Stream& stream, const std::shared_ptr<DeviceAllocator>& allocator,
                     const std::function<void()>& work)
    : stream_(stream), memory_(allocator) {
  allocator->begin_capture(memory_);
  OwnedGraph graph(nullptr, &cudaGraphDestroy);
  try {
    graph = record(stream.get(), work);
  } catch (...) {
    allocator->end_capture();
    throw;
  }
  allocator->end_capture();
  RIFFLE_CUDA(cudaGraphInstantiate(&executable_, graph.get(), 0));
}

// Replays may still be under way; their memory must not be handed out before they end. Streams order them, so nothing
// waits here: whoever gets the memory next uses it on the same stream.
StepGraph::~StepGraph() {
  cudaGraphExecDestroy(executable_);
}

void StepGraph::replay() {
  RIFFLE_CUDA(cudaGraphLaunch(executable_, stream_.get()));
}

}  // namespace riffle
