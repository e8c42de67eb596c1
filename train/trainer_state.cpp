// The training loop's state: saving it and going on from it.
#include "train/checkpoint/checkpoint.h"
#include "train/text.h"
#include "train/trainer.h"

namespace riffle {

void Trainer::resume(const CheckpointFile& file, const std::string& path, bool allow_other_data) {
  state_ = training_state_from_json(file.metadata, path);
  const int64_t images = data_.train->size();
  if (!allow_other_data && (state_.train_images != images || state_.steps_per_epoch != steps_per_epoch_))
    fail("the training data has ", images, " images now, ", steps_per_epoch_, " steps an epoch, but ", path,
         " was trained on ", state_.train_images, ", ", state_.steps_per_epoch,
         " steps an epoch; give it the same data, or accept this with --allow-config-change");
  if (state_.step > total_steps_)
    fail_usage(path, " is at step ", state_.step, ", but train.duration is ", config_.train.duration.text(), ", only ",
               total_steps_, " steps; expected a longer one");
  if (state_.step > last_step_)
    fail_usage(path, " is at step ", state_.step, ", but train.limit_steps is ", config_.train.limit_steps,
               "; expected more, or 0 for the whole run");
  const CheckpointMetadata stored = metadata_from_json(file.metadata, path);
  if (stored.classes != metadata_.classes)
    fail("the data's classes are not those of ", path, ": ", metadata_.classes.size(), " and ", stored.classes.size(),
         " classes, or other names; training can only go on with the same");
  import_module(backend_, network_, file.tensors, path, describe_architecture(file.metadata));
  if (averaged_) {
    TensorMap averages;
    const std::string prefix = kAveragePrefix;
    for (auto entry = file.tensors.lower_bound(prefix);
         entry != file.tensors.end() && entry->first.rfind(prefix, 0) == 0; ++entry)
      averages.emplace(entry->first.substr(prefix.size()), entry->second);
    if (averages.empty()) {
      copy_network(backend_, network_, *averaged_);  // ema.decay was 0 before
    } else {
      import_module(backend_, *averaged_, averages, path + " (moving averages)");
    }
  }
  train_step_.import_state(file.tensors, path, state_.step, state_.loss_scale, averaged_.get());
  evaluated_ = state_.evaluated;
  saved_step_ = step();
  weights_note_ = join(path, ": goes on after step ", format_count(step()), " of ", format_count(last_step_));
}

std::string Trainer::describe_finished() const {
  if (step() == total_steps_)
    return join("has taken all its ", total_steps_, " steps; for more: a longer train.duration and ",
                "--allow-config-change");
  if (step() == last_step_)
    return join("has taken the ", last_step_, " steps of train.limit_steps; for more: a larger one, or 0");
  return join("has stopped early, after step ", step(), " of ", last_step_,
              "; for more: a larger early_stopping.patience, or 0");
}

TrainingState Trainer::state() const {
  TrainingState state = state_;
  state.step = step();
  state.steps_per_epoch = steps_per_epoch_;
  state.train_images = data_.train->size();
  state.evaluated = evaluated_;
  state.loss_scale = train_step_.loss_scale();
  state.device = backend_.description();
  state.window.seconds = window_seconds();
  return state;
}

void Trainer::save(const MetricSums* sums) {
  read_window();  // nothing is saved of a run that has diverged
  if (averaged_) train_step_.average()->copy_to(*averaged_);
  checkpoints_->stage_state(network_, averaged_.get(), train_step_, state(), sums);
  checkpoints_->submit();
  saved_step_ = step();
}

// Training goes on: the disk may have room again for the next one.
void Trainer::report_failed_saves() {
  for (const std::string& failure : checkpoints_->take_failures())
    progress_.line("warning: " + failure + "; training goes on");
}

}  // namespace riffle
