// Parallel: a small pool of threads.
#include "core/cpu/parallel.h"

#include <chrono>
#include <system_error>
#include <utility>

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

constexpr uint64_t kClosed = 0xFFFFFFFFu;  // a next piece beyond every loop's end

uint32_t generation_of(uint64_t ticket) {
  return static_cast<uint32_t>(ticket >> 32);
}
int64_t piece_of(uint64_t ticket) {
  return static_cast<int64_t>(ticket & 0xFFFFFFFFu);
}

}  // namespace

Parallel::Parallel(int threads) : threads_(threads) {
  RIFFLE_CHECK(threads >= 1, threads, " threads");
  shares_ = std::make_unique<Share[]>(static_cast<size_t>(threads));
  for (int thread = 1; thread < threads; ++thread) {
    try {
      workers_.emplace_back([this, thread] { work(thread); });
    } catch (const std::system_error& error) {
      join();
      fail("cannot start thread ", thread + 1, " of ", threads, ": ", error.what(), "; use fewer");
    }
  }
}

Parallel::~Parallel() {
  join();
}

void Parallel::join() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
  workers_.clear();
}

void Parallel::run(int64_t count, Call call, const void* context) {
  RIFFLE_CHECK(count < static_cast<int64_t>(kClosed), count, " pieces");
  RIFFLE_CHECK(!running_.exchange(true), "one loop at a time, and none inside another's body");
  count_.store(count, std::memory_order_release);
  call_.store(call, std::memory_order_release);
  context_.store(context, std::memory_order_release);
  finished_.store(0, std::memory_order_relaxed);
  const uint32_t generation = generation_.load(std::memory_order_relaxed) + 1;
  for (int64_t share = 0; share < threads(); ++share)
    shares_[share].ticket.store(
        static_cast<uint64_t>(generation) << 32 | static_cast<uint64_t>(count * share / threads()),
        std::memory_order_release);
  generation_.store(generation);
  if (sleepers_.load() > 0) {
    { std::lock_guard<std::mutex> lock(mutex_); }  // a thread about to sleep has seen the loop, or waits
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
  // Close the shares before the next loop's fields are written: a late thread that read any of those finds them closed.
  for (int64_t share = 0; share < threads(); ++share)
    shares_[share].ticket.store(static_cast<uint64_t>(generation) << 32 | kClosed, std::memory_order_release);
  running_ = false;
  std::exception_ptr error;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    std::swap(error, error_);
  }
  if (error) std::rethrow_exception(error);
}

void Parallel::claim_pieces(uint32_t generation, int thread) {
  const int64_t count = count_.load(std::memory_order_acquire), all = threads();
  const Call call = call_.load(std::memory_order_acquire);
  const void* context = context_.load(std::memory_order_acquire);
  int64_t finished = 0;
  for (int64_t i = 0; i < all; ++i) {
    const int64_t share = (thread + i) % all, end = count * (share + 1) / all;
    std::atomic<uint64_t>& shared_ticket = shares_[share].ticket;
    uint64_t ticket = shared_ticket.load(std::memory_order_acquire);
    while (generation_of(ticket) == generation && piece_of(ticket) < end) {
      if (!shared_ticket.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel)) continue;
      try {
        call(context, piece_of(ticket), thread);
      } catch (...) {
        std::lock_guard<std::mutex> lock(mutex_);
        if (!error_) error_ = std::current_exception();
      }
      ++finished;
      ticket = shared_ticket.load(std::memory_order_acquire);
    }
  }
  if (finished > 0) finished_.fetch_add(finished, std::memory_order_release);
}

uint32_t Parallel::wait_for_work(uint32_t seen) {
  const auto changed = [&] { return generation_.load() != seen || stop_.load(std::memory_order_relaxed); };
  const auto deadline = std::chrono::steady_clock::now() + kSpin;
  while (!changed()) {
    for (int i = 0; i < 50; ++i) pause();
    if (std::chrono::steady_clock::now() < deadline) continue;
    std::unique_lock<std::mutex> lock(mutex_);
    sleepers_.fetch_add(1);
    wake_.wait(lock, changed);
    sleepers_.fetch_sub(1);
  }
  return generation_.load();
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
