// Splits work among threads. The pieces depend on the problem only, never on the number of threads, and each piece is
// computed by one thread in order; so results are the same for any number of threads.
//
// Why not OpenMP's loops: they end in a barrier that every thread must reach. On a busy machine (two cores that also
// decode images) a training step of 150 ms then took 1,200 to 3,500 ms, waiting at 600 barriers for threads that the
// system had taken off their cores. Here threads claim pieces, and the caller waits only for pieces somebody has begun.
// Each thread begins with a share of its own, the same in every loop of a size (what it wrote is still in its cache),
// and then helps the others.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

#include "core/divide_up.h"

namespace riffle {

struct Range {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};

// Pieces of at most `grain` items.
struct Chunks {
  int64_t items, grain;
  int64_t count() const { return divide_up(items, grain); }
  Range operator[](int64_t index) const { return {index * grain, std::min(items, (index + 1) * grain)}; }
};

// Rows of `row_elements` floats in pieces that fit well into a first or second level cache (64 KB).
inline Chunks row_chunks(int64_t rows, int64_t row_elements) {
  return {rows, std::clamp<int64_t>(16384 / std::max<int64_t>(row_elements, 1), 16, 4096)};
}

class Parallel {
 public:
  // The caller is one of the threads.
  explicit Parallel(int threads);
  ~Parallel();
  Parallel(const Parallel&) = delete;
  Parallel& operator=(const Parallel&) = delete;
  int threads() const { return threads_; }

  // body(i), or body(i, thread) with thread in [0, threads()) for scratch memory, for i in [0, count). Rethrows a
  // body's exception; by then no body is running. One caller at a time; bodies do not nest.
  template <class Body>
  void operator()(int64_t count, const Body& body) {
    const auto call = [](const void* context, int64_t i, int thread) {
      const Body& self = *static_cast<const Body*>(context);
      if constexpr (std::is_invocable_v<const Body&, int64_t, int>) {
        self(i, thread);
      } else {
        self(i);
      }
    };
    if (count <= 1 || workers_.empty()) {
      for (int64_t i = 0; i < count; ++i) call(&body, i, 0);
    } else {
      run(count, call, &body);
    }
  }

  // body(item) for every item of `chunks`; a chunk is a piece.
  template <class Body>
  void each(const Chunks& chunks, const Body& body) {
    (*this)(chunks.count(), [&](int64_t i) {
      for (int64_t item = chunks[i].begin; item < chunks[i].end; ++item) body(item);
    });
  }

 private:
  using Call = void (*)(const void* context, int64_t i, int thread);

  // The loop's number (upper half) and the share's next unclaimed piece (lower half). Claiming is one compare-and-swap
  // on both, so a late thread can never take a piece of a loop other than the one whose fields it read.
  struct alignas(64) Share {
    std::atomic<uint64_t> ticket{0};
  };

  void run(int64_t count, Call call, const void* context);
  void join();
  void work(int thread);
  void claim_pieces(uint32_t generation, int thread);
  uint32_t wait_for_work(uint32_t seen);

  int threads_ = 1;
  std::unique_ptr<Share[]> shares_;      // one a thread
  std::atomic<uint32_t> generation_{0};  // of the current loop; stored after everything else about it
  std::atomic<int64_t> count_{0};
  alignas(64) std::atomic<int64_t> finished_{0};  // written by all, so not beside what all read
  alignas(64) std::atomic<Call> call_{nullptr};
  std::atomic<const void*> context_{nullptr};
  std::atomic<int> sleepers_{0};
  std::atomic<bool> stop_{false}, running_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::exception_ptr error_;  // guarded by mutex_
  std::vector<std::thread> workers_;
};

}  // namespace riffle
