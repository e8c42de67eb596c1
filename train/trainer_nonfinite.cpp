// What the trainer does about steps whose gradients are not finite. The device has not applied them, nor, where the run
// stops, any after the first; so the weights still are what that step saw, and its batch can be loaded and computed again.
#include <cmath>
#include <cstring>

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

void Trainer::stop_at_non_finite(int64_t bad_step) {
  const std::string found = find_non_finite(bad_step);
  fail("the gradients of step ", bad_step + 1, " (epoch ", bad_step / steps_per_epoch_ + 1, ", learning rate ",
       format_significant(learning_rate_.at(bad_step), 4), ", loss scale ", train_step_.loss_scale().value,
       ") are not finite: training has diverged. ", found,
       "\n  Lower schedule.lr, lengthen schedule.warmup or set optimizer.clip_norm; or train.nonfinite=skip.",
       "\n  To reproduce: the same run with train.limit_steps=", bad_step + 1, " train.log_every_steps=1");
}

// The batches of the step are loaded and computed again, with a look at every tensor.
std::string Trainer::find_non_finite(int64_t bad_step) {
  train_step_.release_graph();  // it keeps the memory of a whole step
  for (int i = 0; i < config_.optimizer.accumulate; ++i) {
    const int64_t number = bad_step * config_.optimizer.accumulate + i;
    const BatchPosition position = position_of(number);
    loader_.start_epoch(position.epoch, position.batch);
    Batch batch;
    const bool delivered = loader_.next(batch);
    RIFFLE_CHECK(delivered, "batch ", number, " of the run cannot be loaded again");
    const std::optional<BatchMix> mix = mix_of(number, batch.height);
    input_.upload(batch.images, batch.count);
    const Variable x = input_.images(mix ? &mix->image : nullptr);
    std::string found;
    try {
      found = train_step_.first_non_finite(bad_step, learning_rate_.at(bad_step), static_cast<size_t>(i), x,
                                           targets_of(batch, mix));
    } catch (const Error& error) {
      return join("It could not be computed again: ", error.what(), ".", save_batch(batch, number));
    }
    if (found.empty()) continue;
    return "The first tensor that is not finite is " + found + "." + save_batch(batch, number);
  }
  return "Computed again, every tensor is finite: only the sum of the gradients' squares is not.";
}

// "" in a dry run, which writes nothing.
std::string Trainer::save_batch(const Batch& batch, int64_t number) const {
  if (!folder_) return "";
  const std::string path = folder_->file("nonfinite_batch.npz"), names_path = folder_->file("nonfinite_batch.txt");
  TensorMap arrays;
  arrays["images"] =
      to_host_tensor(FileDType::kU8, {batch.count, batch.height, batch.width, batch.channels}, batch.images);
  arrays["labels"] = to_host_tensor(FileDType::kI32, {batch.count}, batch.labels);
  arrays["indices"] = to_host_tensor(FileDType::kI64, {batch.count}, batch.indices);
  write_npz(path, arrays);
  std::string names;
  for (int64_t n = 0; n < batch.count; ++n) names += data_.train->name(batch.indices[n]) + "\n";
  write_text_file(names_path, names);
  return join("\n  Batch ", number + 1, " of the run is saved in ", path, ", the names of its images in ", names_path,
              ".");
}

}  // namespace riffle
