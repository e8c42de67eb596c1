#include "cuda/emulation/queue.h"

#include <algorithm>
#include <random>
#include <unordered_map>

#include "cuda/emulation/canary.h"
#include "cuda/emulation/capture.h"
#include "cuda/emulation/control.h"
#include "cuda/emulation/device_memory.h"
#include "cuda/emulation/report.h"
#include "cuda/emulation/shadow.h"

namespace riffle::emulation {
namespace {

struct Queues {
  std::vector<std::unique_ptr<Stream>> streams;             // destroyed ones until their work is done
  std::vector<std::unique_ptr<Stream>> legacy, per_thread;  // by device
  uint64_t submitted = 0;
  size_t pending = 0;
  bool in_host_function = false;
  unsigned seed = options().seed;
  std::mt19937 random{seed};
};

// Never destroyed: other objects with static lifetime may synchronise or destroy streams.
Queues& queues() {
  static auto* queues = new Queues;
  return *queues;
}

std::recursive_mutex& runtime_mutex() {
  static std::recursive_mutex mutex;
  return mutex;
}

thread_local int device_of_this_thread = 0;

Stream* special_stream(std::vector<std::unique_ptr<Stream>>* streams, int device, bool legacy) {
  while (static_cast<int>(streams->size()) <= device) {
    streams->push_back(std::make_unique<Stream>());
    streams->back()->device = static_cast<int>(streams->size()) - 1;
    streams->back()->is_legacy = legacy;
  }
  return (*streams)[device].get();
}

template <class Body>
void for_each_stream(int device, const Body& body) {
  Queues& all = queues();
  for (auto* streams : {&all.streams, &all.legacy, &all.per_thread})
    for (auto& stream : *streams)
      if (stream->device == device) body(stream.get());
}

// The legacy stream and blocking streams wait for one another.
std::vector<OperationPtr> implicit_dependencies(const Stream* stream) {
  std::vector<OperationPtr> dependencies;
  for_each_stream(stream->device, [&](const Stream* other) {
    const bool waits = stream->is_legacy ? other->is_blocking() : other->is_legacy && stream->is_blocking();
    if (other != stream && waits && !is_done(other->tail)) dependencies.push_back(other->tail);
  });
  return dependencies;
}

// All operations that have not run and that `target` waits for, itself included, as submitted.
std::vector<OperationPtr> unfinished(const OperationPtr& target) {
  std::vector<OperationPtr> found, to_visit{target};
  std::unordered_map<Operation*, bool> seen;
  while (!to_visit.empty()) {
    OperationPtr operation = std::move(to_visit.back());
    to_visit.pop_back();
    if (is_done(operation) || seen[operation.get()]) continue;
    seen[operation.get()] = true;
    to_visit.insert(to_visit.end(), operation->after.begin(), operation->after.end());
    found.push_back(std::move(operation));
  }
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a->number < b->number; });
  return found;
}

void run(Operation* operation) {
  const auto body = std::move(operation->run);
  operation->run = nullptr;
  if (body) body();
  operation->done = true;
  operation->after.clear();
  --queues().pending;
}

// Of those that can run. `operations` is sorted as submitted.
size_t choose(const std::vector<OperationPtr>& operations) {
  const WorkOrder order = options().work;
  if (order == WorkOrder::kEager || order == WorkOrder::kLate) return 0;
  if (order == WorkOrder::kReversed) return operations.size() - 1;
  Queues& all = queues();
  if (all.seed != options().seed) all.random.seed(all.seed = options().seed);
  return all.random() % operations.size();
}

// Runs all of `operations`, or the first `limit` of them.
void run_all(const std::vector<OperationPtr>& operations, size_t limit = ~size_t{0}) {
  std::unordered_map<Operation*, std::vector<OperationPtr>> followers;
  std::unordered_map<Operation*, size_t> missing;
  std::vector<OperationPtr> ready;
  for (const auto& operation : operations) {
    size_t& count = missing[operation.get()];
    for (const auto& before : operation->after) {
      if (is_done(before)) continue;
      ++count;
      followers[before.get()].push_back(operation);
    }
    if (count == 0) ready.push_back(operation);
  }
  const auto earlier = [](const OperationPtr& a, const OperationPtr& b) { return a->number < b->number; };
  for (size_t i = 0; i < limit && !ready.empty(); ++i) {
    const size_t chosen = choose(ready);
    const OperationPtr operation = ready[chosen];
    ready.erase(ready.begin() + static_cast<ptrdiff_t>(chosen));
    run(operation.get());
    for (const auto& follower : followers[operation.get()])
      if (--missing[follower.get()] == 0)
        ready.insert(std::upper_bound(ready.begin(), ready.end(), follower, earlier), follower);
  }
}

