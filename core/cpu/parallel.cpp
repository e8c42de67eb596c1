// Parallel: a small pool of threads.
#include "core/cpu/parallel.h"

#include <chrono>

#include "core/check.h"

namespace riffle {
namespace {

// How long an idle thread looks for work before it sleeps: longer than the gaps between the loops of a training step,
// too short to take a core from anybody.
constexpr std::chrono::microseconds kSpin{50};

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

uint32_t generation_of(uint64_t ticket) { return static_cast<uint32_t>(ticket >> 32); }

}  // namespace

Parallel::Parallel(int threads) {
  RIFFLE_CHECK(threads >= 1 && threads <= 1024, threads, " threads");
  for (int thread = 1; thread < threads; ++thread) workers_.emplace_back([this, thread] { work(thread); });
}

Parallel::~Parallel() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void Parallel::run(int64_t count, Call call, const void* context) {
  RIFFLE_CHECK(count < (int64_t{1} << 32), count, " pieces");
  count_.store(count, std::memory_order_relaxed);
  call_.store(call, std::memory_order_relaxed);
  context_.store(context, std::memory_order_relaxed);
  finished_.store(0, std::memory_order_relaxed);
  const uint32_t generation = generation_of(ticket_.load(std::memory_order_relaxed)) + 1;
  ticket_.store(static_cast<uint64_t>(generation) << 32);
  if (sleepers_.load() > 0) {
    { std::lock_guard<std::mutex> lock(mutex_); }  // a thread about to sleep has either seen the ticket or is waiting
    wake_.notify_all();
  }
  claim_pieces(generation, 0);
  for (int spins = 0; finished_.load(std::memory_order_acquire) < count; ++spins) {
    if (spins < 1000) {
      pause();
    } else {
      std::this_thread::yield();  // whoever holds the last pieces may need this core
    }
  }
  std::exception_ptr error;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    std::swap(error, error_);
  }
  if (error) std::rethrow_exception(error);
}

void Parallel::claim_pieces(uint32_t generation, int thread) {
  const int64_t count = count_.load(std::memory_order_relaxed);
  const Call call = call_.load(std::memory_order_relaxed);
  const void* context = context_.load(std::memory_order_relaxed);
  uint64_t ticket = ticket_.load(std::memory_order_acquire);
  while (generation_of(ticket) == generation && static_cast<int64_t>(ticket & 0xFFFFFFFFu) < count) {
    if (!ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel)) continue;
    try {
      call(context, static_cast<int64_t>(ticket & 0xFFFFFFFFu), thread);
    } catch (...) {
      std::lock_guard<std::mutex> lock(mutex_);
      if (!error_) error_ = std::current_exception();
    }
    finished_.fetch_add(1, std::memory_order_release);
    ticket = ticket_.load(std::memory_order_acquire);
  }
}

uint32_t Parallel::wait_for_work(uint32_t seen) {
  const auto changed = [&] { return generation_of(ticket_.load()) != seen || stop_.load(std::memory_order_relaxed); };
  const auto deadline = std::chrono::steady_clock::now() + kSpin;
  while (!changed()) {
    for (int i = 0; i < 50; ++i) pause();
    if (std::chrono::steady_clock::now() < deadline) continue;
    std::unique_lock<std::mutex> lock(mutex_);
    sleepers_.fetch_add(1);
    wake_.wait(lock, changed);
    sleepers_.fetch_sub(1);
  }
  return generation_of(ticket_.load());
}

void Parallel::work(int thread) {
  uint32_t generation = 0;
  for (;;) {
    generation = wait_for_work(generation);
    if (stop_.load(std::memory_order_relaxed)) return;
    claim_pieces(generation, thread);
  }
}

}  // namespace riffle
