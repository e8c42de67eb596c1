// The checkpoints of a run.
#include "train/run_checkpoints.h"

#include <filesystem>
#include <utility>

#include "train/checkpoint/module_io.h"
#include "train/text.h"

namespace riffle {
namespace {

namespace fs = std::filesystem;

// A relative link, so that the folder can be moved.
void point_to(const std::string& link, const std::string& file) {
  const std::string temporary = link + ".tmp-link";
  std::error_code error;
  fs::remove(temporary, error);
  if (!error) fs::create_symlink(fs::path(file).filename(), temporary, error);
  if (!error) fs::rename(temporary, link, error);
  if (error) fail("cannot link ", link, " to ", file, ": ", error.message());
}

}  // namespace

RunCheckpoints::RunCheckpoints(Backend& backend, const RunFolder& folder, CheckpointMetadata metadata,
                               const KeepOptions& keep)
    : backend_(backend), folder_(folder), metadata_(std::move(metadata)), keep_(keep), writer_([this] {
        write_jobs();
      }) {}

RunCheckpoints::~RunCheckpoints() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    ends_ = true;
  }
  changed_.notify_all();
  writer_.join();
}

nlohmann::json RunCheckpoints::metadata(bool averaged, const TrainingState& state, const MetricSums* sums) const {
  CheckpointMetadata metadata = metadata_;
  metadata.averaged = averaged;
  metadata.training =
      CheckpointMetadata::Training{state.step / state.steps_per_epoch, state.step, state.loss_scale.value};
  if (sums) metadata.metrics = CheckpointMetadata::Metrics{100 * sums->top1(), 100 * sums->top5(), sums->loss()};
  return to_json(metadata);
}

void RunCheckpoints::stage_best(ShuffleNetV2& network, bool averaged, const TrainingState& state,
                                const MetricSums& sums) {
  CheckpointFile file;
  file.metadata = metadata(averaged, state, &sums);
  export_module(backend_, network, file.tensors);
  staged_.best = std::move(file);
}

void RunCheckpoints::stage_state(ShuffleNetV2& network, ShuffleNetV2* averages, TrainStep& step,
                                 const TrainingState& state, const MetricSums* sums) {
  CheckpointFile file;
  file.metadata = metadata(/*averaged=*/false, state, sums);
  file.metadata[kTrainingStateKey] = to_json(state);
  step.export_state(file.tensors);  // first: it settles the step, which may change the network
  export_module(backend_, network, file.tensors);
  if (averages) {
    TensorMap averaged;
    export_module(backend_, *averages, averaged);
    for (auto& [name, tensor] : averaged) file.tensors.emplace(kAveragePrefix + name, std::move(tensor));
  }
  staged_.state = std::move(file);
  staged_.step = state.step;
}

void RunCheckpoints::submit() {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] { return !submitted_; });
  submitted_ = std::move(staged_);
  staged_ = Job{};
  lock.unlock();
  changed_.notify_all();
}

std::vector<std::string> RunCheckpoints::take_failures() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return std::exchange(failures_, {});
}

void RunCheckpoints::finish() {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] { return !submitted_; });
  if (!last_failure_.empty()) fail("the run's last checkpoint could not be saved: ", last_failure_);
}

void RunCheckpoints::write_jobs() {
  std::optional<CheckpointFile> unsaved_best;
  for (;;) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return submitted_ || ends_; });
    if (!submitted_) return;
    lock.unlock();
    std::optional<CheckpointFile> earlier_best = std::exchange(unsaved_best, std::nullopt);
    if (!submitted_->best) submitted_->best = std::move(earlier_best);  // nobody else touches it while it is there
    std::string failure;
    try {
      write(*submitted_);
    } catch (const std::exception& error) {
      failure = error.what();
      unsaved_best = std::move(submitted_->best);
    }
    lock.lock();
    if (!failure.empty()) failures_.push_back(failure);
    last_failure_ = failure;
    submitted_.reset();
    lock.unlock();
    changed_.notify_all();
  }
}

void RunCheckpoints::write(Job& job) {
  if (job.best) {
    write_safetensors(folder_.checkpoint("best"), *job.best);
    job.best.reset();
  }
  if (!job.state) return;
  const std::string file = folder_.step_checkpoint(job.step);
  write_safetensors(file, *job.state);
  point_to(folder_.checkpoint("last"), file);
  remove_old(job.step);
}

// Files of later steps are those that could not be read when the run went on from an earlier one: they do not count.
void RunCheckpoints::remove_old(int64_t newest_step) const {
  int64_t newer = 0;
  for (const int64_t step : folder_.checkpoint_steps()) {
    if (step > newest_step || ++newer <= keep_.last) continue;
    if (keep_.every_steps > 0 && step % keep_.every_steps == 0) continue;
    const std::string file = folder_.step_checkpoint(step);
    std::error_code error;
    fs::remove(file, error);
    if (error) fail("cannot remove the old checkpoint ", file, ": ", error.message());
  }
}

}  // namespace riffle
