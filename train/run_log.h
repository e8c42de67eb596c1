// What a run leaves for people and programs to look at: metrics.jsonl (one record a log line or evaluation) and
// curves.svg. One record in, every form out; a further form of the log (CSV, TensorBoard) is written from here.
#pragma once

#include <optional>
#include <string>

#include "train/curves.h"
#include "train/evaluator.h"
#include "train/run_folder.h"

namespace riffle {

// The steps since the record before.
struct TrainRecord {
  int64_t step = 0;                     // finished
  double epoch = 0;                     // finished, with fractions
  double loss = 0, top1 = 0, top5 = 0;  // top1 and top5 as fractions
  double lr = 0;                        // of the last of the steps
  double images_per_s = 0;
  double data_wait_ms = 0;          // a step
  std::optional<double> grad_norm;  // of the last of the steps; absent where it is not computed
};

struct EvaluationRecord {
  int64_t step = 0;
  double epoch = 0;
  EvalResult raw;                 // of the weights as trained
  std::optional<EvalResult> ema;  // of their moving averages
  double best_top1 = 0;           // of the run so far
};

class RunLog {
 public:
  // title: of the curves.
  RunLog(const RunFolder& folder, std::string title) : folder_(folder), title_(std::move(title)) {}

  // Goes on after the records of an earlier process up to `step`; drops later ones and returns how many. evaluated:
  // whether the evaluation at `step` is done; else it will come again.
  int64_t resume(int64_t step, bool evaluated);

  void train(const TrainRecord& record);
  void evaluation(const EvaluationRecord& record);  // draws the curves anew, too

 private:
  void add_to_curves(const nlohmann::json& record);
  void write_curves() const;

  const RunFolder& folder_;
  std::string title_;
  Curve train_loss_{"train", "train", {}}, val_loss_{"validation", "val", {}}, ema_loss_{"validation, EMA", "ema", {}};
  Curve train_top1_{"train", "train", {}}, val_top1_{"validation", "val", {}}, ema_top1_{"validation, EMA", "ema", {}};
};

}  // namespace riffle
