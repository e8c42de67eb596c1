#include "cuda/emulation/block.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <random>

#include "cuda/emulation/crash.h"
#include "cuda/emulation/fibers.h"
#include "cuda/emulation/image.h"
#include "cuda/emulation/launch.h"
#include "cuda/emulation/report.h"
#include "cuda/emulation/shadow.h"

// Declared const in device.h, for kernels.
extern "C" {
uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;
}

namespace riffle::emulation {

Running running;
__thread bool in_kernel;

namespace {

constexpr int kWarps = kMaxThreads / 32;
const char* const kCollectiveNames[] = {"__syncwarp", "__shfl_sync", "__ballot_sync", "__any_sync", "__all_sync"};

struct Place {
  const char* file = "";
  int line = 0;
};

enum class State : uint8_t { kNew, kReady, kAtBarrier, kAtCollective, kDone };

struct Thread {
  uint3 index;
  int fiber;
  State state;
  Place place;  // where it waits
  Collective kind;
  unsigned mask;
  int source_lane;
  uint64_t value, result;
};

struct Warp {
  unsigned waiting = 0, exited = 0;  // lanes
};

// The block that is running.
struct Block {
  Thread threads[kMaxThreads];
  Warp warps[kWarps];
  int size = 0, alive = 0;
  int order[kMaxThreads];  // in which threads start
  int queue[kMaxThreads];  // a ring of those that can run
  int queue_begin = 0, queued = 0;
  // __syncthreads
  int arrived = 0, barrier_value = 0, barrier_result = 0;
  Place barrier_place;
  Barrier barrier_kind = Barrier::kPlain;
  bool exit_reported = false;
};

Block block;
Fibers fibers;
KernelCall current_call;
std::string kernel_name;
Statistics counters;
bool fibers_are_clean = false;

void make_ready(int thread) {
  block.threads[thread].state = State::kReady;
  block.queue[(block.queue_begin + block.queued++) % kMaxThreads] = thread;
}

int take_ready() {
  const int thread = block.queue[block.queue_begin];
  block.queue_begin = (block.queue_begin + 1) % kMaxThreads;
  --block.queued;
  return thread;
}

void become(int thread) {
  running.thread = thread;
  threadIdx = block.threads[thread].index;
}

// Leaves `fiber` for the next thread that can run, or ends the block where there is none.
void run_another(int fiber) {
  ++counters.fiber_switches;
  if (block.queued == 0) return fibers.leave(fiber);
  const int thread = take_ready();
  Thread& next = block.threads[thread];
  if (next.fiber < 0) next.fiber = fibers.acquire();
  become(thread);
  fibers.switch_to(fiber, next.fiber);
}

void release_barrier() {
  if (block.alive != block.size && !block.exit_reported) {
    block.exit_reported = true;
    report("barrier divergence", "%d of %d threads exited before __syncthreads at %s:%d", block.size - block.alive,
           block.size, block.barrier_place.file, block.barrier_place.line);
  }
  block.barrier_result = block.barrier_value;
  block.arrived = 0;
  ++running.epoch;
  for (int i = 0; i < block.size; ++i)
    if (block.threads[block.order[i]].state == State::kAtBarrier) make_ready(block.order[i]);
}

void report_warp_divergence(const Thread& one, const Thread& other) {
  const auto name = [](const Thread& thread) { return kCollectiveNames[static_cast<int>(thread.kind)]; };
  report("warp divergence",
         "lanes of one mask wait at different warp operations: %s(0x%x) at %s:%d and %s(0x%x) at %s:%d", name(one),
         one.mask, one.place.file, one.place.line, name(other), other.mask, other.place.file, other.place.line);
}

uint64_t result_for(const Thread& thread, const Thread* lanes, unsigned needed, unsigned votes) {
  switch (thread.kind) {
    case Collective::kShuffle:  // from a lane that takes no part: NaN in all floating types
      return (needed >> thread.source_lane & 1) != 0 ? lanes[thread.source_lane].value : ~uint64_t{0};
    case Collective::kBallot:
      return votes;
    case Collective::kAny:
      return votes != 0;
    case Collective::kAll:
      return votes == needed;
    case Collective::kSyncWarp:
      break;
  }
  return 0;
}

template <class Body>
void for_each_lane(unsigned lanes, const Body& body) {
  for (; lanes != 0; lanes &= lanes - 1) body(__builtin_ctz(lanes));
}

// If all living lanes of `mask` wait: gives them their results, and makes all but the thread `self` ready.
bool complete_collective(int warp, unsigned mask, int self) {
  Warp& state = block.warps[warp];
  Thread* lanes = block.threads + warp * 32;
  const unsigned needed = mask & ~state.exited;
  if (needed == 0 || (state.waiting & needed) != needed) return false;
  const Thread& first = lanes[__builtin_ctz(needed)];
  unsigned votes = 0;
  bool same = true;
  for_each_lane(needed, [&](int lane) {
    if (lanes[lane].value & 1) votes |= 1u << lane;
    if (same && (lanes[lane].mask != mask || lanes[lane].kind != first.kind)) {
      same = false;
      report_warp_divergence(lanes[lane], first);
    }
  });
  for_each_lane(needed, [&](int lane) {
    lanes[lane].result = result_for(lanes[lane], lanes, needed, votes);
    if (warp * 32 + lane != self) make_ready(warp * 32 + lane);
  });
  if (first.kind == Collective::kSyncWarp) ++running.warp_epoch[warp];
  state.waiting &= ~needed;
  return true;
}

void exit_thread() {
  const int warp = running.thread / 32;
  block.threads[running.thread].state = State::kDone;
  --block.alive;
  block.warps[warp].exited |= 1u << running.thread % 32;
  if (block.alive > 0 && block.arrived == block.alive) release_barrier();
  bool completed = false;
  for_each_lane(block.warps[warp].waiting, [&](int lane) {
    if (!completed) completed = complete_collective(warp, block.threads[warp * 32 + lane].mask, -1);
  });
}

// A fiber's life: one thread after the other, as long as the next one has not begun elsewhere.
void fiber_main() {
  for (;;) {
    current_call.invoke(current_call.closure.get());
    exit_thread();
    const int fiber = block.threads[running.thread].fiber;
    if (block.queued > 0 && block.threads[block.queue[block.queue_begin]].fiber < 0) {
      const int thread = take_ready();
      block.threads[thread].fiber = fiber;
      become(thread);
      continue;
    }
    fibers.release(fiber);
    run_another(fiber);
  }
}

// After a crash the thread goes on here, on a stack of its own (crash.h).
void abandon_block() {
  fibers.leave(0);
}

void start_block(const Kernel& kernel, bool first, std::mt19937* random) {
  const int size = block.size;
  if (options().threads == ThreadOrder::kRandom) std::shuffle(block.order, block.order + size, *random);
  for (int warp = 0; warp < kWarps; ++warp) {
    const int lanes = std::clamp(size - warp * 32, 0, 32);
    block.warps[warp] = {0, lanes == 32 ? 0u : ~0u << lanes};
    running.warp_epoch[warp] = 1;
  }
  block.queue_begin = block.queued = block.arrived = 0;
  block.alive = size;
  block.exit_reported = running.fenced = false;
  running.block_epoch = ++running.epoch;
  ++running.epoch;
  image().poison_shared(kernel, first);
  std::memset(running.dynamic_shared, 0xff, running.dynamic_shared_bytes);
  for (int i = 0; i < size; ++i) {
    block.threads[block.order[i]].fiber = -1;
    make_ready(block.order[i]);
  }
}

void report_deadlock() {
  int reported = 0;
  for (int i = 0; i < block.size && reported < 3; ++i) {
    const Thread& waiting = block.threads[i];
    if (waiting.state != State::kAtBarrier && waiting.state != State::kAtCollective) continue;
    ++reported;
    become(i);
    const bool at_barrier = waiting.state == State::kAtBarrier;
    report("deadlock", "waits for ever at %s %s:%d",
           at_barrier ? "__syncthreads" : kCollectiveNames[static_cast<int>(waiting.kind)], waiting.place.file,
           waiting.place.line);
  }
}

// Returns whether every thread came to its end.
bool run_block() {
  const int thread = take_ready();
  block.threads[thread].fiber = fibers.acquire();
  become(thread);
  in_kernel = true;
  fibers.enter(block.threads[thread].fiber);
  if (block.alive > 0 && !take_crash()) report_deadlock();
  in_kernel = false;
  fibers_are_clean = block.alive == 0;
  return fibers_are_clean;
}

uint3 index_of(size_t linear, dim3 shape) {
  return {static_cast<unsigned>(linear % shape.x), static_cast<unsigned>(linear / shape.x % shape.y),
          static_cast<unsigned>(linear / (static_cast<size_t>(shape.x) * shape.y))};
}

void start_launch(const KernelCall& call, const GridShape& shape, int device, const Kernel& kernel) {
  if (!fibers_are_clean) fibers.reset(fiber_main);
  handle_crashes(abandon_block);
  current_call = call;
  kernel_name = kernel.name;
  gridDim = shape.grid;
  blockDim = shape.block;
  running.owner = kernel.id;
  running.device = device;
  running.closure = static_cast<const char*>(call.closure.get());
  running.closure_bytes = call.closure_bytes;
  running.launch_epoch = ++running.epoch;
  running.instrumented_calls = 0;
  place_dynamic_shared(shape.shared_bytes);
  block.size = static_cast<int>(shape.block.x * shape.block.y * shape.block.z);
  for (int i = 0; i < block.size; ++i) {
    block.order[i] = options().threads == ThreadOrder::kReverse ? block.size - 1 - i : i;
    block.threads[i].index = index_of(i, shape.block);
  }
}

}  // namespace

int barrier(Barrier kind, bool predicate, const char* file, int line) {
  Thread& thread = block.threads[running.thread];
  thread.place = {file, line};
  if (block.arrived++ == 0) {
    block.barrier_place = thread.place;
    block.barrier_kind = kind;
    block.barrier_value = kind == Barrier::kAnd;
  } else if (block.barrier_place.line != line || std::strcmp(block.barrier_place.file, file) != 0) {
    report("barrier divergence", "waits at %s:%d while others wait at %s:%d", file, line, block.barrier_place.file,
           block.barrier_place.line);
  }
  if (kind == Barrier::kCount) block.barrier_value += predicate;
  if (kind == Barrier::kAnd) block.barrier_value &= static_cast<int>(predicate);
  if (kind == Barrier::kOr) block.barrier_value |= static_cast<int>(predicate);
  if (block.arrived == block.alive) {
    release_barrier();
  } else {
    thread.state = State::kAtBarrier;
    run_another(thread.fiber);
  }
  return block.barrier_result;
}

uint64_t collective(Collective kind, unsigned mask, uint64_t value, int source_lane, const char* file, int line) {
  const int me = running.thread, warp = me / 32, my_lane = me % 32;
  Thread& thread = block.threads[me];
  if ((mask >> my_lane & 1) == 0) {
    report("warp mask", "%s at %s:%d: calling lane %d is not in mask 0x%x", kCollectiveNames[static_cast<int>(kind)],
           file, line, my_lane, mask);
    return ~uint64_t{0};
  }
  thread.kind = kind;
  thread.mask = mask;
  thread.value = value;
  thread.source_lane = source_lane;
  thread.place = {file, line};
  block.warps[warp].waiting |= 1u << my_lane;
  if (!complete_collective(warp, mask, me)) {
    thread.state = State::kAtCollective;
    run_another(thread.fiber);
  }
  return thread.result;
}

int lane() {
  return running.thread % 32;
}

unsigned active_lanes() {
  return ~block.warps[running.thread / 32].exited;
}

void* dynamic_shared() {
  return running.dynamic_shared;
}

void fence() {
  running.fenced = true;
}

void note_atomic([[maybe_unused]] const void* address, [[maybe_unused]] int bytes) {
  if constexpr (kCheckBuild) check_access(address, bytes, Access::kAtomic);
}

bool on_fiber_stack(const void* address) {
  return fibers.contains(address);
}

std::string running_thread() {
  if (!in_kernel) return "";
  char place[128];
  std::snprintf(place, sizeof place, " block (%u,%u,%u) thread (%u,%u,%u)", blockIdx.x, blockIdx.y, blockIdx.z,
                threadIdx.x, threadIdx.y, threadIdx.z);
  return "; " + kernel_name + place;
}

Statistics statistics() {
  Statistics current = counters;
  if constexpr (kCheckBuild) current.checked_accesses = checked_accesses();
  return current;
}

void run_grid(const KernelCall& call, const GridShape& shape, int device) {
  const Kernel& kernel = image().kernel(call.kernel);
  start_launch(call, shape, device, kernel);
  ++counters.launches;
  std::mt19937 random(options().seed);
  const size_t blocks = static_cast<size_t>(shape.grid.x) * shape.grid.y * shape.grid.z;
  for (size_t i = 0; i < blocks; ++i) {
    blockIdx = index_of(options().threads == ThreadOrder::kReverse ? blocks - 1 - i : i, shape.grid);
    start_block(kernel, i == 0, &random);
    if (!run_block()) break;
  }
  if (kCheckBuild && running.instrumented_calls == 0)
    report("not instrumented", "%s was compiled without -fsanitize=thread, or linked with -flto", kernel_name.c_str());
  current_call = {};
}

}  // namespace riffle::emulation
