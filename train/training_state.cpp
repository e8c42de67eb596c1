// Training state <-> JSON. Numbers come back bit for bit.
#include "train/training_state.h"

#include "core/check.h"

namespace riffle {

nlohmann::json to_json(const TrainingState& state) {
  const MetricSums& sums = state.window.sums;
  return {{"step", state.step},
          {"steps_per_epoch", state.steps_per_epoch},
          {"train_images", state.train_images},
          {"evaluated", state.evaluated},
          {"loss_scale", {{"value", state.loss_scale.value}, {"steps", state.loss_scale.steps_since_change}}},
          {"device", state.device},
          {"best", {{"top1", state.best.top1}, {"description", state.best.description}}},
          {"early_stopping", {{"best_top1", state.early_stopping.best_top1}, {"waited", state.early_stopping.waited}}},
          {"skipped_steps", state.skipped_steps},
          {"window",
           {{"first_step", state.window.first_step},
            {"seconds", state.window.seconds},
            {"wait_ms", state.window.wait_ms},
            {"ready_batches", state.window.ready_batches},
            {"images", sums.images},
            {"top1_correct", sums.top1_correct},
            {"top5_correct", sums.top5_correct},
            {"loss_sum", sums.loss_sum}}},
          {"training_seconds", state.training_seconds},
          {"evaluation_seconds", state.evaluation_seconds},
          {"evaluations", state.evaluations}};
}

TrainingState training_state_from_json(const nlohmann::json& metadata, const std::string& path) {
  if (!metadata.contains(kTrainingStateKey)) {
    fail(path, " has weights only, no training state, so a run cannot go on from it; expected a step-*.safetensors or ",
         "last.safetensors of a run (or begin a new run with its weights: --init ", path, ")");
  }
  TrainingState state;
  try {
    const nlohmann::json& json = metadata.at(kTrainingStateKey);
    json.at("step").get_to(state.step);
    json.at("steps_per_epoch").get_to(state.steps_per_epoch);
    json.at("train_images").get_to(state.train_images);
    json.at("evaluated").get_to(state.evaluated);
    json.at("loss_scale").at("value").get_to(state.loss_scale.value);
    json.at("loss_scale").at("steps").get_to(state.loss_scale.steps_since_change);
    json.at("device").get_to(state.device);
    json.at("best").at("top1").get_to(state.best.top1);
    json.at("best").at("description").get_to(state.best.description);
    if (json.contains("early_stopping")) {  // these two: not in the first versions
      json.at("early_stopping").at("best_top1").get_to(state.early_stopping.best_top1);
      json.at("early_stopping").at("waited").get_to(state.early_stopping.waited);
    }
    if (json.contains("skipped_steps")) json.at("skipped_steps").get_to(state.skipped_steps);
    const nlohmann::json& window = json.at("window");
    window.at("first_step").get_to(state.window.first_step);
    window.at("seconds").get_to(state.window.seconds);
    window.at("wait_ms").get_to(state.window.wait_ms);
    window.at("ready_batches").get_to(state.window.ready_batches);
    window.at("images").get_to(state.window.sums.images);
    window.at("top1_correct").get_to(state.window.sums.top1_correct);
    window.at("top5_correct").get_to(state.window.sums.top5_correct);
    window.at("loss_sum").get_to(state.window.sums.loss_sum);
    json.at("training_seconds").get_to(state.training_seconds);
    json.at("evaluation_seconds").get_to(state.evaluation_seconds);
    json.at("evaluations").get_to(state.evaluations);
  } catch (const nlohmann::json::exception& error) {
    fail(path, ": the training state in its metadata ('", kTrainingStateKey, "') cannot be read: ", error.what());
  }
  const bool valid = state.step >= 0 && state.steps_per_epoch > 0 && state.loss_scale.value > 0 &&
                     state.window.first_step >= 0 && state.window.first_step <= state.step;
  if (!valid) fail(path, ": the training state in its metadata ('", kTrainingStateKey, "') contradicts itself");
  return state;
}

}  // namespace riffle
