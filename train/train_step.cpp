// One optimisation step.
#include "train/train_step.h"

#include <algorithm>
#include <cmath>

#include "core/out_of_memory.h"
#include "layers/softmax_cross_entropy.h"
#include "train/layer_times.h"
#include "train/lr_multipliers.h"

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

void check_rates(ShuffleNetV2& network, const TrainStepOptions& options) {
  std::vector<std::string> names;
  network.for_each_parameter([&](const std::string& name, Parameter&) { names.push_back(name); });
  check_lr_multipliers(options.optimizer.lr_multipliers, names,
                       [&](const std::string& name) { return network.part_of(name) < options.frozen_parts; });
}

}  // namespace

TrainStep::TrainStep(Backend& backend, ShuffleNetV2& network, const TrainStepOptions& options)
    : backend_(backend),
      network_(frozen_for_first_step(backend, network, options)),
      options_(options),
      optimizer_(backend, network, options.optimizer,
                 /*skip_not_finite=*/options.scale_loss || options.nonfinite != NonFinite::kApply),
      average_(options.ema_decay > 0 ? std::make_unique<WeightAverage>(backend, network, options.ema_decay,
                                                                       options.ema_warmup, options.ema_every)
                                     : nullptr),
      metrics_(backend, options.batch, options.steps_between_reads * options.optimizer.accumulate,
               network.config().classes) {
  check_rates(network, options);
  if (options.scale_loss) loss_scale_.value = kFirstLossScale;
  if (options.nonfinite != NonFinite::kApply)
    applied_ = backend.empty_parameter(vector_shape(options.steps_between_reads));
  fixed_bytes_ = backend.memory().bytes_in_use;
  network.zero_grad();
}

void TrainStep::begin(double lr) {
  RIFFLE_CHECK(!begun_, "the step before was not finished");
  settle();
  if (finished_steps_ == options_.head_only_steps) end_head_only();
  lr_ = lr;
  if ((options_.scale_loss || options_.nonfinite != NonFinite::kApply) && statistics_.empty()) keep_statistics();
  loss_scale_before_step_ = loss_scale_.value;
  write_scalars(finished_steps_, /*keep_halted=*/options_.nonfinite == NonFinite::kStop);
  begun_ = true;
}

void TrainStep::write_scalars(int64_t step, bool keep_halted) {
  optimizer_.begin(step, lr_, average_ ? average_->decay_at(step + 1) : 0, loss_scale_.value, keep_halted);
  gradient_scale_ = loss_scale_.value;
}

void TrainStep::keep_statistics() {
  network_.for_each_buffer([&](const std::string&, Buffer& buffer) {
    statistics_.push_back(buffer.value);
    kept_statistics_.push_back(backend_.empty_parameter(buffer.value.shape()));
    backend_.copy(buffer.value, Write::kOverwrite, kept_statistics_.back());
  });
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
    return forward_and_backward(batches_[index], index);
  } catch (const OutOfMemory& error) {
    const int64_t batch = batches_[index].x.shape().n, fitting = fitting_batch(error, index);
    fail(error.what(), "\n  this was a training step on a batch of ", batch, " images; ",
         fitting > 0 ? join("about ", fitting, " would fit") : "not even a single one fits");
  }
}

