// riffle eval --report: what is counted, ties, numbers that are not finite, calibration, and the files.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>

#include "riffle_process.h"
#include "tiny_data.h"
#include "train/report/calibration.h"
#include "train/report/class_statistics.h"
#include "train/report/confusion_image.h"
#include "train/report/csv.h"
#include "train/report/image_records.h"

namespace riffle {
namespace {

namespace fs = std::filesystem;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

ImageRecord record_of(const std::vector<float>& logits, int64_t label) {
  return make_record(logits.data(), static_cast<int64_t>(logits.size()), label);
}

TEST(ImageRecord, LossAndOrder) {
  const ImageRecord record = record_of({1, 3, 2, 0, -1, -2}, 2);
  EXPECT_FALSE(record.top1_correct);
  EXPECT_TRUE(record.top5_correct);
  ASSERT_EQ(record.top.size(), 5u);
  EXPECT_EQ(record.top[0].index, 1);
  EXPECT_EQ(record.top[1].index, 2);
  double sum = 0;
  for (const double logit : {1, 3, 2, 0, -1, -2}) sum += std::exp(logit);
  EXPECT_NEAR(record.loss, std::log(sum) - 2, 1e-12);
  EXPECT_NEAR(record.top[0].probability, std::exp(3.0) / sum, 1e-12);
  EXPECT_FALSE(record_of({1, 3, 2, 0, -1, -2}, 5).top5_correct);  // the sixth of six
}

// Of equal logits the lower index is above: a network that says nothing is right for class 0 only.
TEST(ImageRecord, Ties) {
  const std::vector<float> equal(6, 0.5f);
  for (int64_t label = 0; label < 6; ++label) {
    const ImageRecord record = record_of(equal, label);
    EXPECT_EQ(record.top.front().index, 0);
    EXPECT_EQ(record.top1_correct, label == 0);
    EXPECT_EQ(record.top5_correct, label < 5);
  }
}

TEST(ImageRecord, NotFiniteIsWrong) {
  const std::vector<std::vector<float>> broken{
      {kNan, 1, 2}, {1, 2, kNan}, {kInfinity, 0, 0}, {0, kInfinity, kInfinity}, {-kInfinity, -kInfinity, -kInfinity}};
  for (const std::vector<float>& logits : broken) {
    for (int64_t label = 0; label < 3; ++label) {
      const ImageRecord record = record_of(logits, label);
      EXPECT_FALSE(record.predicted());
      EXPECT_FALSE(record.top1_correct || record.top5_correct);  // not even at 5 of 3 classes
      EXPECT_FALSE(std::isfinite(record.loss));
    }
  }
  // A class that is excluded is a prediction like any other; if it was the right one, the loss is infinite.
  EXPECT_TRUE(record_of({-kInfinity, 4, 1}, 1).top1_correct);
  const ImageRecord excluded = record_of({-kInfinity, 4, 1}, 0);
  EXPECT_TRUE(excluded.predicted());
  EXPECT_EQ(excluded.loss, kInfinity);
  EXPECT_FALSE(excluded.top5_correct);
}

// Rows of logits with their labels: two right, one taken for another, one without a prediction.
std::vector<ImageRecord> four_records() {
  return {record_of({2, 0, 0}, 0), record_of({0, 0, 2}, 2), record_of({0, 2, 0}, 0), record_of({kNan, 0, 0}, 1)};
}

TEST(ClassStatistics, CountsByHand) {
  const ClassStatistics statistics(four_records(), 3);
  EXPECT_EQ(statistics.count(0, 0), 1);
  EXPECT_EQ(statistics.count(0, 1), 1);
  EXPECT_EQ(statistics.count(1, 1), 0);
  EXPECT_EQ(statistics.count(2, 2), 1);
  const ClassCounts& first = statistics.classes()[0];
  EXPECT_EQ(first.images, 2);
  EXPECT_DOUBLE_EQ(first.top1().value(), 0.5);
  EXPECT_DOUBLE_EQ(first.precision().value(), 1);
  EXPECT_DOUBLE_EQ(first.f1().value(), 2.0 / 3);
  EXPECT_DOUBLE_EQ(first.top5().value(), 1);
  const ClassCounts& second = statistics.classes()[1];
  EXPECT_EQ(second.not_predicted, 1);
  EXPECT_EQ(second.predicted, 1);
  EXPECT_DOUBLE_EQ(second.precision().value(), 0);
  ASSERT_EQ(statistics.confused_pairs().size(), 1u);
  EXPECT_EQ(statistics.confused_pairs()[0].predicted, 1);
  EXPECT_EQ(count_records(four_records()).not_predicted, 1);
}

TEST(ClassStatistics, WhatCannotBeSaid) {
  const ClassStatistics statistics({record_of({2, 0}, 0)}, 2);
  EXPECT_FALSE(statistics.classes()[1].top1().has_value());
  EXPECT_FALSE(statistics.classes()[1].precision().has_value());
  EXPECT_FALSE(statistics.classes()[1].f1().has_value());
}

TEST(ClassStatistics, PairsAreOrdered) {
  std::vector<ImageRecord> records{record_of({0, 0, 1}, 1), record_of({0, 1, 0}, 0), record_of({1, 0, 0}, 2),
                                   record_of({1, 0, 0}, 2)};
  const std::vector<ConfusedPair> pairs = ClassStatistics(records, 3).confused_pairs();
  ASSERT_EQ(pairs.size(), 3u);
  EXPECT_EQ(pairs[0].label, 2);
  EXPECT_EQ(pairs[0].count, 2);
  EXPECT_EQ(pairs[1].label, 0);
  EXPECT_EQ(pairs[2].label, 1);
}

ImageRecord confident(double probability, bool correct) {
  ImageRecord record;
  record.label = 0;
  record.top = {{correct ? 0 : 1, probability}};
  record.top1_correct = correct;
  record.loss = 1;
  return record;
}

TEST(Calibration, ErrorByHand) {
  // Three images of confidence 0.9 (bin 14 of 15), of which two are right, and one of 0.5, wrong.
  const Calibration result =
      calibrate({confident(0.9, true), confident(0.9, true), confident(0.9, false), confident(0.5, false)});
  EXPECT_NEAR(result.ece, 0.75 * (0.9 - 2.0 / 3) + 0.25 * 0.5, 1e-12);
  EXPECT_DOUBLE_EQ(result.nll, 1);
  EXPECT_EQ(result.bins[13].images, 3);
  EXPECT_EQ(result.bins[7].images, 1);
}

TEST(Calibration, BinsAreClosedAbove) {
  const Calibration result = calibrate({confident(1, true), confident(1.0 / 15 * 3, true)});
  EXPECT_EQ(result.bins[14].images, 1);
  EXPECT_EQ(result.bins[2].images, 1);
}

TEST(Calibration, WithoutPrediction) {
  const Calibration result = calibrate(four_records());
  EXPECT_EQ(result.images, 3);
  EXPECT_TRUE(std::isnan(result.nll));
  EXPECT_TRUE(std::isfinite(result.ece));
}

TEST(Csv, QuotesWhatMustBe) {
  CsvWriter csv;
  csv.field("plain").field("a,b").field("say \"x\"").field("two\nlines").field("").field(int64_t{-3}).end_line();
  csv.fraction(0.5).fraction(std::nullopt).number(-kNan).end_line();
  EXPECT_EQ(csv.text(), "plain,\"a,b\",\"say \"\"x\"\"\",\"two\nlines\",,-3\r\n0.500000,,nan\r\n");
}

// The same logits give the same records, however they are cut into batches.
TEST(ImageRecorder, BatchesDoNotMatter) {
  constexpr int64_t kImages = 23, kClasses = 6;
  std::vector<float> logits;
  std::vector<int32_t> labels;
  std::vector<int64_t> indices;
  RandomStream random(1, RandomPurpose::kTest, 0);
  for (int64_t i = 0; i < kImages; ++i) {
    for (int64_t k = 0; k < kClasses; ++k) logits.push_back(static_cast<float>(random.below(4)));
    labels.push_back(static_cast<int32_t>(random.below(kClasses)));
    indices.push_back(kImages - 1 - i);
  }
  for (const int64_t batch : {1, 7, 64}) {
    ImageRecorder recorder(kImages);
    for (int64_t at = 0; at < kImages; at += batch) {
      recorder.observe({logits.data() + at * kClasses, labels.data() + at, indices.data() + at,
                        std::min(batch, kImages - at), kClasses});
    }
    for (int64_t i = 0; i < kImages; ++i) {
      const auto row = static_cast<size_t>(kImages - 1 - i);
      const ImageRecord expected =
          make_record(logits.data() + row * static_cast<size_t>(kClasses), kClasses, labels[row]);
      const ImageRecord& record = recorder.records()[static_cast<size_t>(i)];
      EXPECT_EQ(record.label, labels[row]);
      EXPECT_EQ(record.loss, expected.loss);
      EXPECT_EQ(record.top.front().index, expected.top.front().index);
    }
  }
}

TEST(ConfusionImage, FewAndMany) {
  std::vector<ImageRecord> records;
  for (int64_t label = 0; label < 2500; ++label) records.push_back(confident(0.5, true));
  for (size_t i = 0; i < records.size(); ++i) records[i].label = records[i].top[0].index = static_cast<int64_t>(i);
  const Image many = confusion_image(ClassStatistics(records, 2500));
  EXPECT_LE(many.width, 1100);
  EXPECT_GE(many.width, 500);
  const Image few = confusion_image(ClassStatistics({confident(0.5, true)}, 2));
  EXPECT_GE(few.width, 500);
  EXPECT_LE(few.width, 1100);
}

// One small network, trained once on images whose class is easy to see.
class EvalReport : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    write_image_folder(path("data/train"), 64, 32, 1);
    write_image_folder(path("data/val"), 22, 32, 2);
    std::ofstream(path("tiny.yaml")) << tiny_config("folder:" + path("data"), 3);
    expect_success(run_riffle({"train", path("tiny.yaml"), "-o", path("run"), "--threads", "1"}));
  }
  static void TearDownTestSuite() {
    delete folder_;
    folder_ = nullptr;
  }
  static std::string path(const std::string& name) { return folder_->path() + "/" + name; }
  static ProcessResult evaluate(const std::string& report, const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments{"eval", path("run/checkpoints/last.safetensors"), "--report", path(report)};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_riffle(arguments);
  }

