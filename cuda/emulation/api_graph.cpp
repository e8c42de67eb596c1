// Stream capture and graphs.
#include <unordered_map>

#include "cuda/emulation/api.h"
#include "cuda/emulation/control.h"

using namespace riffle::emulation;

struct CUgraph_st {
  std::vector<NodePtr> nodes;
};

struct CUgraphExec_st {
  std::vector<NodePtr> nodes;
};

namespace {

uint64_t launched_graphs = 0;

cudaStreamCaptureStatus status_of(const Stream& stream) {
  if (stream.capture == nullptr) return cudaStreamCaptureStatusNone;
  return stream.capture->invalid ? cudaStreamCaptureStatusInvalidated : cudaStreamCaptureStatusActive;
}

// One operation a node; nodes come after those that they wait for.
std::vector<OperationPtr> operations_of(const std::vector<NodePtr>& nodes) {
  std::vector<OperationPtr> operations;
  std::unordered_map<const Node*, OperationPtr> operation_of;
  for (const NodePtr& node : nodes) {
    auto operation = std::make_shared<Operation>();
    operation->run = node->run;
    for (const NodePtr& before : node->after) operation->after.push_back(operation_of.at(before.get()));
    operation_of[node.get()] = operation;
    operations.push_back(std::move(operation));
  }
  return operations;
}

}  // namespace

uint64_t riffle::emulation::graph_launches() {
  return launched_graphs;
}

extern "C" {

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
  RIFFLE_API_ENTRY();
  Stream* stream = find_stream(handle);
  if (stream == nullptr) return refuse(cudaErrorInvalidResourceHandle);
  return begin_capture(stream, mode);
}

cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
  RIFFLE_API_ENTRY();
  *graph = nullptr;
  Stream* stream = find_stream(handle);
  if (stream == nullptr) return refuse(cudaErrorInvalidResourceHandle);
  std::vector<NodePtr> nodes;
  const cudaError_t status = end_capture(stream, &nodes);
  if (status == cudaSuccess && !options().captures) return refuse(cudaErrorStreamCaptureUnsupported);
  if (status == cudaSuccess) *graph = new CUgraph_st{std::move(nodes)};
  return status;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
  RIFFLE_API_ENTRY();
  const Stream* stream = find_stream(handle);
  if (stream == nullptr) return refuse(cudaErrorInvalidResourceHandle);
  if (stream->is_legacy && invalidate_captures(UnsafeCall::kLegacyStream))
    return refuse(cudaErrorStreamCaptureImplicit);
  *status = status_of(*stream);
  return cudaSuccess;
}

cudaError_t cudaStreamGetCaptureInfo(cudaStream_t handle, cudaStreamCaptureStatus* status, unsigned long long* id,
                                     cudaGraph_t* graph, const cudaGraphNode_t** dependencies,
                                     const cudaGraphEdgeData** edges, size_t* dependency_count) {
  RIFFLE_API_ENTRY();
  if (graph != nullptr || dependencies != nullptr || edges != nullptr || dependency_count != nullptr)
    return refuse(cudaErrorNotSupported);
  const Stream* stream = find_stream(handle);
  if (stream == nullptr) return refuse(cudaErrorInvalidResourceHandle);
  *status = status_of(*stream);
  if (id != nullptr && stream->capture != nullptr) *id = stream->capture->id;
  return cudaSuccess;
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  RIFFLE_API_ENTRY();
  exchange_capture_mode(mode);
  return cudaSuccess;
}

// Only the number of nodes can be asked for.
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  RIFFLE_API_ENTRY();
  if (nodes != nullptr) return refuse(cudaErrorNotSupported);
  *count = graph->nodes.size();
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  RIFFLE_API_ENTRY();
  if (graph == nullptr) return refuse(cudaErrorInvalidValue);
  *executable = new CUgraphExec_st{graph->nodes};
  return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) {
  RIFFLE_API_ENTRY();
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t handle) {
  RIFFLE_API_ENTRY();
  Stream* stream = find_stream(handle);
  if (stream == nullptr || executable == nullptr) return refuse(cudaErrorInvalidResourceHandle);
  if (stream->capture != nullptr) return invalidate(stream, cudaErrorStreamCaptureUnsupported);
  if (stream->is_legacy && invalidate_captures(UnsafeCall::kLegacyStream))
    return refuse(cudaErrorStreamCaptureImplicit);
  ++launched_graphs;
  enqueue_graph(stream, operations_of(executable->nodes));
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  RIFFLE_API_ENTRY();
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  RIFFLE_API_ENTRY();
  delete executable;
  return cudaSuccess;
}

}  // extern "C"
