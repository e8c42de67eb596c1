#include "cuda/emulation/capture.h"

#include <algorithm>
#include <unordered_set>

#include "cuda/emulation/report.h"

namespace riffle::emulation {
namespace {

uint64_t captures_begun;
thread_local cudaStreamCaptureMode mode_of_this_thread = cudaStreamCaptureModeGlobal;

std::vector<std::shared_ptr<Capture>>& active_captures() {
  static auto* captures = new std::vector<std::shared_ptr<Capture>>;
  return *captures;
}

void join(Stream* stream, const std::shared_ptr<Capture>& capture) {
  stream->capture = capture;
  stream->capture_tail.clear();
  capture->streams.push_back(stream);
}

// All nodes that the end of the origin stream waits for.
std::unordered_set<const Node*> joined_nodes(const Stream& origin) {
  std::unordered_set<const Node*> seen;
  std::vector<const Node*> to_visit;
  for (const NodePtr& node : origin.capture_tail) to_visit.push_back(node.get());
  while (!to_visit.empty()) {
    const Node* node = to_visit.back();
    to_visit.pop_back();
    if (!seen.insert(node).second) continue;
    for (const NodePtr& before : node->after) to_visit.push_back(before.get());
  }
  return seen;
}

bool has_unjoined_fork(const Capture& capture) {
  const auto joined = joined_nodes(*capture.origin);
  return std::any_of(capture.nodes.begin(), capture.nodes.end(),
                     [&](const NodePtr& node) { return joined.count(node.get()) == 0; });
}

// To the calling thread. A capture in global mode concerns other threads too, unless they chose otherwise.
bool forbids_unsafe_calls(const Capture& capture) {
  if (capture.mode == cudaStreamCaptureModeRelaxed || mode_of_this_thread == cudaStreamCaptureModeRelaxed) return false;
  return capture.thread == std::this_thread::get_id() ||
         (capture.mode == cudaStreamCaptureModeGlobal && mode_of_this_thread == cudaStreamCaptureModeGlobal);
}

void close(const std::shared_ptr<Capture>& capture) {
  for (Stream* member : capture->streams) {
    member->capture = nullptr;
    member->capture_tail.clear();
  }
  auto& active = active_captures();
  active.erase(std::find(active.begin(), active.end(), capture));
}

void add_unique(std::vector<NodePtr>* nodes, const std::vector<NodePtr>& more) {
  for (const NodePtr& node : more)
    if (std::find(nodes->begin(), nodes->end(), node) == nodes->end()) nodes->push_back(node);
}

}  // namespace

cudaError_t begin_capture(Stream* stream, cudaStreamCaptureMode mode) {
  if (stream->is_legacy) return refuse(cudaErrorStreamCaptureUnsupported);
  if (stream->capture != nullptr) return refuse(cudaErrorIllegalState);
  auto capture = std::make_shared<Capture>();
  capture->id = ++captures_begun;
  capture->origin = stream;
  capture->mode = mode;
  capture->thread = std::this_thread::get_id();
  active_captures().push_back(capture);
  join(stream, capture);
  return cudaSuccess;
}

cudaError_t end_capture(Stream* stream, std::vector<NodePtr>* nodes) {
  const std::shared_ptr<Capture> capture = stream->capture;
  if (capture == nullptr) return refuse(cudaErrorIllegalState);
  if (capture->origin != stream) return invalidate(stream, cudaErrorStreamCaptureUnmatched);
  if (capture->mode != cudaStreamCaptureModeRelaxed && capture->thread != std::this_thread::get_id())
    return invalidate(stream, cudaErrorStreamCaptureWrongThread);
  cudaError_t status = cudaSuccess;
  if (capture->invalid)
    status = refuse(cudaErrorStreamCaptureInvalidated);
  else if (has_unjoined_fork(*capture))
    status = refuse(cudaErrorStreamCaptureUnjoined);
  else
    *nodes = capture->nodes;
  close(capture);
  return status;
}

void abandon_capture(Stream* stream) {
  const std::shared_ptr<Capture> capture = stream->capture;
  capture->invalid = true;
  if (capture->origin == stream) return close(capture);
  auto& streams = capture->streams;
  streams.erase(std::find(streams.begin(), streams.end(), stream));
  stream->capture = nullptr;
}

cudaError_t add_node(Stream* stream, std::function<void()> run) {
  Capture& capture = *stream->capture;
  if (capture.invalid) return refuse(cudaErrorStreamCaptureInvalidated);
  capture.nodes.push_back(std::make_shared<Node>(Node{std::move(run), std::move(stream->capture_tail)}));
  stream->capture_tail = {capture.nodes.back()};
  return cudaSuccess;
}

cudaError_t join_capture(Stream* stream, const CapturedEvent& event) {
  if (stream->is_legacy) {
    event.capture->invalid = true;
    return refuse(cudaErrorStreamCaptureImplicit);
  }
  const auto& active = active_captures();
  const bool is_over = std::find(active.begin(), active.end(), event.capture) == active.end();
  if (is_over)
    return stream->capture != nullptr ? invalidate(stream, cudaErrorStreamCaptureMerge)
                                      : refuse(cudaErrorCapturedEvent);
  if (event.capture->invalid) return refuse(cudaErrorStreamCaptureInvalidated);
  if (stream->capture == nullptr) join(stream, event.capture);
  if (stream->capture != event.capture) {
    event.capture->invalid = true;
    return invalidate(stream, cudaErrorStreamCaptureMerge);
  }
  add_unique(&stream->capture_tail, event.after);
  return cudaSuccess;
}

bool invalidate_captures(UnsafeCall call) {
  bool any = false;
  for (const auto& capture : active_captures()) {
    const bool would_join = call == UnsafeCall::kLegacyStream && capture->origin->is_blocking();
    if (!would_join && !forbids_unsafe_calls(*capture)) continue;
    capture->invalid = true;
    any = true;
  }
  return any;
}

cudaError_t invalidate(Stream* stream, cudaError_t status) {
  if (stream->capture != nullptr) stream->capture->invalid = true;
  return refuse(status);
}

void exchange_capture_mode(cudaStreamCaptureMode* mode) {
  std::swap(*mode, mode_of_this_thread);
}

}  // namespace riffle::emulation
