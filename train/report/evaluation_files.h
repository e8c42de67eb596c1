// The folder that `riffle eval --report DIR` writes: tables (CSV), the confusion matrix, calibration, the worst mistakes
// with their images, and evaluation.json, which holds what `riffle report` shows. docs/reports.md describes every file.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "data/dataset.h"
#include "data/transform.h"
#include "train/report/image_records.h"

namespace riffle {

// Creates the folder. One that holds anything is an error, unless `replace`: then the files of an earlier report are
// removed, and nothing else is.
void prepare_evaluation_folder(const std::string& folder, bool replace);

// What was evaluated.
struct EvaluatedData {
  const Dataset& dataset;
  const EvalTransform& preprocessing;       // thumbnails show what the network saw
  const std::vector<std::string>& classes;  // of the network
  nlohmann::json summary;                   // of the whole evaluation; written into evaluation.json
};

// Into a prepared folder; every file is written atomically, evaluation.json the last.
void write_evaluation(const std::string& folder, const EvaluatedData& data, const std::vector<ImageRecord>& records);

}  // namespace riffle
