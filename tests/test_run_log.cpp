// What a run leaves to look at: records in every form, pictures, and the environment.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <set>
#include <sstream>

#include "checkpoint_files.h"
#include "core/cpu/cpu_backend.h"
#include "event_files.h"
#include "file_size_limit.h"
#include "small_network.h"
#include "train/environment.h"
#include "train/metrics_csv.h"
#include "train/run_images.h"
#include "train/run_log.h"
#include "train/tensorboard/network_histograms.h"
#include "train/version.h"

namespace riffle {
namespace {

using Json = nlohmann::json;

std::vector<std::string> lines_of(const std::string& path) {
  std::istringstream text(file_bytes(path));
  std::vector<std::string> lines;
  for (std::string line; std::getline(text, line);) lines.push_back(line);
  return lines;
}

std::vector<std::string> cells_of(const std::string& line) {
  std::istringstream text(line + ",");  // else an empty last cell would not count
  std::vector<std::string> cells;
  for (std::string cell; std::getline(text, cell, ',');) cells.push_back(cell);
  return cells;
}

TrainRecord train_record(int64_t step) {
  TrainRecord record;
  record.step = step;
  record.loss = 0.5;
  record.top1 = 0.25;
  record.grad_norm = 3;
  record.process_peak_bytes = 4096;
  return record;
}

EvaluationRecord evaluation_record(int64_t step) {
  EvaluationRecord record;
  record.step = step;
  record.raw.sums.images = 8;
  record.raw.sums.top1_correct = 2;
  record.raw.sums.loss_sum = 16;
  record.raw.seconds = 2;
  record.best_top1 = 0.25;
  return record;
}

// The value of `column` in a line of the table.
std::string cell(const std::string& line, const std::string& column) {
  const std::vector<std::string>& columns = MetricsCsv::columns();
  const auto at = std::find(columns.begin(), columns.end(), column) - columns.begin();
  return cells_of(line).at(static_cast<size_t>(at));
}

class ARunLog : public testing::Test {
 protected:
  RunLog make_log(int64_t finished_steps, bool evaluated = true) {
    return {*folder_,       "title",   options_,
            finished_steps, evaluated, [this](const std::string& text) { warnings_.push_back(text); }};
  }
  // Each line's type and step, of both files, which must say the same.
  std::vector<std::string> recorded() const {
    std::vector<std::string> in_json, in_csv;
    for (const std::string& line : lines_of(folder_->metrics())) {
      const Json record = Json::parse(line);
      in_json.push_back(join(record.at("type").get<std::string>(), " ", record.at("step")));
    }
    for (const std::string& line : lines_of(folder_->metrics_csv())) {
      EXPECT_EQ(cells_of(line).size(), MetricsCsv::columns().size()) << line;
      if (line.rfind("type,", 0) != 0) in_csv.push_back(cell(line, "type") + " " + cell(line, "step"));
    }
    EXPECT_EQ(in_csv, in_json);
    return in_json;
  }

