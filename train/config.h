// Config: everything a run depends on, as plain structs with defaults. Read from YAML by train/config_reader.h, which
// rejects unknown, duplicate and ill-typed keys; docs/configuration.md documents every field.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/augment.h"
#include "data/transform.h"
#include "layers/shufflenet_v2.h"

namespace riffle {

// "240ep" or "300000it"; a plain number means epochs.
struct Duration {
  double value = 0;
  enum class Unit { kEpochs, kSteps } unit = Unit::kEpochs;

  int64_t steps(int64_t steps_per_epoch) const;  // rounded to the nearest step
  std::string text() const;                      // "240ep"
};

// A rule for the parameters whose full names match.
struct LrMultiplier {
  std::string pattern;    // "fc.*": a glob, as in a shell
  double multiplier = 1;  // of the schedule's learning rate
};

// From a time on, training images have another size.
struct ImageSizeChange {
  Duration from;  // whole epochs
  int size = 0;
};

struct ModelSection {
  std::string width = "1.0x";  // a published width, or "custom" with stage_channels given
  std::string dialect = "torchvision";
  std::vector<int64_t> stage_channels;  // empty: the width's
  std::vector<int64_t> stage_repeats;   // empty: 4, 8, 4
  int64_t stem_channels = 24;
  int64_t head_channels = 0;  // 0: the width's
  int64_t stem_stride = 2;
  bool stem_max_pool = true;
  int64_t input_channels = 3;
  int64_t classes = 0;  // 0: as many as the data has
  double dropout = -1;  // -1: the dialect's (0.2 for megvii 2.0x, else 0)
};

struct DataSection {
  std::string source;  // "folder:DIR", "tar:PATH", DIR, ...; see open_dataset()
  std::string train_split = "train", val_split = "val";
  std::vector<std::string> class_names;  // empty: the data's own
  int loader_threads = 0;                // 0: half the CPU threads
  int prefetch = 4;
  std::string shuffle = "full";      // or "shards"
  int shuffle_window = 16;           // shards that are read at a time
  int repeats = 1;                   // of a sample, in a row
  std::string decode = "exact";      // of training images; or "quick"
  int64_t max_bad_images = 100;      // an epoch, in training
  std::string truncated = "error";   // or "accept"; of training and validation images
  bool exif_orientation = false;     // apply it
  std::string val_labels;            // a file; empty: one beside the images, where they lie without class folders
  std::string index_cache = "auto";  // a folder; auto: the user's cache folder; empty: none
  std::string cache_bytes = "0";     // "8GiB"
};

struct NormalisationSection {
  double scale = 1.0 / 255;
  std::vector<double> mean{0.485, 0.456, 0.406}, std{0.229, 0.224, 0.225};
  std::string channel_order = "rgb";  // or "bgr"
};

struct AugmentSection {                // of training images
  int size = 224;                      // at first
  std::vector<ImageSizeChange> sizes;  // later ones
  std::vector<TransformStep> transforms{RandomResizedCrop{}, Flip{}};
  double mixup = 0, cutmix = 0;  // alpha; 0: off. Of both, each batch takes one at random
};

struct EvalSection {
  int resize = 256;  // short edge; 0: no resizing
  int crop = 224;
  std::string interpolation = "pillow-bilinear";  // see data/transform.h
  std::string rounding = "truncate";
  std::string crop_offset = "half-to-even";
  int64_t batch = 0;           // 0: the training batch
  int every_epochs = 1;        // evaluate every N epochs, and after the last
  int64_t max_bad_images = 0;  // in an evaluation; they count as wrong
};

struct OptimizerSection {  // SGD
  double momentum = 0.9;
  bool nesterov = false;
  double weight_decay = 4e-5;                // on filters and matrices; never on BN and biases
  double clip_norm = 0;                      // 0: no clipping of the global gradient norm
  int accumulate = 1;                        // batches a step
  std::vector<LrMultiplier> lr_multipliers;  // the first that matches; no match: 1
};

struct ScheduleSection {
  std::string kind = "cosine";  // linear, cosine, step, polynomial, constant
  double lr = 0.5;              // peak, for steps of reference_batch images
  double final_lr = 0;
  Duration warmup;  // linear, from lr * warmup_factor
  double warmup_factor = 0.0;
  std::vector<Duration> milestones;  // step: multiply by gamma at each
  double gamma = 0.1;
  double power = 1.0;                 // polynomial
  int64_t reference_batch = 0;        // 0: the batch in use, whatever it is
  std::string batch_rule = "linear";  // linear, sqrt, none: how rates follow the batch; see scaled_schedule()
};

struct EmaSection {
  double decay = 0;    // 0: off
  bool warmup = true;  // a smaller decay at first
  int64_t every = 1;   // steps between two updates
};

struct InitSection {
  std::string checkpoint;   // weights to begin with; "": random ones
  std::string weights;      // "raw", "ema" or "": see read_network()
  bool reset_head = false;  // the classifier begins anew
};

struct FinetuneSection {
  std::vector<std::string> freeze;  // parts of ShuffleNetV2::parts(), from the stem on
  Duration head_only;               // at first, only the classifier trains
};

struct TrainSection {
  Duration duration{240, Duration::Unit::kEpochs};
  int64_t batch = 256;  // images a forward pass, in all
  double label_smoothing = 0;
  uint64_t seed = 1;
  int log_every_steps = 50;
  std::string precision = "fp32";  // see precisions() in make_backend.h
  bool deterministic = false;      // on CUDA; the CPU always is
  bool cuda_graphs = true;
  std::string nonfinite = "stop";  // or "skip": what happens to a step with NaN or Inf in its gradients
  int64_t max_skipped_steps = 10;  // of a run
  int64_t overfit_batches = 0;     // only these, over and over; 0: all
  int64_t limit_steps = 0;         // stop after so many, with the schedule of the whole run; 0: never
};

struct EarlyStoppingSection {
  int64_t patience = 0;  // evaluations without a better top-1; 0: off
  double min_delta = 0;  // percentage points that count as better
};

struct LogSection {  // of a run folder; see docs/logs.md
  bool tensorboard = true;
  std::string histograms = "evaluations";  // in TensorBoard; or "none"
};

struct RecalibrateSection {
  Duration duration;  // of the last phase of a run; see recalibration.h
};

struct CheckpointSection {
  Duration every{1, Duration::Unit::kEpochs};       // 0: at the end only
  int64_t keep = 2;                                 // of the newest
  Duration keep_every{0, Duration::Unit::kEpochs};  // and those of every such time; 0: no others
};

struct Config {
  ModelSection model;
  DataSection data;
  NormalisationSection normalisation;
  AugmentSection augment;
  EvalSection eval;
  OptimizerSection optimizer;
  ScheduleSection schedule;
  EmaSection ema;
  InitSection init;
  FinetuneSection finetune;
  TrainSection train;
  EarlyStoppingSection early_stopping;
  LogSection log;
  RecalibrateSection recalibrate;
  CheckpointSection checkpoint;

  ShuffleNetV2Config network(int64_t data_classes) const;  // the model section resolved; 0: no data at hand
  int64_t images_per_step() const { return train.batch * optimizer.accumulate; }
  int64_t frozen_parts() const;  // of ShuffleNetV2::parts()
  Normalisation network_input() const;
  TrainTransform train_transform() const;
  EvalTransform eval_transform() const;
};

}  // namespace riffle
