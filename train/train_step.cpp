// One optimisation step.
#include "train/train_step.h"

#include "layers/softmax_cross_entropy.h"

namespace riffle {

TrainStep::TrainStep(Backend& backend, ShuffleNetV2& network, const TrainStepOptions& options)
    : backend_(backend),
      network_(network),
      options_(options),
      optimizer_(backend, network, options.optimizer),
      average_(options.ema_decay > 0 ? std::make_unique<WeightAverage>(backend, network, options.ema_decay) : nullptr),
      metrics_(backend, options.batch, options.steps_between_reads * options.optimizer.accumulate,
               network.config().classes) {
  network.zero_grad();
}

void TrainStep::forward_backward(const Variable& x, const Tensor& labels) {
  const int accumulate = options_.optimizer.accumulate;
  RIFFLE_CHECK(batches_of_step_ < accumulate, "update() must be called after ", accumulate, " batches");
  Context context{backend_, &tape_, /*training=*/true, options_.seed};
  context.step = static_cast<uint64_t>(finished_steps_ * accumulate + batches_of_step_);

  const Variable logits = network_.forward(context, x);
  const Tensor losses =
      softmax_cross_entropy(context, logits, labels, options_.label_smoothing, /*grad_scale=*/1.0 / accumulate);
  metrics_.record(losses, logits.value(), labels);
  tape_.backward();
  ++batches_of_step_;
}

double TrainStep::update(double lr) {
  RIFFLE_CHECK(batches_of_step_ == options_.optimizer.accumulate, "a step of ", options_.optimizer.accumulate,
               " batches has only seen ", batches_of_step_);
  const double norm = optimizer_.step(lr);
  ++finished_steps_;
  batches_of_step_ = 0;
  if (average_) average_->update(finished_steps_);
  return norm;
}

}  // namespace riffle
