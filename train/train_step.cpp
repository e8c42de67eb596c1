// One optimisation step.
#include "train/train_step.h"

#include <algorithm>
#include <cmath>

#include "core/out_of_memory.h"
#include "layers/softmax_cross_entropy.h"

namespace riffle {
namespace {

constexpr double kFirstLossScale = 65536, kSmallestLossScale = 1.0 / 1024, kLargestLossScale = 16777216;
constexpr int64_t kStepsToGrow = 2000;
constexpr int64_t kStepsBeforeCapture = 2;
constexpr int kCaptureAttempts = 3;

ShuffleNetV2& frozen_for_first_step(Backend& backend, ShuffleNetV2& network, const TrainStepOptions& options) {
  const auto all = static_cast<int64_t>(network.parts().size());
  network.freeze_parts(backend, options.head_only_steps > 0 ? all : options.frozen_parts);
  return network;
}

}  // namespace

TrainStep::TrainStep(Backend& backend, ShuffleNetV2& network, const TrainStepOptions& options)
    : backend_(backend),
      network_(frozen_for_first_step(backend, network, options)),
      options_(options),
      optimizer_(backend, network, options.optimizer, /*skip_not_finite=*/options.scale_loss),
      average_(options.ema_decay > 0 ? std::make_unique<WeightAverage>(backend, network, options.ema_decay) : nullptr),
      metrics_(backend, options.batch, options.steps_between_reads * options.optimizer.accumulate,
               network.config().classes) {
  if (options.scale_loss) loss_scale_.value = kFirstLossScale;
  fixed_bytes_ = backend.memory().bytes_in_use;
  network.zero_grad();
}

void TrainStep::begin(double lr) {
  RIFFLE_CHECK(!begun_, "the step before was not finished");
  settle();
  if (finished_steps_ == options_.head_only_steps) end_head_only();
  lr_ = lr;
  write_scalars(finished_steps_);
  begun_ = true;
}

void TrainStep::write_scalars(int64_t step) {
  optimizer_.begin(step, lr_, average_ ? average_->decay_at(step + 1) : 0, loss_scale_.value);
}

void TrainStep::end_head_only() {
  if (options_.head_only_steps == 0) return;
  options_.head_only_steps = 0;
  release_graph();  // of another step
  const int64_t bytes_before = backend_.memory().bytes_in_use;
  network_.freeze_parts(backend_, options_.frozen_parts);
  optimizer_.frozen_changed();
  if (average_) average_->frozen_changed();
  network_.zero_grad();
  fixed_bytes_ += backend_.memory().bytes_in_use - bytes_before;
}

void TrainStep::import_state(const TensorMap& tensors, const std::string& path, int64_t finished_steps,
                             const LossScale& loss_scale, ShuffleNetV2* averages) {
  RIFFLE_CHECK(!begun_ && finished_steps_ == 0, "a state is imported before the first step");
  if (finished_steps > options_.head_only_steps) end_head_only();
  optimizer_.import_momentum(tensors, path);
  finished_steps_ = finished_steps;
  if (options_.scale_loss) loss_scale_ = loss_scale;
  if (average_) average_->copy_from(averages ? *averages : network_);
}

void TrainStep::forward_backward(const Variable& x, const BatchTargets& targets) {
  const int accumulate = options_.optimizer.accumulate;
  RIFFLE_CHECK(begun_, "begin() comes before a step's batches");
  RIFFLE_CHECK(batches_.size() < static_cast<size_t>(accumulate), "finish() must be called after ", accumulate,
               " batches");
  replaying_ = replays({x, targets});  // then all of it happens in finish()
  batches_.push_back({x, targets});
  if (replaying_) return;
  const BatchResult result = run_batch(batches_.size() - 1);
  metrics_.record(result.losses, result.logits, targets.labels);
}

// Out of memory is said with the batch that would fit: it is what people can change.
TrainStep::BatchResult TrainStep::run_batch(size_t index) {
  try {
    return forward_and_backward(index);
  } catch (const OutOfMemory& error) {
    const int64_t batch = batches_[index].x.shape().n, fitting = fitting_batch(error, index);
    fail(error.what(), "\n  this was a training step on a batch of ", batch, " images; ",
         fitting > 0 ? join("about ", fitting, " would fit") : "not even a single one fits");
  }
}

// Steps of two small batches tell what an image takes. If even those fail, only the bound that the error gives is known.
int64_t TrainStep::fitting_batch(const OutOfMemory& error, size_t index) {
  const Batch whole = batches_[index];
  const int64_t batch = whole.x.shape().n, bound = error.largest_batch(batch, fixed_bytes_);
  const int64_t small = std::max<int64_t>(1, batch / 16), large = std::max<int64_t>(2, batch / 4);
  if (large >= batch) return bound;
  const auto bytes_of = [&](int64_t images) {
    const auto first = [&](const Tensor& t) { return t.defined() ? t.sample_slice(0, images) : t; };
    batches_[index] = {Variable(first(whole.x.value()), /*requires_grad=*/false),
                       {first(whole.targets.labels), first(whole.targets.probabilities)}};
    tape_.clear();
    network_.zero_grad();
    most_bytes_ = 0;
    forward_and_backward(index);
    return static_cast<double>(most_bytes_);
  };
  try {
    const double few = bytes_of(small), more = bytes_of(large);
    const double image = (more - few) / static_cast<double>(large - small);
    const double left = static_cast<double>(error.bytes().obtainable) - few;
    const auto fitting = small + static_cast<int64_t>(std::floor(left / std::max(1.0, image)));
    return std::clamp<int64_t>(fitting, 0, bound);
  } catch (const OutOfMemory&) {
    return std::min(bound, large - 1);
  }
}

TrainStep::BatchResult TrainStep::forward_and_backward(size_t index) {
  const Batch& batch = batches_[index];
  const Context context{backend_, &tape_, /*training=*/true, options_.seed, index, optimizer_.scalars()};
  const Variable logits = network_.forward(context, batch.x);
  const double grad_scale = 1.0 / options_.optimizer.accumulate;
  const Tensor& probabilities = batch.targets.probabilities;
  const Tensor losses = probabilities.defined()
                            ? soft_cross_entropy(context, logits, probabilities, grad_scale, optimizer_.scalars())
                            : softmax_cross_entropy(context, logits, batch.targets.labels, options_.label_smoothing,
                                                    grad_scale, optimizer_.scalars());
  std::unique_ptr<ProfileRange> range;  // of the node that runs
  tape_.backward([&](const std::string& name, const Tensor&) {
    most_bytes_ = std::max(most_bytes_, backend_.memory().bytes_in_use);
    range.reset();
    range = std::make_unique<ProfileRange>(backend_, name + " backward");
  });
  return {losses, logits.value()};
}

void TrainStep::run_update() {
  optimizer_.step();
  if (average_) average_->update(optimizer_.scalars());
}

void TrainStep::finish() {
  RIFFLE_CHECK(batches_.size() == static_cast<size_t>(options_.optimizer.accumulate), "a step of ",
               options_.optimizer.accumulate, " batches has only seen ", batches_.size());
  if (replaying_) {
    graph_->replay();
    metrics_.record(graph_result_.losses, graph_result_.logits, graph_batch_->targets.labels);  // scaling leaves these
  } else {
    run_update();
    ++ordinary_steps_;
  }
  begun_ = false;
  if (options_.scale_loss) {
    undecided_ = true;  // settle() may need the batches
  } else {
    batches_.clear();
  }
  ++finished_steps_;
}

void TrainStep::settle() {
  if (!undecided_) return;
  while (!gradients_were_finite()) {
    write_scalars(finished_steps_ - 1);
    if (replaying_) {
      graph_->replay();
      continue;
    }
    for (size_t i = 0; i < batches_.size(); ++i) run_batch(i);
    run_update();
  }
  batches_.clear();
  undecided_ = false;
}

bool TrainStep::gradients_were_finite() {
  if (optimizer_.read_applied()) {
    if (++loss_scale_.steps_since_change == kStepsToGrow) {
      loss_scale_ = {std::min(2 * loss_scale_.value, kLargestLossScale), 0};
    }
    return true;
  }
  if (loss_scale_.value <= kSmallestLossScale)
    fail("the gradients of step ", finished_steps_, " are not finite even with the loss scale ", loss_scale_.value,
         "; lower schedule.lr, or use train.precision bf16");
  loss_scale_ = {loss_scale_.value / 2, 0};
  return false;
}

bool TrainStep::replays(const Batch& batch) {
  if (!options_.cuda_graphs || !backend_.can_capture()) return false;
  if (options_.optimizer.accumulate > 1) {
    execution_ = "no CUDA graph: a step accumulates several batches";
    return false;
  }
  // Two ordinary steps first: by then the allocator has all the memory that a step needs.
  if (!graph_ && !gave_up_ && ordinary_steps_ >= kStepsBeforeCapture) capture(batch);
  const auto same = [](const Tensor& a, const Tensor& b) {
    return a.defined() == b.defined() && (!a.defined() || (a.raw() == b.raw() && a.shape() == b.shape()));
  };
  return graph_ && same(batch.x.value(), graph_batch_->x.value()) &&
         same(batch.targets.labels, graph_batch_->targets.labels) &&
         same(batch.targets.probabilities, graph_batch_->targets.probabilities);
}

void TrainStep::release_graph() {
  RIFFLE_CHECK(!begun_, "a graph is released between steps");
  settle();
  graph_.reset();
  graph_batch_.reset();
  graph_result_ = {};
  ordinary_steps_ = 0;
}

void TrainStep::capture(const Batch& batch) {
  batches_.push_back(batch);
  try {
    graph_ = backend_.capture([&] {
      graph_result_ = run_batch(0);
      run_update();
    });
    graph_batch_ = std::make_unique<Batch>(batch);
    execution_ = "one CUDA graph a step";
    failed_captures_ = 0;
  } catch (const Error& error) {
    // What was recorded did not run: forget what it left. An evaluation in between may have taken the memory that a step
    // needs, so try again after another ordinary step; then go on without a graph, and the trainer says so.
    graph_result_ = {};
    tape_.clear();
    network_.zero_grad();
    if (++failed_captures_ == kCaptureAttempts) {
      gave_up_ = true;
      execution_ = join("no CUDA graph, each step is launched kernel by kernel, which is slower: ", error.what());
    }
  }
  batches_.clear();
}

}  // namespace riffle
