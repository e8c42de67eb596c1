// Loss and top-1/top-5 counts. They are gathered on the device and read only when somebody asks, because reading waits
// for the device.
#pragma once

#include <cstdint>
#include <vector>

#include "core/backend.h"

namespace riffle {

// Sums over images. A prediction counts only if its loss is finite: NaN and infinite logits are never correct, not even
// where there are fewer than five classes. Neither does an image that could not be read; the loss leaves those out.
struct MetricSums {
  int64_t images = 0, top1_correct = 0, top5_correct = 0;
  int64_t unreadable = 0;               // of the images
  int64_t not_finite = 0;               // images whose loss is NaN or infinite
  int64_t first_not_finite_batch = -1;  // counted from 0 since the last read; -1: none
  double loss_sum = 0;

  double loss() const { return loss_sum / static_cast<double>(images - unreadable); }
  double top1() const { return static_cast<double>(top1_correct) / static_cast<double>(images); }
  double top5() const { return static_cast<double>(top5_correct) / static_cast<double>(images); }
  void add_image(float loss, int32_t rank, int64_t classes, int64_t batch_number);
  void add(const MetricSums& other);  // all but first_not_finite_batch, which belongs to one read
};

class MetricBuffer {
 public:
  // Room for `batches` batches of up to `batch` images between two reads.
  MetricBuffer(Backend& backend, int64_t batch, int64_t batches, int64_t classes);

  // One batch: losses (N,1,1,1), logits (N,1,1,K), labels i32 (N,1,1,1).
  void record(const Tensor& losses, const Tensor& logits, const Tensor& labels);
  bool full() const { return batches_ == capacity_; }
  // Waits, sums in image order, going on from `before`, and forgets what was recorded. So sums do not depend on how many
  // reads made them. skipped: of each batch, whether it does not count; empty: all do.
  MetricSums read(const MetricSums& before = {}, const std::vector<bool>& skipped = {});

 private:
  Backend& backend_;
  int64_t capacity_, classes_;
  int64_t batches_ = 0, images_ = 0;
  std::vector<int64_t> batch_ends_;  // images_ after each batch
  Tensor losses_;                    // (batch*batches,1,1,1)
  Tensor ranks_;                     // i32 (batch*batches,1,1,1)
  std::vector<float> host_losses_;
  std::vector<int32_t> host_ranks_;
};

}  // namespace riffle