// Steps of two small batches tell what an image takes. If even those fail, only the bound that the error gives is known.
int64_t TrainStep::fitting_batch(const OutOfMemory& error, size_t index) {
  const Batch& whole = batches_[index];
  const int64_t batch = whole.x.shape().n, bound = error.largest_batch(batch, fixed_bytes_);
  const int64_t small = std::max<int64_t>(1, batch / 16), large = std::max<int64_t>(2, batch / 4);
  if (large >= batch) return bound;
  const auto bytes_of = [&](int64_t images) {
    const auto first = [&](const Tensor& t) { return t.defined() ? t.sample_slice(0, images) : t; };
    const Batch part{Variable(first(whole.x.value()), /*requires_grad=*/false),
                     {first(whole.targets.labels), first(whole.targets.probabilities)}};
    tape_.clear();
    network_.zero_grad();
    most_bytes_ = 0;
    forward_and_backward(part, index);
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

TrainStep::BatchResult TrainStep::forward_and_backward(const Batch& batch, size_t index, NonFiniteSearch* search) {
  const Context context{backend_, &tape_, /*training=*/true, options_.seed, index, optimizer_.scalars()};
  const Variable logits = network_.forward(context, batch.x);
  const double grad_scale = 1.0 / options_.optimizer.accumulate;
  const Tensor& probabilities = batch.targets.probabilities;
  const Tensor losses = probabilities.defined()
                            ? soft_cross_entropy(context, logits, probabilities, grad_scale, optimizer_.scalars())
                            : softmax_cross_entropy(context, logits, batch.targets.labels, options_.label_smoothing,
                                                    grad_scale, optimizer_.scalars());
  if (search) search->look("the loss", losses);
  std::string running;  // the node that runs, which is announced once for each of its outputs, and its range
  std::unique_ptr<ProfileRange> range;
  tape_.backward([&](const std::string& name, const Tensor& dy) {
    if (search) search->look("the gradient of the output of " + name, dy);
    most_bytes_ = std::max(most_bytes_, backend_.memory().bytes_in_use);
    if (range && name == running) return;
    running = name;
    range.reset();
    range = std::make_unique<ProfileRange>(backend_, name + kBackwardRange);
  });
  return {losses, logits.value()};
}

void TrainStep::run_update() {
  {
    const ProfileRange range(backend_, "optimizer");
    optimizer_.step();
    if (!statistics_.empty()) backend_.keep_or_restore(statistics_, kept_statistics_, optimizer_.scalars());
  }
  if (average_ && options_.ema_every == 1) average_->update(optimizer_.scalars());
}

MetricSums TrainStep::read_metrics(const MetricSums& before) {
  settle();
  std::vector<bool> skipped;
  unapplied_steps_.clear();
  if (applied_.defined() && unread_steps_ > 0) {
    std::vector<float> applied(static_cast<size_t>(unread_steps_));
    backend_.download(applied_.channel_slice(0, unread_steps_), DType::kF32, applied.data());
    for (size_t i = 0; i < applied.size(); ++i) {
      skipped.insert(skipped.end(), static_cast<size_t>(options_.optimizer.accumulate), applied[i] == 0);
      if (applied[i] == 0) unapplied_steps_.push_back(finished_steps_ - unread_steps_ + static_cast<int64_t>(i));
    }
  }
  unread_steps_ = 0;
  return metrics_.read(before, skipped);
}

std::string TrainStep::first_non_finite(int64_t step, double lr, size_t index, const Variable& x,
                                        const BatchTargets& targets) {
  settle();
  NonFiniteSearch search(backend_, network_);
  optimizer_.begin(step, lr, 0, options_.scale_loss ? kSmallestLossScale : 1);  // a larger one may overflow by itself
  tape_.clear();
  tape_.observe_outputs([&](const std::string& name, const Tensor& y) { search.look("the output of " + name, y); });
  network_.zero_grad();
  forward_and_backward({x, targets}, index, &search);
  tape_.observe_outputs({});
  search.look_at_gradients();
  return search.found();
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
  ++finished_steps_;
  ++unread_steps_;
  if (options_.scale_loss) {
    undecided_ = true;  // settle() may need the batches
  } else {
    end_step();
  }
}

void TrainStep::settle() {
  if (!undecided_) return;
  while (!gradients_were_finite()) {
    write_scalars(finished_steps_ - 1, /*keep_halted=*/false);
    if (replaying_) {
      graph_->replay();
      continue;
    }
    for (size_t i = 0; i < batches_.size(); ++i) run_batch(i);
    run_update();
  }
  undecided_ = false;
  end_step();
}

// What follows the last update of a step.
void TrainStep::end_step() {
  batches_.clear();
  if (average_ && options_.ema_every > 1 && average_->due_after(finished_steps_))
    average_->update(optimizer_.scalars());
  if (!applied_.defined()) return;
  RIFFLE_CHECK(unread_steps_ <= options_.steps_between_reads, "metrics must be read after ",
               options_.steps_between_reads, " steps");
  backend_.copy(optimizer_.scalars().channel_slice(kApply, 1), Write::kOverwrite,
                applied_.channel_slice(unread_steps_ - 1, 1));
}

// Or nothing is left to try.
bool TrainStep::gradients_were_finite() {
  if (known_unapplied_ && options_.nonfinite == NonFinite::kStop) return true;  // and the rest is not applied either
  if (optimizer_.read_applied()) {
    known_unapplied_ = false;
    if (++loss_scale_.steps_since_change == kStepsToGrow) {
      loss_scale_ = {std::min(2 * loss_scale_.value, kLargestLossScale), 0};
    }
    return true;
  }
  if (loss_scale_.value <= kSmallestLossScale && options_.nonfinite != NonFinite::kApply) {
    if (options_.nonfinite == NonFinite::kSkip) loss_scale_ = {loss_scale_before_step_, 0};
    return known_unapplied_ = true;
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
