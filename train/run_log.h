// What a run leaves for people and programs to look at: metrics.jsonl and .csv (a record for each log line and
// evaluation), curves.svg, pictures, and TensorBoard's event file. One record in, every form out. docs/logs.md describes
// the files. Only what the others could be made from, metrics.jsonl, must be writable: for the others a full disk is a
// warning, which comes once, not the end of a long run.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "data/loader.h"
#include "layers/shufflenet_v2.h"
#include "train/config.h"
#include "train/curves.h"
#include "train/evaluator.h"
#include "train/metrics_csv.h"
#include "train/run_folder.h"
#include "train/tensorboard/event_writer.h"
#include "train/training_state.h"

namespace riffle {

// The steps since the record before.
struct TrainRecord {
  int64_t step = 0;                     // finished
  double epoch = 0;                     // finished, with fractions
  double loss = 0, top1 = 0, top5 = 0;  // top1 and top5 as fractions
  double lr = 0;                        // of the last of the steps
  double images_per_s = 0;
  double data_queue = 0;             // batches that lay ready when one was asked for, on average
  double data_wait_ms = 0;           // a step
  double grad_norm = 0;              // of the last of the steps, before clipping
  std::optional<double> loss_scale;  // absent where the loss is not scaled
  int64_t device_peak_bytes = 0;     // of the backend's tensors
  int64_t process_peak_bytes = 0;    // resident memory
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
  // title: of the curves. finished_steps: those before this start of the run; 0 unless it was resumed.
  RunLog(const RunFolder& folder, std::string title, const LogSection& options, int64_t finished_steps,
         std::function<void(const std::string&)> warn);

  // Goes on after the records of an earlier process up to `step`; drops later ones and returns how many. evaluated:
  // whether the evaluation at `step` is done; else it will come again.
  int64_t resume(int64_t step, bool evaluated);
  // The best of the "recalibrated" records that resume() kept; a top1 of -1 where there is none.
  const TrainingState::Best& best_recalibrated() const { return best_recalibrated_; }

  void train(const TrainRecord& record);
  void evaluation(const EvaluationRecord& record);  // draws the curves anew, too
  // What the run began with: samples.png.
  void first_batch(const Batch& batch, const std::vector<std::string>& classes);
  // The network between steps: filters.png and histograms. The arguments are those of network_histograms.h and
  // run_images.h. Waits for the device.
  void network(int64_t step, Backend& backend, ShuffleNetV2& network, double loss_scale, bool bgr);

 private:
  void note_recalibrated(const nlohmann::json& record);
  void append(const nlohmann::json& record);
  void try_to(const std::function<void()>& write);
  void add_scalars(int64_t step, const std::vector<std::pair<std::string, double>>& scalars);
  void show(int64_t step, const std::string& name, const std::string& tag, const Image& image);
  void add_to_curves(const nlohmann::json& record);
  void write_curves() const;

  const RunFolder folder_;
  std::string title_;
  LogSection options_;
  MetricsCsv csv_;
  std::unique_ptr<EventWriter> events_;  // null without TensorBoard
  std::function<void(const std::string&)> warn_;
  bool warned_ = false;
  TrainingState::Best best_recalibrated_;
  Curve train_loss_{"train", "train", {}}, val_loss_{"validation", "val", {}}, ema_loss_{"validation, EMA", "ema", {}};
  Curve train_top1_{"train", "train", {}}, val_top1_{"validation", "val", {}}, ema_top1_{"validation, EMA", "ema", {}};
};

}  // namespace riffle
