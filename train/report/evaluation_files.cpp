// What `riffle eval --report` writes.
#include "train/report/evaluation_files.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <system_error>

#include "core/check.h"
#include "data/encode.h"
#include "train/checkpoint/file_io.h"
#include "train/report/calibration.h"
#include "train/report/class_statistics.h"
#include "train/report/confusion_image.h"
#include "train/report/csv.h"
#include "train/run_folder.h"

namespace riffle {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr size_t kMistakesShown = 40;
constexpr size_t kPairsShown = 200;  // in evaluation.json; confused_pairs.csv has all
constexpr int kThumbnailEdge = 160, kThumbnailQuality = 85;
constexpr int kSmallestJpeg = 64;  // smaller images are stored losslessly

const char* const kMistakesFolder = "mistakes";

const std::string& name_of_class(const EvaluatedData& data, int64_t index) {
  return data.classes.at(static_cast<size_t>(index));
}

json number_or_null(double value) {
  return std::isfinite(value) ? json(value) : json(nullptr);
}

std::string per_class_csv(const EvaluatedData& data, const ClassStatistics& statistics) {
  CsvWriter csv;
  for (const char* column : {"class", "name", "images", "top1_correct", "top1_accuracy", "top5_correct",
                             "top5_accuracy", "predicted", "precision", "recall", "f1", "not_predicted"})
    csv.field(column);
  csv.end_line();
  for (size_t k = 0; k < statistics.classes().size(); ++k) {
    const ClassCounts& counts = statistics.classes()[k];
    csv.field(static_cast<int64_t>(k)).field(data.classes.at(k)).field(counts.images);
    csv.field(counts.top1_correct).fraction(counts.top1()).field(counts.top5_correct).fraction(counts.top5());
    csv.field(counts.predicted).fraction(counts.precision()).fraction(counts.top1()).fraction(counts.f1());
    csv.field(counts.not_predicted).end_line();
  }
  return csv.text();
}

// The first column and the first line are class names; the last column counts images without a prediction.
std::string confusion_csv(const EvaluatedData& data, const ClassStatistics& statistics) {
  CsvWriter csv;
  csv.field("true\\predicted");
  for (const std::string& name : data.classes) csv.field(name);
  csv.field("(none)").end_line();
  const auto classes = static_cast<int64_t>(data.classes.size());
  for (int64_t label = 0; label < classes; ++label) {
    csv.field(name_of_class(data, label));
    for (int64_t predicted = 0; predicted < classes; ++predicted) csv.field(statistics.count(label, predicted));
    csv.field(statistics.classes()[static_cast<size_t>(label)].not_predicted).end_line();
  }
  return csv.text();
}

std::string confused_pairs_csv(const EvaluatedData& data, const ClassStatistics& statistics) {
  CsvWriter csv;
  for (const char* column : {"class", "name", "predicted_class", "predicted_name", "images", "share_of_class"})
    csv.field(column);
  csv.end_line();
  for (const ConfusedPair& pair : statistics.confused_pairs()) {
    const int64_t images = statistics.classes()[static_cast<size_t>(pair.label)].images;
    csv.field(pair.label).field(name_of_class(data, pair.label));
    csv.field(pair.predicted).field(name_of_class(data, pair.predicted)).field(pair.count);
    csv.fraction(static_cast<double>(pair.count) / static_cast<double>(images)).end_line();
  }
  return csv.text();
}

std::string predictions_csv(const EvaluatedData& data, const std::vector<ImageRecord>& records) {
  CsvWriter csv;
  for (const char* column : {"index", "image", "class", "name", "top1_correct", "top5_correct", "loss"})
    csv.field(column);
  for (int64_t place = 1; place <= ImageRecord::kTop; ++place) {
    for (const char* column : {"class_", "name_", "probability_"}) csv.field(column + std::to_string(place));
  }
  csv.end_line();
  for (size_t i = 0; i < records.size(); ++i) {
    const ImageRecord& record = records[i];
    const auto index = static_cast<int64_t>(i);
    csv.field(index).field(data.dataset.name(index)).field(record.label).field(name_of_class(data, record.label));
    csv.field(record.top1_correct ? "1" : "0").field(record.top5_correct ? "1" : "0").number(record.loss);
    for (size_t place = 0; place < static_cast<size_t>(ImageRecord::kTop); ++place) {
      if (place >= record.top.size()) {
        csv.field("").field("").field("");
        continue;
      }
      const Prediction& prediction = record.top[place];
      csv.field(prediction.index).field(name_of_class(data, prediction.index)).fraction(prediction.probability);
    }
    csv.end_line();
  }
  return csv.text();
}

json calibration_json(const Calibration& calibration) {
  json bins = json::array();
  for (const CalibrationBin& bin : calibration.bins) {
    const bool empty = bin.images == 0;
    bins.push_back({{"low", bin.low},
                    {"high", bin.high},
                    {"images", bin.images},
                    {"correct", bin.correct},
                    {"accuracy", empty ? json(nullptr) : json(bin.accuracy())},
                    {"confidence", empty ? json(nullptr) : json(bin.confidence())}});
  }
  return {{"ece", calibration.ece},
          {"nll", number_or_null(calibration.nll)},
          {"images", calibration.images},
          {"bins", bins}};
}

// Wrong images, those without a finite loss first, then by falling loss; of equal ones the first of the data set.
std::vector<size_t> worst_mistakes(const std::vector<ImageRecord>& records) {
  std::vector<size_t> wrong;
  for (size_t i = 0; i < records.size(); ++i) {
    if (!records[i].top1_correct) wrong.push_back(i);
  }
  const auto badness = [&](size_t i) { return std::isfinite(records[i].loss) ? records[i].loss : INFINITY; };
  const size_t shown = std::min(kMistakesShown, wrong.size());
  std::partial_sort(wrong.begin(), wrong.begin() + static_cast<std::ptrdiff_t>(shown), wrong.end(),
                    [&](size_t a, size_t b) { return badness(a) != badness(b) ? badness(a) > badness(b) : a < b; });
  wrong.resize(shown);
  return wrong;
}

void write_file(const std::string& path, const std::vector<uint8_t>& bytes) {
  AtomicFile file(path);
  file.write(bytes.data(), bytes.size());
  file.commit();
}

// "mistakes/07.png"; places count from 1.
std::string thumbnail_name(size_t place, const std::string& suffix) {
  return join(kMistakesFolder, "/", place < 10 ? "0" : "", place, suffix);
}

// What the network saw of an image, made smaller where it is large. Returns the file's name.
std::string write_thumbnail(const std::string& folder, const EvaluatedData& data, size_t index, size_t place) {
  Image image = data.preprocessing.apply(data.dataset.load(static_cast<int64_t>(index)));
  if (std::min(image.height, image.width) > kThumbnailEdge) image = resize_short_edge(image, kThumbnailEdge);
  const bool small = std::min(image.height, image.width) < kSmallestJpeg;
  const std::string name = thumbnail_name(place + 1, small ? ".png" : ".jpg");
  write_file(folder + "/" + name, small ? encode_png(image) : encode_jpeg(image, kThumbnailQuality));
  return name;
}

json write_mistakes(const std::string& folder, const EvaluatedData& data, const std::vector<ImageRecord>& records) {
  json mistakes = json::array();
  const std::vector<size_t> worst = worst_mistakes(records);
  for (size_t place = 0; place < worst.size(); ++place) {
    const ImageRecord& record = records[worst[place]];
    json top = json::array();
    for (const Prediction& prediction : record.top) top.push_back({prediction.index, prediction.probability});
    mistakes.push_back({{"file", write_thumbnail(folder, data, worst[place], place)},
                        {"index", worst[place]},
                        {"image", data.dataset.name(static_cast<int64_t>(worst[place]))},
                        {"class", record.label},
                        {"loss", number_or_null(record.loss)},
                        {"top", top}});
  }
  return mistakes;
}

json classes_json(const EvaluatedData& data, const ClassStatistics& statistics) {
  json classes = json::array();
  for (size_t k = 0; k < statistics.classes().size(); ++k) {
    const ClassCounts& counts = statistics.classes()[k];
    classes.push_back({{"name", data.classes.at(k)},
                       {"images", counts.images},
                       {"top1_correct", counts.top1_correct},
                       {"top5_correct", counts.top5_correct},
                       {"predicted", counts.predicted},
                       {"not_predicted", counts.not_predicted}});
  }
  return classes;
}

json pairs_json(const ClassStatistics& statistics) {
  json pairs = json::array();
  for (const ConfusedPair& pair : statistics.confused_pairs()) {
    if (pairs.size() == kPairsShown) break;
    pairs.push_back({pair.label, pair.predicted, pair.count});
  }
  return pairs;
}

json cells_json(const ClassStatistics& statistics) {
  json cells = json::array();
  for (const auto& [cell, count] : statistics.cells()) cells.push_back({cell.first, cell.second, count});
  return cells;
}

// Names of files need not be UTF-8, which JSON is.
std::string dump(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
}

const std::vector<std::string>& file_names() {
  static const std::vector<std::string> names{"evaluation.json", "per_class.csv",      "confusion.csv",
                                              "confusion.png",   "confused_pairs.csv", "predictions.csv",
                                              "calibration.json"};
  return names;
}

void remove_earlier_report(const std::string& folder) {
  std::error_code error;
  for (const std::string& name : file_names()) {
    fs::remove(fs::path(folder) / name, error);
    if (error) fail("cannot remove ", folder, "/", name, ": ", error.message());
  }
  for (size_t place = 1; place <= kMistakesShown; ++place) {
    for (const char* suffix : {".png", ".jpg"}) fs::remove(fs::path(folder) / thumbnail_name(place, suffix), error);
  }
}

}  // namespace

