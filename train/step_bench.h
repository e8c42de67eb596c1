// Whole steps of training or inference on synthetic images, timed: as a whole or layer by layer.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/backend.h"
#include "train/layer_times.h"

namespace riffle {

struct StepBenchOptions {
  std::string width = "1.0x", dialect = "torchvision", mode = "train";  // or "infer"
  int64_t batch = 32, size = 224, steps = 10, repeats = 5;
  bool scale_loss = false;  // see TrainStepOptions
  bool graphs = true;       // of a training step, where the backend can capture it; never with `layers`
  bool layers = false;      // times of layers, too
};

struct StepBenchResult {
  double images_per_s = 0, slowest = 0, fastest = 0;  // the median of the repeats, and two of them
  std::string execution;                              // TrainStep::execution()
  bool gave_up_graph = false;

  double step_ms = 0;  // the median
  std::vector<LayerTime> layers;
  double covered = 0;  // which part of a repeat's time lies in its ranges; the median
};

// The device is waited for once a repeat: a training step's metrics are read after the last step of each (and within a
// long one so often that there is memory for them).
StepBenchResult bench_steps(Backend& backend, const StepBenchOptions& options);

}  // namespace riffle
