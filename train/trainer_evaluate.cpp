// The trainer's evaluations.
#include "train/bad_images.h"
#include "train/text.h"
#include "train/trainer.h"

namespace riffle {
namespace {

bool better(const MetricSums& a, const MetricSums& b) {
  if (a.top1_correct != b.top1_correct) return a.top1_correct > b.top1_correct;
  return a.loss_sum < b.loss_sum;
}

}  // namespace

void Trainer::evaluate() {
  const Stopwatch clock;
  const double before = window_seconds();
  train_step_.release_graph();
  if (checkpoint_is_due() || step() == last_step_) save(nullptr);  // kept even if the evaluation fails
  if (averaged_) train_step_.average()->copy_to(*averaged_);
  try {
    EvaluationRecord record{step(), epochs_done(), measure(network_, "validation"), {}, 0};
    if (averaged_) record.ema = measure(*averaged_, "EMA       ");
    state_.evaluation_seconds += clock.seconds();
    ++state_.evaluations;
    state_.window.seconds = before;
    window_clock_.restart();
    keep_measured(record);
  } catch (const Stopped&) {
    state_.window.seconds = before;
    window_clock_.restart();
    progress_.line("stopped     before the evaluation was done; it comes first when the run goes on");
  }
}

void Trainer::keep_measured(const EvaluationRecord& measured) {
  EvaluationRecord record = measured;
  evaluated_ = true;
  const bool averaged_wins = record.ema && better(record.ema->sums, record.raw.sums);
  const MetricSums& winner = averaged_wins ? record.ema->sums : record.raw.sums;
  // The one at train.limit_steps is extra: a run that goes on must stop where one without the limit does.
  if (evaluation_is_scheduled()) note_evaluation(config_.early_stopping, winner.top1(), state_.early_stopping);
  const bool is_best = winner.top1() > state_.best.top1;
  if (is_best) {
    state_.best = {winner.top1(), join(averaged_wins ? "EMA weights" : "weights", " of epoch ", epoch())};
    checkpoints_->stage_best(averaged_wins ? *averaged_ : network_, averaged_wins, state(), winner);
  }
  record.best_top1 = state_.best.top1;
  log_->evaluation(record);
  log_->network(step(), backend_, network_, train_step_.gradient_scale(), config_.network_input().reverse_channels);
  last_evaluation_ = record;
  if (stops_early() && step() < last_step_)
    progress_.line(join("stopping    early: ", state_.early_stopping.waited, " evaluations in a row not better than ",
                        format_percent(state_.early_stopping.best_top1), " by more than ",
                        format_significant(config_.early_stopping.min_delta, 4), " points (early_stopping)"));
  if (checkpoint_is_due() || finished()) {
    save(&record.raw.sums);
  } else if (is_best) {
    checkpoints_->submit();
  }
}

EvalResult Trainer::measure(ShuffleNetV2& network, const std::string& what) {
  const std::string where = join("epoch ", epoch(), "/", epochs(), "  ", what);
  const EvalResult result = evaluator_.run(*folded_copy(backend_, network), [&](int64_t images) {
    if (stop_()) throw Stopped{};
    progress_.evaluation(where, images, evaluator_.images());
  });
  for (const std::string& line : describe_bad_images(result.bad_images, "counted as wrong (eval.max_bad_images)"))
    progress_.line(line);
  for (const std::string& line : truncated_val_.describe(result.truncated_images)) progress_.line(line);
  progress_.highlight(where + "  " + describe(result));
  return result;
}

}  // namespace riffle