void prepare_evaluation_folder(const std::string& folder, bool replace) {
  std::error_code error;
  if (fs::exists(folder, error) && !fs::is_directory(folder, error)) {
    fail("cannot write a report into ", folder, ": it is not a folder; name another with --report");
  }
  if (fs::is_directory(folder, error) && !fs::is_empty(folder, error)) {
    if (!replace) {
      fail("the folder ", folder,
           " is not empty; name another with --report, or replace the report in it with --force");
    }
    remove_earlier_report(folder);
  }
  fs::create_directories(folder + "/" + kMistakesFolder, error);
  if (error) fail("cannot create ", folder, "/", kMistakesFolder, ": ", error.message());
  check_text_file(folder + "/evaluation.json");
}

void write_evaluation(const std::string& folder, const EvaluatedData& data, const std::vector<ImageRecord>& records) {
  const auto classes = static_cast<int64_t>(data.classes.size());
  const ClassStatistics statistics(records, classes);
  const json calibration = calibration_json(calibrate(records));
  write_text_file(folder + "/per_class.csv", per_class_csv(data, statistics));
  write_text_file(folder + "/confusion.csv", confusion_csv(data, statistics));
  write_file(folder + "/confusion.png", encode_png(confusion_image(statistics)));
  write_text_file(folder + "/confused_pairs.csv", confused_pairs_csv(data, statistics));
  write_text_file(folder + "/predictions.csv", predictions_csv(data, records));
  write_text_file(folder + "/calibration.json", dump(calibration));
  json evaluation{{"format", "riffle-evaluation-1"}, {"summary", data.summary}};
  evaluation["classes"] = classes_json(data, statistics);
  evaluation["confused_pairs"] = pairs_json(statistics);
  evaluation["cells"] = cells_json(statistics);
  evaluation["calibration"] = calibration;
  evaluation["mistakes"] = write_mistakes(folder, data, records);
  write_text_file(folder + "/evaluation.json", dump(evaluation));
}

}  // namespace riffle