  TemporaryFolder temporary_;
  std::unique_ptr<RunFolder> folder_ = std::make_unique<RunFolder>(temporary_.file("run"), /*overwrite=*/false);
  LogSection options_;
  std::vector<std::string> warnings_;
};

TEST_F(ARunLog, SaysTheSameInJsonCsvAndTensorBoard) {
  RunLog log = make_log(0);
  log.train(train_record(4));
  EvaluationRecord evaluation = evaluation_record(4);
  evaluation.ema = evaluation.raw;
  log.evaluation(evaluation);
  log.recalibrated(evaluation, 64);

  const std::vector<std::string> json = lines_of(folder_->metrics()), csv = lines_of(folder_->metrics_csv());
  ASSERT_EQ(json.size(), 3u);
  ASSERT_EQ(csv.size(), 4u);
  EXPECT_EQ(cells_of(csv[0]), MetricsCsv::columns());
  for (size_t i = 0; i < json.size(); ++i) {
    const Json record = Json::parse(json[i]);
    EXPECT_EQ(cells_of(csv[i + 1]).size(), MetricsCsv::columns().size());
    for (const auto& [key, value] : record.items())
      EXPECT_EQ(cell(csv[i + 1], key), value.is_string() ? value.get<std::string>() : value.dump()) << key;
  }
  EXPECT_EQ(cell(csv[1], "ema_top1"), "");
  EXPECT_EQ(cell(csv[1], "grad_norm"), "3.0");
  EXPECT_EQ(cell(csv[1], "loss_scale"), "");
  EXPECT_EQ(cell(csv[3], "recalibration_images"), "64");

  const std::vector<ReadEvent> events = read_events(file_bytes(event_files(folder_->path()).at(0)));
  ASSERT_EQ(events.size(), 5u);
  EXPECT_EQ(events[2].step, 4);
  EXPECT_EQ(events[2].scalars.at("train/loss"), 0.5f);
  EXPECT_EQ(events[2].scalars.at("train/grad_norm"), 3);
  EXPECT_EQ(events[2].scalars.at("memory/process_peak_bytes"), 4096);
  EXPECT_EQ(events[2].scalars.count("train/loss_scale"), 0u);
  EXPECT_EQ(events[3].scalars.at("val/loss"), 2);
  EXPECT_EQ(events[3].scalars.at("ema/top1"), 0.25f);
  EXPECT_EQ(events[3].scalars.at("val/images_per_s"), 4);
  EXPECT_EQ(events[3].scalars.size(), 9u);
  EXPECT_EQ(events[4].scalars.at("recalibrated/loss"), 2);
  EXPECT_EQ(events[4].scalars.at("recalibrated_ema/top1"), 0.25f);
  EXPECT_EQ(events[4].scalars.at("recalibrated/best_top1"), 0.25f);
  EXPECT_EQ(events[4].scalars.size(), 9u);
}

TEST(MetricsCsvColumns, AreDocumentedInTheirOrder) {
  std::string names;
  for (const std::string& column : MetricsCsv::columns()) names += (names.empty() ? "`" : ", `") + column + "`";
  std::string document = file_bytes(RIFFLE_SOURCE_DIR "/docs/logs.md");
  std::replace(document.begin(), document.end(), '\n', ' ');
  EXPECT_NE(document.find("in this order, " + names + ". "), std::string::npos) << names;
}

TEST_F(ARunLog, ResumedAppendsUnderOneHeaderAndBeginsAnotherEventFile) {
  make_log(0).train(train_record(4));
  std::ofstream(folder_->metrics(), std::ios::app) << "{\"type\":\"tra";  // as a killed run may leave it
  make_log(4).train(train_record(8));
  const std::vector<std::string> csv = lines_of(folder_->metrics_csv());
  ASSERT_EQ(csv.size(), 3u);
  EXPECT_EQ(cells_of(csv[0]), MetricsCsv::columns());
  EXPECT_EQ(cell(csv[1], "step"), "4");
  EXPECT_EQ(cell(csv[2], "step"), "8");
  const std::vector<std::string> files = event_files(folder_->path());
  ASSERT_EQ(files.size(), 2u);
  EXPECT_EQ(read_events(file_bytes(files[0])).at(1).step, 0);
  EXPECT_EQ(read_events(file_bytes(files[1])).at(1).step, 5);  // step 4 was recorded before and stays
}

// Killed between an evaluation and the checkpoint that knows of it: in the end both files and TensorBoard have it once.
TEST_F(ARunLog, AnEvaluationThatComesAgainIsThereOnce) {
  const auto backend = make_cpu_backend(1);
  ShuffleNetV2 network(*backend, small_network(Dialect::kTorchvision), 1);
  {
    RunLog log = make_log(0);
    for (const int64_t step : {2, 4}) log.train(train_record(step));
    log.evaluation(evaluation_record(4));
    log.network(4, *backend, network, 1, false);
  }
  RunLog log = make_log(4, /*evaluated=*/false);
  EXPECT_EQ(log.dropped_records(), 1);
  log.evaluation(evaluation_record(4));
  log.network(4, *backend, network, std::nullopt, false);
  log.train(train_record(6));
  EXPECT_EQ(recorded(), (std::vector<std::string>{"train 2", "train 4", "val 4", "train 6"}));

  // As TensorBoard reads it: a start forgets its step and later ones.
  std::multiset<std::pair<int64_t, std::string>> shown;
  for (const std::string& file : event_files(folder_->path())) {
    for (const ReadEvent& event : read_events(file_bytes(file))) {
      if (event.session_status == 1) shown.erase(shown.lower_bound({event.step, ""}), shown.end());
      for (const auto& [tag, value] : event.scalars) shown.insert({event.step, tag});
      for (const auto& [tag, value] : event.histograms) shown.insert({event.step, tag});
      for (const auto& [tag, value] : event.images) shown.insert({event.step, tag});
    }
  }
  for (const char* tag : {"train/loss", "memory/process_peak_bytes", "val/loss", "weights/fc.weight"})
    EXPECT_EQ(shown.count({4, tag}), 1u) << tag;
  EXPECT_EQ(shown.count({4, "weights/first_layer"}), 1u);
  EXPECT_EQ(shown.count({2, "train/loss"}), 1u);
  EXPECT_EQ(shown.count({6, "train/loss"}), 1u);
}

// An end that was not the last one may have written best weights of which no checkpoint's state knows.
TEST_F(ARunLog, ResumedKnowsTheBestOfRecalibratedNetworks) {
  const auto best_after = [&](int64_t step) {
    RunLog log = make_log(step);
    return log.best_recalibrated();
  };
  make_log(0).train(train_record(4));
  EXPECT_EQ(best_after(8).top1, -1);
  folder_->append_metrics({{"type", "recalibrated"}, {"step", 4}, {"top1", 0.25}, {"ema_top1", 0.5}});
  folder_->append_metrics({{"type", "recalibrated"}, {"step", 8}, {"top1", 0.75}, {"ema_top1", 0.5}});
  EXPECT_EQ(best_after(8).top1, 0.75);
  EXPECT_EQ(best_after(8).description, "recalibrated weights");
  EXPECT_EQ(best_after(4).top1, 0.5);  // what came after step 4 is dropped
  EXPECT_EQ(best_after(4).description, "recalibrated EMA weights");
}

TEST_F(ARunLog, TensorBoardCanBeOff) {
  options_.tensorboard = false;
  const auto backend = make_cpu_backend(1);
  ShuffleNetV2 network(*backend, small_network(Dialect::kTorchvision), 1);
  RunLog log = make_log(0);
  log.train(train_record(1));
  log.network(1, *backend, network, 1, false);
  EXPECT_TRUE(event_files(folder_->path()).empty());
  EXPECT_TRUE(std::filesystem::exists(folder_->file("filters.png")));
}

TEST_F(ARunLog, WhatCannotBeWrittenIsOneWarning) {
  RunLog log = make_log(0);
  std::filesystem::create_directories(folder_->file("curves.svg"));
  for (int64_t step : {1, 2}) log.evaluation(evaluation_record(step));
  ASSERT_EQ(warnings_.size(), 1u);
  EXPECT_NE(warnings_[0].find("curves.svg"), std::string::npos) << warnings_[0];
  EXPECT_EQ(lines_of(folder_->metrics()).size(), 2u);
  EXPECT_EQ(lines_of(folder_->metrics_csv()).size(), 3u);
}

// Wherever in a record the disk is full, the file ends with the one before; what is missing comes later, in order.
TEST_F(ARunLog, KeepsRecordsUntilTheyCanBeWritten) {
  RunLog log = make_log(0);
  log.train(train_record(1));
  int64_t step = 2;
  for (const std::string& path : {folder_->metrics(), folder_->metrics_csv()}) {
    const std::string before = file_bytes(path);
    {
      const FileSizeLimit full(before.size() + 10);
      log.train(train_record(step++));
      log.evaluation(evaluation_record(step++));
    }
    EXPECT_EQ(file_bytes(path), before);
  }
  ASSERT_EQ(warnings_.size(), 1u);
  EXPECT_NE(warnings_[0].find(folder_->metrics() + ": File too large; training goes on"), std::string::npos)
      << warnings_[0];
  log.train(train_record(step));
  log.finish();
  EXPECT_EQ(warnings_.size(), 1u);
  EXPECT_EQ(recorded(), (std::vector<std::string>{"train 1", "train 2", "val 3", "train 4", "val 5", "train 6"}));
  const std::vector<ReadEvent> events = read_events(file_bytes(event_files(folder_->path()).at(0)));
  ASSERT_EQ(events.size(), 8u);
  for (size_t i = 2; i < events.size(); ++i) EXPECT_EQ(events[i].step, static_cast<int64_t>(i) - 1);
}

TEST_F(ARunLog, SaysInTheEndWhatIsMissing) {
  RunLog log = make_log(0);
  const FileSizeLimit full(1);
  log.train(train_record(1));
  log.evaluation(evaluation_record(2));
  log.finish();
  ASSERT_EQ(warnings_.size(), 4u);
  EXPECT_NE(warnings_[1].find(folder_->metrics() + " lacks 2 records"), std::string::npos) << warnings_[1];
  EXPECT_NE(warnings_[2].find(folder_->metrics_csv() + " lacks 2 records"), std::string::npos) << warnings_[2];
  EXPECT_NE(warnings_[3].find("TensorBoard lacks what could not be written"), std::string::npos) << warnings_[3];
}

TEST_F(ARunLog, OverwritingARunRemovesAllOfIt) {
  const auto backend = make_cpu_backend(1);
  ShuffleNetV2 network(*backend, small_network(Dialect::kTorchvision), 1);
  {
    RunLog log = make_log(0);
    log.evaluation(evaluation_record(1));
    log.network(1, *backend, network, 1, false);
    write_text_file(folder_->environment(), "{}");
    write_text_file(folder_->file("mine.txt"), "kept");
  }
  const std::string path = folder_->path();
  folder_.reset();
  const RunFolder again(path, /*overwrite=*/true);
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(again.path())) names.insert(entry.path().filename());
  EXPECT_EQ(names, (std::set<std::string>{"checkpoints", "mine.txt"}));
}

TEST_F(ARunLog, HistogramsFollowTheConfiguration) {
  const auto backend = make_cpu_backend(1);
  ShuffleNetV2 network(*backend, small_network(Dialect::kTorchvision), 1);
  for (const std::string when : {"none", "evaluations"}) {
    options_.histograms = when;
    make_log(0).network(3, *backend, network, 1, false);
    size_t histograms = 0;
    for (const ReadEvent& event : read_events(file_bytes(event_files(folder_->path()).back())))
      histograms += event.histograms.size();
    EXPECT_EQ(histograms > 0, when == "evaluations");
  }
}

TEST(NetworkHistograms, HoldEveryFilterAndTheUnscaledGradients) {
  const auto backend = make_cpu_backend(1);
  ShuffleNetV2 network(*backend, small_network(Dialect::kTorchvision), 1);
  network.freeze_parts(*backend, 1);  // the stem
  size_t filters = 0, trained = 0;
  network.for_each_parameter([&](const std::string&, Parameter& parameter) {
    filters += parameter.decay ? 1 : 0;
    trained += parameter.decay && !parameter.frozen ? 1 : 0;
    if (!parameter.frozen) backend->fill(6, parameter.grad);
  });
  const TaggedHistograms weights = weight_histograms(*backend, network);
  const TaggedHistograms gradients = gradient_histograms(*backend, network, /*loss_scale=*/4);
  EXPECT_EQ(weights.size(), filters);
  EXPECT_EQ(gradients.size(), trained);
  EXPECT_LT(trained, filters);
  EXPECT_EQ(weights.back().first, "weights/fc.weight");
  EXPECT_EQ(weights.back().second.count, 40 * 7);
  EXPECT_GT(weights.back().second.sum_squares, 0);
  for (const auto& [tag, histogram] : gradients) {
    EXPECT_EQ(histogram.min, 1.5) << tag;
    EXPECT_EQ(histogram.max, 1.5) << tag;
  }
}

// Filter 0 is 0 but for its centre, whose first channel is 1 and whose others are 0.5; all other filters are constant.
TEST(FilterSheet, ScalesEachFilterAndPutsItsColoursInOrder) {
  const auto backend = make_cpu_backend(1);
  ShuffleNetV2 network(*backend, small_network(Dialect::kTorchvision), 1);
  network.for_each_parameter([&](const std::string& name, Parameter& parameter) {
    if (name != "conv1.0.weight") return;
    std::vector<float> values(static_cast<size_t>(parameter.value.elements()));
    values[4 * 3] = 1;
    values[4 * 3 + 1] = values[4 * 3 + 2] = 0.5f;
    backend->upload(values.data(), DType::kF32, parameter.value);
  });
  const auto pixel_of = [](const Image& sheet, int value) {
    int found = 0;
    for (size_t i = 0; i + 2 < sheet.pixels.size(); i += 3) {
      const uint8_t* p = sheet.pixels.data() + i;
      found += (value > 0 ? p[0] : p[2]) == 255 && p[1] == 128 && (value > 0 ? p[2] : p[0]) == 128 ? 1 : 0;
    }
    return found;
  };
  const Image rgb = filter_sheet(*backend, network, /*bgr=*/false), bgr = filter_sheet(*backend, network, /*bgr=*/true);
  EXPECT_EQ(pixel_of(rgb, 1), 32 * 32);  // one of 3x3 pixels of a cell of 96
  EXPECT_EQ(pixel_of(rgb, -1), 0);
  EXPECT_EQ(pixel_of(bgr, 1), 0);
  EXPECT_EQ(pixel_of(bgr, -1), 32 * 32);
}

TEST(SampleSheet, ShowsTheFirstImagesOfABatch) {
  const int64_t count = 40, size = 24;
  const std::vector<uint8_t> pixels(static_cast<size_t>(count * size * size), 200);
  const std::vector<int32_t> labels(static_cast<size_t>(count), 1);
  Batch batch;
  batch.images = pixels.data();
  batch.labels = labels.data();
  batch.count = count;
  batch.height = batch.width = size;
  batch.channels = 1;
  const Image sheet = sample_sheet(batch, {"cat", "dog"});
  const auto gray = std::count(sheet.pixels.begin(), sheet.pixels.end(), 200);
  EXPECT_EQ(gray, 32 * 96 * 96 * 3);  // 8 columns of 4, each four times as large
}

TEST(Environment, SaysWhatComputedAndKeepsEarlierStarts) {
  const TemporaryFolder folder;
  DeviceChoice device = make_backend({"cpu", 2});
  const Json environment = describe_environment(device, "0123abc");
  EXPECT_EQ(environment.at("riffle_version"), kVersion);
  EXPECT_EQ(environment.at("git_commit"), "0123abc");
  EXPECT_EQ(environment.at("cpu").at("threads"), 2);
  EXPECT_EQ(environment.at("cpu").at("instruction_set"), cpu_isa());
  EXPECT_EQ(environment.at("one_dnn"), one_dnn_version());
  EXPECT_EQ(environment.at("device"), device.backend->description());
  EXPECT_NE(environment.at("command").at(0).get<std::string>().find("test_run_log"), std::string::npos);
  EXPECT_EQ(environment.at("started").get<std::string>().size(), std::string("2026-11-24T16:55:02+0000").size());
  EXPECT_TRUE(describe_environment(device, "").at("git_commit").is_null());

  const std::string path = folder.file("environment.json");
  for (const char* commit : {"a", "b", "c"}) write_environment(path, describe_environment(device, commit));
  const Json written = Json::parse(file_bytes(path));
  EXPECT_EQ(written.at("git_commit"), "c");
  ASSERT_EQ(written.at("earlier_starts").size(), 2u);
  EXPECT_EQ(written.at("earlier_starts").at(0).at("git_commit"), "a");
  EXPECT_EQ(written.at("earlier_starts").at(1).at("git_commit"), "b");
}

}  // namespace
}  // namespace riffle
