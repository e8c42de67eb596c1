// Precise batch norm.
#include "train/recalibration.h"

#include <numeric>
#include <utility>

#include "core/check.h"
#include "core/rng.h"
#include "train/text.h"

namespace riffle {
namespace {

// One running statistic, and the sum of what the batches so far had in its place.
struct Estimate {
  Buffer* buffer;
  std::vector<double> sum;
};

std::vector<Estimate> estimates_of(ShuffleNetV2& network) {
  std::vector<Estimate> estimates;
  network.for_each_buffer([&](const std::string&, Buffer& buffer) {
    if (!buffer.frozen)
      estimates.push_back({&buffer, std::vector<double>(static_cast<size_t>(buffer.value.elements()), 0.0)});
  });
  return estimates;
}

}  // namespace

// From 0, one update of the running statistics leaves kMomentum times those of the batch, unbiased as they should be.
void recalibrate(Backend& backend, ShuffleNetV2& network, int64_t batches,
                 const std::function<Variable()>& next_batch) {
  RIFFLE_CHECK(batches > 0, "statistics of ", batches, " batches; expected at least one");
  std::vector<Estimate> estimates = estimates_of(network);
  Context context{backend, /*tape=*/nullptr, /*training=*/true};
  context.scalars = backend.empty_parameter(vector_shape(kStepScalars));  // dropout reads the step; no norm follows it
  backend.fill(0, context.scalars);
  std::vector<double> values;
  for (int64_t batch = 0; batch < batches; ++batch) {
    for (const Estimate& estimate : estimates) backend.fill(0, estimate.buffer->value);
    network.forward(context, next_batch());
    for (Estimate& estimate : estimates) {
      values.resize(estimate.sum.size());
      backend.download(estimate.buffer->value, DType::kF64, values.data());
      for (size_t c = 0; c < values.size(); ++c) estimate.sum[c] += values[c] / BatchNorm2d::kMomentum;
    }
  }
  for (Estimate& estimate : estimates) {
    for (double& value : estimate.sum) value /= static_cast<double>(batches);
    backend.upload(estimate.sum.data(), DType::kF64, estimate.buffer->value);
  }
}

RandomSubset::RandomSubset(const Dataset& dataset, int64_t count, uint64_t seed)
    : dataset_(dataset), order_(static_cast<size_t>(dataset.size())) {
  RIFFLE_CHECK(count > 0 && count <= dataset.size(), count, " images of a data set of ", dataset.size());
  std::iota(order_.begin(), order_.end(), 0);
  RandomStream random(seed, RandomPurpose::kShuffleEpoch, 0);
  for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
    const auto left = static_cast<int64_t>(order_.size() - i);
    std::swap(order_[i], order_[i + static_cast<size_t>(random.below(left))]);
  }
  order_.resize(static_cast<size_t>(count));
}

std::string RandomSubset::description() const {
  return join(format_count(size()), " random images of ", dataset_.description());
}

}  // namespace riffle
