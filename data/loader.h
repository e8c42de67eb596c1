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
#include "data/epoch_order.h"
#include "data/transform.h"

namespace riffle {

// From an epoch on, training images have another size.
struct SizeChange {
  int64_t epoch = 0;
  int size = 0;
};

struct LoaderOptions {
  int64_t batch = 32;  // of this process
  int threads = 1;
  int prefetch = 3;  // batches decoded ahead; the number of slots
  uint64_t seed = 0;
  bool training = false;  // shuffle, TrainTransform, drop the last partial batch; else in order, EvalTransform, keep it
  TrainTransform train_transform;
  EvalTransform eval_transform;
  // Training: later sizes than train_transform.size, in order of their epochs.
  std::vector<SizeChange> sizes;
  Shuffle shuffle = Shuffle::kFull;  // training
  int shuffle_window = 16;           // kShards
  // Training: how often in a row an epoch shows a sample, each time augmented anew (Hoffer et al., 2020; torchvision's
  // RASampler). An epoch keeps its length, so it shows the first size/repeats samples of its order. With several
  // processes, neighbouring copies go to different ones, as the RASampler has it.
  int repeats = 1;
  // Training: every process has the same number of batches. Evaluation: every image is one process's, so that numbers of
  // batches may differ by one.
  RankPart part;
  // Unreadable images an epoch, counted and named: in training they are replaced, in evaluation left out. One more is an
  // error.
  int64_t max_bad_images = 0;
  // Memory for the slots; pinned for CUDA. Default: malloc.
  std::function<std::shared_ptr<void>(size_t bytes)> allocate;
};

// One batch. The pointers are valid until the next call of next() or start_epoch().
struct Batch {
  const uint8_t* images = nullptr;                         // (count, height, width, channels), packed
  const int32_t* labels = nullptr;                         // (count)
  const int64_t* indices = nullptr;                        // (count) dataset indices
  int64_t count = 0, height = 0, width = 0, channels = 0;  // count: 0 where evaluation could read none
  double wait_ms = 0;                                      // how long next() waited for it
  int64_t ready = 0;  // batches that lay ready when next() was called, this one among them: the depth of the queue
};

class Loader {
 public:
  // The dataset must outlive the loader. Throws if the batch is larger than the data (training), or the data is empty.
  Loader(const Dataset& dataset, const LoaderOptions& options);
  ~Loader();  // stops the workers, in any state

  // Batches of an epoch: floor(size/batch) in training, ceil in evaluation, of all images and processes together.
  int64_t batches_per_epoch() const;
  int64_t images_per_epoch() const;  // of this process
  int64_t image_size() const;        // height and width in the epoch that was started
  int64_t buffer_bytes() const;      // of the batches that are prepared
  // Training, before start_epoch(): what will be asked for, the first `batches` of each epoch, `in_all` of a whole run from
  // epoch 0 on. Nothing else is prepared, and next() ends there; an epoch that is started after those is not limited.
  // Without it: all batches of epochs without end.
  void set_length(int64_t batches, int64_t in_all);
  // Begins an epoch at a batch (for resuming). In training, the beginning of an epoch is prepared while the end of the one
  // before is used, and an epoch that begins when all of the one before was given out goes on with it; otherwise what
  // was prepared is dropped.
  void start_epoch(int64_t epoch, int64_t first_batch = 0);
  // False at the end of the epoch. Rethrows a worker's error, the earliest of the batch, and again until start_epoch().
  // A bad image of training is replaced by a good one, so that batches keep their size: the first one from half an epoch
  // further on in the epoch's order, which wraps around (so the two copies rarely share a batch). This depends on the
  // data alone, so resuming in the middle of an epoch gives the same batches. In evaluation none is replaced: the batch
  // is smaller.
  bool next(Batch& batch);

  struct BadImage {
    int64_t index;  // in the dataset
    std::string name, reason;
  };
  // Those met so far in the batches that next() gave out since start_epoch(), each once.
  const std::vector<BadImage>& bad_images() const;
  // Likewise those whose files ended too early, which the data set accepts: indices. In quick mode, those that ended within
  // what was decoded of them.
  const std::vector<int64_t>& truncated_images() const;

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace riffle
