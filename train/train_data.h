// The training and validation data of a configuration, opened and checked against each other.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "data/loader.h"
#include "train/config.h"
#include "train/label_map.h"

namespace riffle {

struct TrainData {
  std::unique_ptr<Dataset> train, val;
  std::vector<std::string> classes;   // of the network, index -> name
  LabelMap val_labels;                // validation label -> class of the network
  std::vector<std::string> warnings;  // for people
};

// How a configuration opens its data. Data sets that are opened with the same options share the memory for encoded images.
DatasetOptions dataset_options(const DataSection& section);

// Throws if there is no data, it cannot be read, or the validation data has classes that the training data lacks.
TrainData open_train_data(const Config& config);

// How the images of a training run are loaded: what the network sees.
LoaderOptions train_loader_options(const Config& config, int threads);

}  // namespace riffle
