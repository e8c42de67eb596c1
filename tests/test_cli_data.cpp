// riffle data, and training on every kind of source, as a user would run them.
#include <nlohmann/json.hpp>

#include "data/encode.h"
#include "riffle_process.h"
#include "tests/tar_files.h"
#include "tests/tiny_data.h"

namespace riffle {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class CliData : public testing::Test {
 protected:
  void SetUp() override {
    write_image_folder(source_ + "/train", 48, 32, 1);
    write_image_folder(source_ + "/val", 12, 32, 2);
    setenv("XDG_CACHE_HOME", (folder_.path() + "/cache").c_str(), 1);
  }
  // ImageNet's layout: a tar file of a tar file for each class, and validation images with labels beside them.
  std::string make_official() {
    const std::string root = folder_.path() + "/official";
    fs::create_directories(root);
    Bytes outer, val;
    std::string labels;
    for (const std::string& name : quadrant_names())
      append_tar_member(outer, {name + ".tar"}, tar_of_folder(source_ + "/train/" + name));
    for (int i = 0; i < 12; ++i) {
      const std::string& name = quadrant_names()[static_cast<size_t>(i % 4)];
      const std::string file = join(i, ".png");
      append_tar_member(val, {file}, read_file(join(source_, "/val/", name, "/", file)));
      labels += join(file, " ", name, "\n");
    }
    append_tar_end(outer);
    append_tar_end(val);
    write_bytes(root + "/ILSVRC2012_img_train.tar", outer);
    write_bytes(root + "/ILSVRC2012_img_val.tar", val);
    write_bytes(root + "/val.txt", bytes_of(labels));
    return root;
  }
  // What training says of itself, without what differs from run to run.
  std::vector<json> train(const std::string& name, const std::string& source, const std::string& extra = "") {
    const std::string config = folder_.path() + "/" + name + ".yaml", out = folder_.path() + "/" + name;
    write_bytes(config, bytes_of(tiny_config(source, 3) + extra));
    const ProcessResult result = run_riffle({"train", config, "-o", out, "--device", "cpu"});
    expect_success(result);
    std::vector<json> lines;
    std::istringstream log(text_of(out + "/metrics.jsonl"));
    for (std::string line; std::getline(log, line);) {
      const json entry = json::parse(line);
      json kept;
      for (const char* key : {"type", "step", "loss", "top1", "top5"})
        if (entry.contains(key)) kept[key] = entry[key];
      lines.push_back(kept);
    }
    return lines;
  }

