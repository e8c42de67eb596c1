// The checkpoints of a run.
#include "train/run_checkpoints.h"

#include <filesystem>
#include <functional>
#include <limits>
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

// Of weights that a run has written; those that cannot be read are of no step that anyone could still want.
int64_t step_of(const std::string& weights) {
  try {
    const CheckpointMetadata metadata = metadata_from_json(read_safetensors(weights).metadata, weights);
    return metadata.training ? metadata.training->step : std::numeric_limits<int64_t>::max();
  } catch (const Error&) {
    return std::numeric_limits<int64_t>::max();
  }
}

}  // namespace

RunCheckpoints::RunCheckpoints(Backend& backend, const RunFolder& folder, CheckpointMetadata metadata,
                               const KeepOptions& keep)
    : backend_(backend), folder_(folder), metadata_(std::move(metadata)), keep_(keep), writer_([this] {
        write_jobs();
      }) {}

std::vector<std::string> RunCheckpoints::set_aside_after(int64_t step) {
  std::vector<std::string> names;
  const auto set_aside = [&](const std::string& file) {
    std::error_code error;
    fs::rename(file, RunFolder::superseded(file), error);
    if (error) fail("cannot rename ", file, " to ", RunFolder::superseded(file), ": ", error.message());
    names.push_back(fs::path(file).filename().string());
  };
  for (const int64_t later : folder_.checkpoint_steps())
    if (later > step) set_aside(folder_.step_checkpoint(later));
  if (names.empty()) return {};
  const std::string best = folder_.checkpoint("best");
  if (fs::exists(best) && step_of(best) > step) set_aside(best);
  const std::string current = folder_.step_checkpoint(step);
  if (fs::exists(current)) point_to(folder_.checkpoint("last"), current);
  std::vector<std::string> lines;
  lines.reserve(names.size());
  for (const std::string& name : names)
    lines.push_back(
        join("set aside   ", name, ", of a step after ", step, ": it is ", RunFolder::superseded(name), " now"));
  return lines;
}

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
    if (!failure.empty()) failures_.push_back("a checkpoint could not be saved: " + failure);
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
  tidy_up(job.step);
}

// The state is safe by now. Each trouble here is told once: a file system without links has it every time.
void RunCheckpoints::tidy_up(int64_t newest_step) {
  const auto try_to = [this](bool& told, const std::function<void()>& change) {
    try {
      change();
    } catch (const Error& error) {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!told) failures_.emplace_back(error.what());
      told = true;
    }
  };
  try_to(link_failure_told_, [&] { point_to(folder_.checkpoint("last"), folder_.step_checkpoint(newest_step)); });
  try_to(removal_failure_told_, [&] { remove_old(); });
}

void RunCheckpoints::remove_old() const {
  int64_t newer = 0;
  for (const int64_t step : folder_.checkpoint_steps()) {
    if (++newer <= keep_.last) continue;
    if (keep_.every_steps > 0 && step % keep_.every_steps == 0) continue;
    const std::string file = folder_.step_checkpoint(step);
    std::error_code error;
    fs::remove(file, error);
    if (error) fail("cannot remove the old checkpoint ", file, ": ", error.message());
  }
}

}  // namespace riffle
