// What workers of the loader do: an epoch's plan and its samples, written in place. Pure functions of the options, the
// epoch and the position; nothing here knows of threads, but that a run may be cancelled.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/loader.h"
#include "data/training_image.h"

namespace riffle {

struct BadSample {
  int64_t position;  // in the batch
  int64_t index;     // in the dataset
  std::string reason;
};

struct SampleError {
  int64_t position;
  std::exception_ptr error;
};

struct TruncatedSample {
  int64_t position, index;
};

// What became of some samples of a batch.
struct RunReport {
  std::vector<BadSample> bad;
  std::vector<TruncatedSample> truncated;  // accepted ones
  std::vector<SampleError> errors;

  void add(RunReport&& other);
};

// What the batches of an epoch depend on.
struct EpochPlan {
  int64_t epoch;
  int64_t edge;                // height and width of a sample
  std::vector<int64_t> order;  // of all processes; empty in evaluation
  TrainTransform transform;
};

// Samples begin .. end - 1 of a batch of the process; where they go is where the batch's begin.
struct SampleRun {
  int64_t batch, begin, end;
  uint8_t* images;
  int32_t* labels;
  int64_t* indices;
};

class SampleWriter {
 public:
  SampleWriter(const Dataset& dataset, const LoaderOptions& options);

  int64_t edge_at(int64_t epoch) const;  // height and width of an image
  int64_t largest_edge() const;
  std::shared_ptr<const EpochPlan> plan(int64_t epoch) const;
  void write(const EpochPlan& plan, const SampleRun& run, const std::atomic<bool>& cancelled, RunReport& report) const;

 private:
  // Of the epoch's order, from its start; in training a place stands for `repeats` positions.
  int64_t place_of(int64_t position) const { return options_.training ? position / options_.repeats : position; }
  void write_sample(const EpochPlan& plan, const SampleRun& run, int64_t position, const std::atomic<bool>& cancelled,
                    RunReport& report) const;
  // `index` becomes the index of the image that was loaded. See Loader::next().
  Image training_image(const EpochPlan& plan, int64_t start, int64_t position, int64_t& index,
                       const std::atomic<bool>& cancelled, RunReport& report) const;
  TrainingImage load_replacement_if_bad(const EpochPlan& plan, int64_t start, int64_t position, int64_t& index,
                                        const std::atomic<bool>& cancelled, RunReport& report) const;
  TrainingImage load(const EpochPlan& plan, int64_t index, int64_t repeat) const;
  // No image where it is unreadable: it is left out.
  std::optional<Image> evaluation_image(int64_t index, int64_t position, RunReport& report) const;

  const Dataset& dataset_;
  const LoaderOptions& options_;
  std::vector<std::vector<int64_t>> shards_;  // with Shuffle::kShards
};

}  // namespace riffle
