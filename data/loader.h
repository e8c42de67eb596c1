// Loader: worker threads decode and augment straight into preallocated batch slots. What a batch contains is a pure
// function of (seed, epoch, batch number): the number of threads and the prefetch depth change nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "data/augment.h"
#include "data/dataset.h"
#include "data/transform.h"

namespace riffle {

struct LoaderOptions {
  int64_t batch = 32;
  int threads = 1;
  int prefetch = 3;  // batches decoded ahead; the number of slots
  uint64_t seed = 0;
  bool training = false;  // shuffle, TrainTransform, drop the last partial batch; else in order, EvalTransform, keep it
  TrainTransform train_transform;
  EvalTransform eval_transform;
  // Training: how often in a row an epoch shows a sample, each time augmented anew (Hoffer et al., 2020; torchvision's
  // RASampler for one process). An epoch keeps its length, so it shows the first size/repeats samples of its order.
  int repeats = 1;
  // Unreadable images: in training they are skipped, counted and named up to this many an epoch, then the run stops; in
  // evaluation the first one is an error.
  int64_t max_bad_images = 0;
  // Memory for the slots; pinned for CUDA. Default: malloc.
  std::function<std::shared_ptr<void>(size_t bytes)> allocate;
};

// One batch. The pointers are valid until the next call of next() or start_epoch().
struct Batch {
  const uint8_t* images = nullptr;   // (count, height, width, channels), packed
  const int32_t* labels = nullptr;   // (count)
  const int64_t* indices = nullptr;  // (count) dataset indices
  int64_t count = 0, height = 0, width = 0, channels = 0;
  double wait_ms = 0;  // how long next() waited for it
};

class Loader {
 public:
  // The dataset must outlive the loader. Throws if the batch is larger than the data (training), or the data is empty.
  Loader(const Dataset& dataset, const LoaderOptions& options);
  ~Loader();  // stops the workers, in any state

  // Batches of an epoch: floor(size/batch) in training, ceil in evaluation.
  int64_t batches_per_epoch() const;
  // Begins an epoch at a batch (for resuming). Whatever was prefetched for another position is dropped.
  void start_epoch(int64_t epoch, int64_t first_batch = 0);
  // False at the end of the epoch. Rethrows a worker's error, the earliest of the batch, and again until start_epoch().
  // A skipped bad image is replaced by a good one, so that batches keep their size: the first one from half an epoch
  // further on in the epoch's order, which wraps around (so the two copies rarely share a batch). This depends on the
  // data alone, so resuming in the middle of an epoch gives the same batches.
  bool next(Batch& batch);

  struct BadImage {
    std::string name, reason;
  };
  // Those met so far in the batches that next() gave out since start_epoch(), each once.
  const std::vector<BadImage>& bad_images() const;

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace riffle