  TemporaryFolder folder_;
  std::string source_ = folder_.path() + "/source";
};

// The same losses and accuracies to the last digit, in training and in evaluation.
TEST_F(CliData, TarOfTarsAndPackTrainAndEvaluateLikeTheFolder) {
  const std::string official = make_official(), packed = folder_.path() + "/packed";
  const std::vector<json> expected = train("folder", source_);
  ASSERT_GT(expected.size(), 3u);
  EXPECT_EQ(train("tar", official), expected);
  const ProcessResult result = run_riffle({"data", "pack", official, packed, "--shards", "3"});
  expect_success(result);
  expect_contains(result.out, {"48 images, 0 resized, into 3 shards (0 kept)", packed + "/train", packed + "/val"});
  EXPECT_EQ(train("pack", packed), expected);
  const std::string checkpoint = folder_.path() + "/tar/checkpoints/last.safetensors";
  std::vector<json> evaluations;
  for (const std::string& data : {std::string(), source_, "folder:" + source_, packed}) {
    std::vector<std::string> words{"eval", checkpoint, "--json", "-", "--device", "cpu"};
    if (!data.empty()) words.insert(words.end(), {"--data", data});
    const ProcessResult eval = run_riffle(words);
    expect_success(eval);
    json entry = json::parse(eval.out);
    entry.erase("images_per_s");
    evaluations.push_back(entry);
  }
  EXPECT_EQ(evaluations[0]["images"], 12);
  for (const json& entry : evaluations) EXPECT_EQ(entry, evaluations[0]);
}

TEST_F(CliData, EvaluationWithLabelsOfItsOwn) {
  train("folder", source_);
  const std::string official = make_official(), labels = folder_.path() + "/labels.txt";
  fs::rename(official + "/val.txt", labels);
  const std::string checkpoint = folder_.path() + "/folder/checkpoints/last.safetensors";
  const auto eval = [&](std::vector<std::string> words) {
    words.insert(words.begin(), {"eval", checkpoint, "--device", "cpu"});
    return run_riffle(words);
  };
  expect_failure(eval({"--data", official}), 1, {"no file that labels them"});
  expect_success(eval({"--data", official, "--val-labels", labels}));
  expect_failure(eval({"--val-labels", labels}), 2, {labels, "not used"});
  expect_failure(eval({"--data", official, "--val-labels", labels, "--split", "train"}), 2, {labels, "--val-labels"});
}

TEST_F(CliData, CachedImagesChangeNothing) {
  const std::vector<json> expected = train("plain", source_);
  const std::string config = tiny_config(source_, 3);
  const ProcessResult result = run_riffle({"train", folder_.path() + "/plain.yaml", "-o", folder_.path() + "/cached",
                                           "--device", "cpu", "data.cache_bytes=4KiB"});
  expect_success(result);
  std::istringstream a(text_of(folder_.path() + "/plain/metrics.jsonl")),
      b(text_of(folder_.path() + "/cached/metrics.jsonl"));
  for (std::string x, y; std::getline(a, x) && std::getline(b, y);)
    EXPECT_EQ(json::parse(x)["loss"], json::parse(y)["loss"]);
  expect_failure(run_riffle({"train", folder_.path() + "/plain.yaml", "data.cache_bytes=8GB"}), 2,
                 {"data.cache_bytes", "'8GB'", "8GiB"});
}

TEST_F(CliData, VerifyReportsAndExitsWithOne) {
  ProcessResult result = run_riffle({"data", "verify", source_});
  expect_success(result);
  expect_contains(result.out, {"48 images: 0 bad, 0 truncated, 0 odd, 0 groups of duplicates", "12 images: 0 bad"});
  folder_.add_fixture("cmyk.jpg", "source/train/north-east/a\x1b[2Jcmyk.jpg");
  write_bytes(source_ + "/val/north-east/broken.jpg", bytes_of("<html>"));
  fs::copy_file(source_ + "/train/north-east/0.png", source_ + "/train/south-east/0.png");
  result = run_riffle({"data", "verify", source_, "--threads", "2"});
  expect_failure(result, 1, {source_ + ": 1 image is bad and 0 truncated"});
  expect_contains(result.out, {"bad         " + source_ + "/val/north-east/broken.jpg", "a?[2Jcmyk.jpg: CMYK",
                               "1 groups of duplicates (1 across classes)", "0.png  =  "});
  result = run_riffle({"data", "verify", source_, "--split", "train", "--json", "-"});
  expect_success(result);
  const json report = json::parse(result.out);
  ASSERT_EQ(report.size(), 1u);
  EXPECT_EQ(report[0]["images"], 50);
  EXPECT_EQ(report[0]["odd"].size(), 1u);
  EXPECT_EQ(report[0]["duplicates"][0].size(), 2u);
}

TEST_F(CliData, VerifyNamesTruncatedImages) {
  const std::string path = source_ + "/train/north-east/cut.jpg";
  const std::vector<uint8_t> whole = read_file(image_fixture("rgb_420.jpg"));
  write_bytes(path, {whole.begin(), whole.begin() + 2000});
  const ProcessResult result = run_riffle({"data", "verify", source_, "--json", folder_.path() + "/verify.json"});
  expect_failure(result, 1, {source_ + ": 0 images are bad and 1 truncated"});
  expect_contains(result.out, {"truncated   " + path + ": the file ends too early, after 2000 bytes", "1 truncated"});
  const json report = json::parse(text_of(folder_.path() + "/verify.json"));
  EXPECT_EQ(report[0]["truncated"].size(), 1u);
  EXPECT_EQ(report[0]["truncated"][0]["name"], path);
  EXPECT_TRUE(report[0]["bad"].empty());
}

TEST_F(CliData, Stats) {
  const ProcessResult result = run_riffle({"data", "stats", source_, "--json", folder_.path() + "/stats.json"});
  expect_success(result);
  expect_contains(result.out,
                  {"classes     4, of 12 ('north-east') to 12", "width       32 to 32, median 32", "mean        [0."});
  const json report = json::parse(text_of(folder_.path() + "/stats.json"));
  ASSERT_EQ(report.size(), 2u);
  EXPECT_EQ(report[0]["part"], "train");
  EXPECT_EQ(report[0]["per_class"]["south-west"], 12);
  EXPECT_EQ(report[1]["images"], 12);
}

TEST_F(CliData, BenchTimesEveryStage) {
  const std::string config = folder_.path() + "/bench.yaml", packed = folder_.path() + "/packed";
  write_bytes(config, bytes_of(tiny_config(source_, 3)));
  expect_success(run_riffle({"data", "pack", source_, packed}));
  for (const std::string& source : {source_, packed}) {
    for (const char* decode : {"exact", "quick"}) {
      const ProcessResult result = run_riffle(
          {"bench", "data", config, "data.source=" + source, std::string("data.decode=") + decode,
           "augment.transforms=[random_resized_crop, {flip: 0.5}]", "--images", "100", "--threads", "2", "--json"});
      expect_success(result);
      const json report = json::parse(result.out);
      EXPECT_EQ(report["decode"], decode);
      EXPECT_EQ(report["images"], 100);
      double sum = 0;
      for (const char* stage : {"read", "decode", "resample", "augment", "copy", "normalise"}) {
        EXPECT_GT(report["us_per_image"][stage], 0) << stage;
        sum += report["us_per_image"][stage].get<double>();
      }
      EXPECT_NEAR(report["us_per_image"]["whole"], sum, 1e-6 * sum);
      EXPECT_GT(report["us_per_image"]["libjpeg"], 0);
      EXPECT_GT(report["images_per_s"], 0);
      EXPECT_GT(report["images_per_cpu_s"], 0);
    }
  }
  const ProcessResult text = run_riffle({"bench", "data", config, "--images", "10"});
  expect_success(text);
  for (const char* word : {"exact, 32x32 pixels, 10 images", "decode ", "whole ", "loader "})
    EXPECT_NE(text.out.find(word), std::string::npos) << text.out;
  expect_failure(run_riffle({"bench", "data", config, "data.decode=quick"}), 2,
                 {"data.decode is quick", "random_resized_crop"});
  expect_failure(run_riffle({"bench", "data"}), 2, {"CONFIG"});
  expect_failure(run_riffle({"bench", "dat"}), 2, {"dat"});
}

TEST_F(CliData, Mistakes) {
  expect_failure(run_riffle({"data"}), 2, {"subcommand", "riffle data --help"});
  expect_failure(run_riffle({"data", "pakc", "a", "b"}), 2, {"'pakc'", "pack, verify, stats"});
  expect_failure(run_riffle({"data", "pack", source_, folder_.path() + "/p", "--qualty", "3"}), 2,
                 {"--qualty", "'--quality'"});
  expect_failure(run_riffle({"data", "pack", source_, folder_.path() + "/p", "--quality", "101"}), 2, {"101"});
  for (const std::string& inside : {source_, source_ + "/packed", source_ + "/../source/"})
    expect_failure(run_riffle({"data", "pack", source_, inside}), 2, {inside, "lies in the source"});
  expect_failure(run_riffle({"data", "pack", "folder:" + source_ + "/train", source_ + "/train/x"}), 2,
                 {"lies in the source"});
  EXPECT_FALSE(fs::exists(source_ + "/packed"));
  expect_failure(run_riffle({"data", "stats", source_, "--val-labels", "some.txt"}), 2, {"some.txt", "not used"});
  expect_failure(run_riffle({"data", "stats", source_, "--val-labels", "some.txt", "--split", "train"}), 2,
                 {"some.txt", "the split is train"});
  fs::remove_all(source_ + "/val");
  expect_failure(run_riffle({"data", "verify", source_}), 1, {"no val", "--split"});
  expect_success(run_riffle({"data", "verify", source_, "--split", "train"}));
}

}  // namespace
}  // namespace riffle
