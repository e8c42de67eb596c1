// What the trainer does about steps that are not finite. Where their gradients are not, the device has not applied
// them, nor, where the run stops, any after the first; so the weights still are what that step saw, and its batch can be
// loaded and computed again.
#include <cmath>
#include <cstring>
#include <exception>

#include "train/checkpoint/numpy.h"
#include "train/text.h"
#include "train/trainer.h"

namespace riffle {
namespace {

template <class T>
HostTensor to_host_tensor(FileDType dtype, std::vector<int64_t> shape, const T* values) {
  HostTensor tensor{dtype, std::move(shape), {}};
  tensor.bytes.resize(static_cast<size_t>(tensor.elements()) * sizeof(T));
  std::memcpy(tensor.bytes.data(), values, tensor.bytes.size());
  return tensor;
}

}  // namespace

void Trainer::handle_unapplied_steps() {
  const std::vector<int64_t>& steps = train_step_.unapplied_steps();
  if (steps.empty()) return;
  if (config_.train.nonfinite == "stop") stop_at_non_finite(steps.front());
  for (const int64_t bad_step : steps) {
    ++state_.skipped_steps;
    progress_.line(join("warning: step ", bad_step + 1, " was skipped: its gradients are not finite (learning rate ",
                        format_significant(learning_rate_.at(bad_step), 4), "); ", state_.skipped_steps,
                        " so far, the limit is ", config_.train.max_skipped_steps, " (train.max_skipped_steps)"));
  }
  if (state_.skipped_steps <= config_.train.max_skipped_steps) return;
  fail(state_.skipped_steps, " steps had gradients that are not finite, the last at step ", steps.back() + 1,
       ", more than train.max_skipped_steps, ", config_.train.max_skipped_steps,
       "; lower schedule.lr, or set train.nonfinite=stop to find out where they come from");
}

// "5 (epoch 1, learning rate 0.09, loss scale 1)"
std::string Trainer::describe_step(int64_t step) const {
  return join(step + 1, " (epoch ", step / steps_per_epoch_ + 1, ", learning rate ",
              format_significant(learning_rate_.at(step), 4), ", loss scale ", train_step_.loss_scale().value, ")");
}

void Trainer::stop_at_non_finite(int64_t bad_step) {
  const std::string found =
      find_non_finite(bad_step, bad_step * config_.optimizer.accumulate,
                      "Computed again, every tensor is finite: what happened does not happen every time.");
  fail("the gradients of step ", describe_step(bad_step), " are not finite: training has diverged. ", found,
       "\n  Lower schedule.lr, lengthen schedule.warmup or set optimizer.clip_norm; or train.nonfinite=skip.",
       "\n  To reproduce: the same run with train.limit_steps=", bad_step + 1, " train.log_every_steps=1");
}

// Of the steps since first_step. Finite gradients can come with a loss that is not, and then were applied.
void Trainer::check_loss(int64_t first_step) {
  if (state_.window.sums.not_finite == 0) return;
  const int64_t bad_batch = first_step * config_.optimizer.accumulate + state_.window.sums.first_not_finite_batch;
  const int64_t bad_step = bad_batch / config_.optimizer.accumulate;
  const std::string found = find_non_finite(bad_step, bad_batch, "Then every tensor is finite.");
  fail("the loss of step ", describe_step(bad_step),
       " is not finite, though the gradients are: training has diverged. ",
       "The step is applied, so it was computed again with the weights after step ", step(), ". ", found,
       "\n  Lower schedule.lr, lengthen schedule.warmup or set optimizer.clip_norm.",
       "\n  To reproduce: the same run with train.limit_steps=", bad_step + 1, " train.log_every_steps=1");
}

// In words, and where the batch is saved: the first of the step in which something is found, else `suspect`. Says what
// it cannot do rather than throw, since the message that this becomes part of must not be lost.
std::string Trainer::find_non_finite(int64_t bad_step, int64_t suspect, const std::string& if_none) {
  train_step_.release_graph();  // it keeps the memory of a whole step
  const int64_t accumulate = config_.optimizer.accumulate;
  for (int64_t number = bad_step * accumulate; number < (bad_step + 1) * accumulate; ++number) {
    try {
      const std::string found = first_non_finite(bad_step, number);
      if (!found.empty()) return "The first tensor that is not finite is " + found + "." + save_batch(number);
    } catch (const std::exception& error) {
      return join("It could not be computed again: ", error.what(), ".", save_batch(number));
    }
  }
  return if_none + save_batch(suspect);
}

// Batch `number` of the run, one of the step's, is loaded and computed again, with a look at every tensor.
std::string Trainer::first_non_finite(int64_t step, int64_t number) {
  const Batch batch = load_again(number);
  const std::optional<BatchMix> mix = mix_of(number, batch.height);
  input_.upload(batch.images, batch.count);
  const Variable x = input_.images(mix ? &mix->image : nullptr);
  return train_step_.first_non_finite(step, learning_rate_.at(step),
                                      static_cast<size_t>(number % config_.optimizer.accumulate), x,
                                      targets_of(batch, mix));
}

Batch Trainer::load_again(int64_t number) {
  const BatchPosition position = position_of(number);
  loader_.start_epoch(position.epoch, position.batch);
  Batch batch;
  const bool delivered = loader_.next(batch);
  RIFFLE_CHECK(delivered, "batch ", number, " of the run cannot be loaded again");
  return batch;
}

// "" in a dry run, which writes nothing.
std::string Trainer::save_batch(int64_t number) {
  if (!folder_) return "";
  const std::string path = folder_->file("nonfinite_batch.npz"), names_path = folder_->file("nonfinite_batch.txt");
  try {
    const Batch batch = load_again(number);
    TensorMap arrays;
    arrays["images"] =
        to_host_tensor(FileDType::kU8, {batch.count, batch.height, batch.width, batch.channels}, batch.images);
    arrays["labels"] = to_host_tensor(FileDType::kI32, {batch.count}, batch.labels);
    arrays["indices"] = to_host_tensor(FileDType::kI64, {batch.count}, batch.indices);
    write_npz(path, arrays);
    std::string names;
    for (int64_t n = 0; n < batch.count; ++n) names += data_.train->name(batch.indices[n]) + "\n";
    write_text_file(names_path, names);
  } catch (const std::exception& error) {
    return join("\n  Batch ", number + 1, " of the run could not be saved: ", error.what(), ".");
  }
  return join("\n  Batch ", number + 1, " of the run is saved in ", path, ", the names of its images in ", names_path,
              ".");
}

}  // namespace riffle
