// Classes and probabilities of single images, and raw logits of arrays.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/cpu/parallel.h"
#include "data/dataset.h"
#include "train/loaded_model.h"
#include "train/network_input.h"

namespace riffle {

struct Prediction {
  int64_t index = 0;
  double probability = 0;
};

// The `count` most probable classes, the lower index first where logits are equal. Softmax in double.
std::vector<Prediction> most_probable(const float* logits, int64_t classes, int64_t count);

// One image to predict: a file, or an image of a data set.
struct PredictionInput {
  std::string path;                  // or the data set's name of it
  const Dataset* dataset = nullptr;  // null: a file
  int64_t index = 0;                 // in the data set
};

struct PredictionOutput {
  std::string error;  // what was wrong with the image; empty if nothing was
  std::vector<Prediction> classes;
};

class Predictor {
 public:
  static constexpr int64_t kBatch = 32;

  // The model must outlive the predictor. threads: for decoding.
  Predictor(Backend& backend, const LoadedModel& model, int64_t top_k, int threads);

  // Decodes, preprocesses as the checkpoint demands, and predicts. At most kBatch inputs. An image that cannot be read
  // gets an error of its own; logits that are not finite throw, for then the network is broken.
  std::vector<PredictionOutput> predict(const std::vector<PredictionInput>& inputs);

 private:
  Backend& backend_;
  const LoadedModel& model_;
  int64_t top_k_;
  Parallel decoders_;
  NetworkInput input_;
};

// logits of images, u8 (count,H,W,C) packed, of any size the network takes: (count, classes), row by row.
std::vector<float> compute_logits(Backend& backend, ShuffleNetV2& network, NetworkInput& input, const uint8_t* images,
                                  int64_t count);

}  // namespace riffle