  static TemporaryFolder* folder_;
};
TemporaryFolder* EvalReport::folder_ = nullptr;

TEST_F(EvalReport, CountsDoNotDependOnTheBatch) {
  const std::vector<std::string> batches{"1", "7", "64"};
  for (const std::string& batch : batches) expect_success(evaluate("by" + batch, {"--batch", batch}));
  for (const char* file : {"per_class.csv", "confusion.csv", "confused_pairs.csv", "confusion.png"}) {
    const std::string expected = text_of(path("by1/") + file);
    EXPECT_FALSE(expected.empty()) << file;
    for (const std::string& batch : batches) EXPECT_EQ(text_of(path("by" + batch + "/") + file), expected) << file;
  }
}

TEST_F(EvalReport, FilesAgree) {
  expect_success(evaluate("files", {"--json", path("result.json")}));
  const auto result = nlohmann::json::parse(text_of(path("result.json")));
  const auto evaluation = nlohmann::json::parse(text_of(path("files/evaluation.json")));
  int64_t images = 0, correct = 0;
  for (const auto& one : evaluation["classes"]) {
    images += one["images"].get<int64_t>();
    correct += one["top1_correct"].get<int64_t>();
  }
  EXPECT_EQ(images, 22);
  EXPECT_EQ(correct, result["top1_correct"].get<int64_t>());
  EXPECT_NEAR(evaluation["calibration"]["nll"].get<double>(), result["loss"].get<double>(), 1e-5);
  EXPECT_EQ(static_cast<int64_t>(evaluation["mistakes"].size()), images - correct);
  ASSERT_GT(evaluation["mistakes"].size(), 1u);
  double worse = INFINITY;
  for (const auto& mistake : evaluation["mistakes"]) {
    EXPECT_LE(mistake["loss"].get<double>(), worse) << "the worst comes first";
    worse = mistake["loss"].get<double>();
    EXPECT_GT(fs::file_size(path("files/" + mistake["file"].get<std::string>())), 0u);
  }
  const std::string predictions = text_of(path("files/predictions.csv"));
  expect_contains(predictions, {"index,image,class,name,top1_correct,top5_correct,loss,class_1,name_1,probability_1",
                                "data/val/north-east/0.png,0,north-east,"});
  EXPECT_EQ(std::count(predictions.begin(), predictions.end(), '\n'), 23);
  expect_contains(text_of(path("files/per_class.csv")), {"class,name,images,", "\r\n3,south-west,5,"});
  expect_contains(text_of(path("files/confusion.csv")), {"north-east,north-west,south-east,south-west,(none)\r\n"});
}

TEST_F(EvalReport, IsNotOverwrittenSilently) {
  expect_success(evaluate("twice"));
  std::ofstream(path("twice/mine.txt")) << "kept";
  std::ofstream(path("twice/mistakes/40.png")) << "of an earlier report";
  expect_failure(evaluate("twice"), 1, {"twice is not empty", "--force"});
  expect_success(evaluate("twice", {"--force"}));
  EXPECT_EQ(text_of(path("twice/mine.txt")), "kept");
  EXPECT_FALSE(fs::exists(path("twice/mistakes/40.png")));
  std::ofstream(path("file")) << "x";
  expect_failure(evaluate("file"), 1, {"is not a folder"});
  expect_failure(run_riffle({"eval", path("run/checkpoints/last.safetensors"), "--force"}), 2, {"--report"});
}

}  // namespace
}  // namespace riffle