void forget_destroyed_streams() {
  auto& streams = queues().streams;
  streams.erase(std::remove_if(streams.begin(), streams.end(),
                               [](const auto& stream) { return stream->destroyed && is_done(stream->tail); }),
                streams.end());
}

}  // namespace

Lock::Lock() : guard_(runtime_mutex()) {
  if constexpr (kCheckBuild) run_canary_once();
}

int current_device() {
  return device_of_this_thread;
}

void set_current_device(int device) {
  device_of_this_thread = device;
}

Stream* legacy_stream(int device) {
  return special_stream(&queues().legacy, device, true);
}

Stream* find_stream(cudaStream_t handle) {
  if (handle == nullptr || handle == cudaStreamLegacy) return legacy_stream(current_device());
  if (handle == cudaStreamPerThread) return special_stream(&queues().per_thread, current_device(), false);
  for (const auto& stream : queues().streams)
    if (stream.get() == handle && !stream->destroyed) return handle;
  return nullptr;
}

Stream* create_stream(unsigned flags, int priority) {
  forget_destroyed_streams();
  auto& streams = queues().streams;
  streams.push_back(std::make_unique<Stream>());
  streams.back()->device = current_device();
  streams.back()->flags = flags;
  streams.back()->priority = priority;
  return streams.back().get();
}

void destroy_stream(Stream* stream) {
  stream->destroyed = true;
  forget_destroyed_streams();
}

bool is_done(const OperationPtr& operation) {
  return operation == nullptr || operation->done;
}

OperationPtr enqueue(Stream* stream, std::function<void()> run, std::vector<OperationPtr> others) {
  auto operation = std::make_shared<Operation>();
  operation->run = std::move(run);
  operation->after = std::move(others);
  const auto implicit = implicit_dependencies(stream);
  operation->after.insert(operation->after.end(), implicit.begin(), implicit.end());
  if (!is_done(stream->tail)) operation->after.push_back(stream->tail);
  operation->number = ++queues().submitted;
  ++queues().pending;
  stream->tail = operation;
  if (options().work == WorkOrder::kEager) wait_for(operation);
  return operation;
}

void enqueue_graph(Stream* stream, const std::vector<OperationPtr>& operations) {
  const OperationPtr begin = enqueue(stream, nullptr);
  for (const auto& operation : operations) {
    operation->after.push_back(begin);
    operation->number = ++queues().submitted;
    ++queues().pending;
  }
  enqueue(stream, nullptr, operations);
}

cudaError_t submit(Stream* stream, std::function<void()> run) {
  if (stream->capture != nullptr) return add_node(stream, std::move(run));
  if (stream->is_legacy && invalidate_captures(UnsafeCall::kLegacyStream))
    return refuse(cudaErrorStreamCaptureImplicit);
  enqueue(stream, std::move(run));
  return cudaSuccess;
}

void wait_for(const OperationPtr& operation) {
  if (!is_done(operation)) run_all(unfinished(operation));
}

void wait_for_stream(Stream* stream) {
  if (stream->is_legacy) enqueue(stream, nullptr);  // behind what blocking streams hold
  wait_for(stream->tail);
}

void wait_for_device(int device) {
  auto everything = std::make_shared<Operation>();
  for_each_stream(device, [&](const Stream* stream) {
    if (!is_done(stream->tail)) everything->after.push_back(stream->tail);
  });
  everything->number = ++queues().submitted;
  ++queues().pending;
  wait_for(everything);
  forget_destroyed_streams();
}

void advance(const OperationPtr& operation) {
  if (!is_done(operation)) run_all(unfinished(operation), 1);
}

bool in_host_function() {
  return queues().in_host_function;
}

void run_host_function(cudaHostFn_t function, void* data) {
  queues().in_host_function = true;
  function(data);
  queues().in_host_function = false;
}

size_t pending_operations() {
  return queues().pending;
}

}  // namespace riffle::emulation
