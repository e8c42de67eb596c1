// What a run leaves for people and programs to look at: metrics.jsonl and .csv (a record for each log line and
// evaluation), curves.svg, pictures, and TensorBoard's event file. One record in, every form out. docs/logs.md
// describes the files. A run cannot begin where it cannot write its records. After that a full disk is a warning, which
// comes once, not the end of a long run: records are kept until they can be written.
#pragma once

#include <deque>
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
  static constexpr const char* kRecalibrated = "recalibrated";  // the type of the record that recalibrated() writes

  // title: of the curves. Goes on after the records of an earlier process up to step `finished_steps`, and drops later
  // ones; 0: a fresh start. evaluated: whether the evaluation at that step is done; else it will come again.
  RunLog(const RunFolder& folder, std::string title, const LogSection& options, int64_t finished_steps, bool evaluated,
         std::function<void(const std::string&)> warn);

  // Records of the earlier process that were dropped.
  int64_t dropped_records() const { return dropped_records_; }
  // The best of its "recalibrated" records that were kept; a top1 of -1 where there is none.
  const TrainingState::Best& best_recalibrated() const { return best_recalibrated_; }

  void train(const TrainRecord& record);
  void evaluation(const EvaluationRecord& record);  // draws the curves anew, too
  // Of the networks whose batch norm has statistics of so many training images.
  void recalibrated(const EvaluationRecord& record, int64_t training_images);
  // What the run began with: samples.png.
  void first_batch(const Batch& batch, const std::vector<std::string>& classes);
  // The network between steps: filters.png and histograms. gradient_scale: what its gradients are multiplied by; none
  // where it has no gradients yet. bgr: as in run_images.h. Waits for the device.
  void network(int64_t step, Backend& backend, ShuffleNetV2& network, std::optional<double> gradient_scale, bool bgr);
  // For the end of a run: tries once more to write what could not be written, and says what is missing then.
  void finish();

 private:
  // What an earlier process recorded.
  struct Earlier {
    int64_t step = 0;                 // its last one that counts
    bool evaluation_repeats = false;  // of that step, which it recorded already
    int64_t dropped = 0;              // records
  };
  static Earlier keep_records(const std::string& path, int64_t step, bool evaluated);
  RunLog(const RunFolder& folder, std::string title, const LogSection& options, const Earlier& earlier,
         std::function<void(const std::string&)> warn);

  void note_recalibrated(const nlohmann::json& record);
  void append(const nlohmann::json& record);
  void write_records();
  void try_to(const std::function<void()>& write);
  void add_scalars(const nlohmann::json& record);
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
  std::deque<nlohmann::json> unwritten_, unwritten_rows_;  // what metrics.jsonl and .csv lack, in order
  int64_t dropped_records_;
  TrainingState::Best best_recalibrated_;
  Curve train_loss_{"train", "train", {}}, val_loss_{"validation", "val", {}}, ema_loss_{"validation, EMA", "ema", {}};
  Curve train_top1_{"train", "train", {}}, val_top1_{"validation", "val", {}}, ema_top1_{"validation, EMA", "ema", {}};
};

}  // namespace riffle
