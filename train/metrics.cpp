// Loss and top-k counts.
#include "train/metrics.h"

#include <algorithm>
#include <cmath>

#include "core/context.h"

namespace riffle {

void MetricSums::add_image(float loss, int32_t rank, int64_t classes, int64_t batch_number) {
  ++images;
  loss_sum += static_cast<double>(loss);
  if (!std::isfinite(loss)) {
    ++not_finite;
    if (first_not_finite_batch < 0) first_not_finite_batch = batch_number;
    return;
  }
  if (rank < 1) ++top1_correct;
  if (rank < std::min<int64_t>(5, classes)) ++top5_correct;
}

void MetricSums::add(const MetricSums& other) {
  images += other.images;
  unreadable += other.unreadable;
  top1_correct += other.top1_correct;
  top5_correct += other.top5_correct;
  not_finite += other.not_finite;
  loss_sum += other.loss_sum;
}

MetricBuffer::MetricBuffer(Backend& backend, int64_t batch, int64_t batches, int64_t classes)
    : backend_(backend),
      capacity_(batches),
      classes_(classes),
      losses_(backend.empty_parameter({batch * batches, 1, 1, 1})),
      ranks_(backend.empty({batch * batches, 1, 1, 1}, DType::kI32)),
      host_losses_(static_cast<size_t>(batch * batches)),
      host_ranks_(static_cast<size_t>(batch * batches)) {
  batch_ends_.reserve(static_cast<size_t>(batches));
}

void MetricBuffer::record(const Tensor& losses, const Tensor& logits, const Tensor& labels) {
  RIFFLE_CHECK(!full(), "read() must be called after ", capacity_, " batches");
  const ProfileRange range(backend_, "metrics");
  const int64_t count = logits.shape().n;
  backend_.copy(losses, Write::kOverwrite, losses_.sample_slice(images_, count));
  backend_.label_rank(logits, labels, ranks_.sample_slice(images_, count));
  images_ += count;
  ++batches_;
  batch_ends_.push_back(images_);
}

MetricSums MetricBuffer::read(const MetricSums& before, const std::vector<bool>& skipped) {
  MetricSums sums = before;
  sums.first_not_finite_batch = -1;
  if (images_ > 0) {
    const ProfileRange range(backend_, "read metrics");
    backend_.download(losses_.sample_slice(0, images_), DType::kF32, host_losses_.data());
    backend_.download(ranks_.sample_slice(0, images_), DType::kI32, host_ranks_.data());
  }
  int64_t image = 0;
  for (size_t batch = 0; batch < batch_ends_.size(); ++batch) {
    const bool counts = skipped.empty() || !skipped.at(batch);
    for (; image < batch_ends_[batch]; ++image) {
      if (!counts) continue;
      const auto at = static_cast<size_t>(image);
      sums.add_image(host_losses_[at], host_ranks_[at], classes_, static_cast<int64_t>(batch));
    }
  }
  batches_ = images_ = 0;
  batch_ends_.clear();
  return sums;
}

}  // namespace riffle
