// The main job through the program itself: train, evaluate, predict, inspect, on small data made here.
#include <zip.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "event_files.h"
#include "riffle_process.h"
#include "tiny_data.h"
#include "train/checkpoint/checkpoint.h"
#include "train/predictor.h"

namespace riffle {
namespace {

std::vector<nlohmann::json> json_lines(const std::string& text) {
  std::istringstream lines(text);
  std::vector<nlohmann::json> values;
  for (std::string line; std::getline(lines, line);) values.push_back(nlohmann::json::parse(line));
  return values;
}

std::vector<nlohmann::json> records(const std::vector<nlohmann::json>& all, const std::string& type) {
  std::vector<nlohmann::json> found;
  for (const nlohmann::json& record : all) {
    if (record.at("type") == type) found.push_back(record);
  }
  return found;
}

void write_npz(const std::string& path, const std::string& name, const HostTensor& tensor) {
  const TemporaryFolder folder;
  const std::string npy = folder.path() + "/array.npy";
  write_npy(npy, tensor);
  zip_t* archive = zip_open(path.c_str(), ZIP_CREATE | ZIP_TRUNCATE, nullptr);
  ASSERT_NE(archive, nullptr);
  zip_source_t* source = zip_source_file(archive, npy.c_str(), 0, -1);
  ASSERT_GE(zip_file_add(archive, (name + ".npy").c_str(), source, 0), 0);
  ASSERT_EQ(zip_close(archive), 0);
}

// One run on IDX data, with a moving average, that all tests look at.
class TrainedOnIdx : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    write_idx_data(path("idx"));
    std::ofstream(path("tiny.yaml")) << tiny_config("idx:" + path("idx"), 1) << "ema: {decay: 0.9}\n";
    training_ = run_riffle({"train", path("tiny.yaml"), "-o", path("run"), "train.duration=6ep", "--threads", "2"});
  }
  static void TearDownTestSuite() { delete folder_; }
  void SetUp() override { ASSERT_EQ(training_.exit_code, 0) << training_.out << training_.err; }

  static std::string path(const std::string& name) { return folder_->path() + "/" + name; }
  static std::string checkpoint(const std::string& name) { return path("run/checkpoints/" + name + ".safetensors"); }
  static nlohmann::json evaluate(const std::string& file, const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments{"eval", file, "--json", "-"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const ProcessResult result = run_riffle(arguments);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return nlohmann::json::parse(result.out);
  }

  static TemporaryFolder* folder_;
  static ProcessResult training_;
};

TemporaryFolder* TrainedOnIdx::folder_ = nullptr;
ProcessResult TrainedOnIdx::training_;

TEST_F(TrainedOnIdx, LearnsAndLogsIt) {
  const std::vector<nlohmann::json> log = json_lines(text_of(path("run/metrics.jsonl")));
  const std::vector<nlohmann::json> train = records(log, "train"), val = records(log, "val");
  ASSERT_EQ(val.size(), 6u);
  EXPECT_EQ(train.front().at("step"), 1);
  EXPECT_EQ(train.back().at("step"), 48);
  EXPECT_EQ(train.back().at("epoch"), 6.0);
  EXPECT_LT(train.back().at("loss").get<double>(), 0.5 * train.front().at("loss").get<double>());
  for (const char* key : {"top1", "top5", "lr", "images_per_s", "data_wait_ms", "grad_norm", "process_peak_bytes"})
    EXPECT_TRUE(train[0].contains(key)) << key;
  EXPECT_EQ(val.back().at("images"), 22);
  EXPECT_GT(val.back().at("best_top1").get<double>(), 0.9);
}

TEST_F(TrainedOnIdx, TellsWhereThingsAreAndNamesAccuracyAndError) {
  expect_contains(
      training_.out,
      {"accuracy", "error", "EMA", "run/curves.svg", "run/metrics.jsonl", "run/checkpoints/best.safetensors",
       "weight decay", "epoch 6/6", "data wait", "grad norm", "finished    in ", "images/s on average, peak memory ",
       "weights     top-1 accuracy", "EMA         top-1 accuracy", "best        top-1 accuracy"});
  expect_contains(text_of(path("run/curves.svg")), {"<svg", "validation, EMA", "</svg>"});
  expect_contains(text_of(path("run/config.resolved.yaml")), {"duration: 6ep"});
}

TEST_F(TrainedOnIdx, LeavesPicturesTablesAndEvents) {
  for (const char* name : {"samples.png", "filters.png"}) {
    const std::vector<uint8_t> bytes = read_file(path("run/" + std::string(name)));
    EXPECT_GT(decode_image(bytes.data(), bytes.size(), name, 3).width, 300) << name;
  }
  const std::string csv = text_of(path("run/metrics.csv")), jsonl = text_of(path("run/metrics.jsonl"));
  EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'), 1 + std::count(jsonl.begin(), jsonl.end(), '\n'));
  const nlohmann::json environment = nlohmann::json::parse(text_of(path("run/environment.json")));
  EXPECT_EQ(environment.at("command").at(1), "train");
  const std::vector<std::string> files = event_files(path("run"));
  ASSERT_EQ(files.size(), 1u);
  size_t losses = 0, gradients = 0;
  for (const ReadEvent& event : read_events(text_of(files[0]))) {
    losses += event.scalars.count("train/loss");
    gradients += event.histograms.count("gradients/fc.weight");
  }
  EXPECT_EQ(losses, records(json_lines(jsonl), "train").size());
  EXPECT_EQ(gradients, 6u);
}

// Not "about": the same weights on the same images through the same code.
TEST_F(TrainedOnIdx, EvaluationOfACheckpointGivesTheTrainersNumbers) {
  const nlohmann::json val = records(json_lines(text_of(path("run/metrics.jsonl"))), "val").back();
  const nlohmann::json last = evaluate(checkpoint("last"), {"--batch", "8"});
  EXPECT_EQ(last.at("images"), 22);
  EXPECT_EQ(last.at("top1"), val.at("top1"));
  EXPECT_EQ(last.at("top5"), val.at("top5"));
  EXPECT_EQ(last.at("loss"), val.at("loss"));
  EXPECT_EQ(last.at("top1_correct").get<double>(), last.at("top1").get<double>() * 22);
  for (const char* key : {"top5_correct", "images_per_s", "device"}) EXPECT_TRUE(last.contains(key)) << key;

  const nlohmann::json best = evaluate(checkpoint("best"));
  EXPECT_EQ(best.at("top1"), val.at("best_top1"));
}

TEST_F(TrainedOnIdx, CheckpointsSayWhichWeightsTheyHold) {
  const CheckpointFile best = read_safetensors(checkpoint("best")), last = read_safetensors(checkpoint("last"));
  EXPECT_EQ(last.metadata.at("weights"), "raw");
  EXPECT_TRUE(best.metadata.at("weights") == "raw" || best.metadata.at("weights") == "ema");
  EXPECT_EQ(last.tensors.count("ema.conv1.0.weight"), last.tensors.count("conv1.0.weight"));
  EXPECT_EQ(last.tensors.count("conv1.0.weight"), 1u);
  EXPECT_EQ(metadata_from_json(last.metadata, "last").training->step, 48);
}

TEST_F(TrainedOnIdx, EvaluatesOtherDataByClassName) {
  // Without names of their own, IDX files take the network's.
  EXPECT_EQ(evaluate(checkpoint("best"), {"--data", path("idx"), "--split", "train"}).at("images"), 64);
  write_image_folder(path("other"), 8, 32, 3);
  expect_failure(run_riffle({"eval", checkpoint("best"), "--data", "folder:" + path("other")}), 1,
                 {"4 of its 4 classes are unknown", "'north-east'"});
  expect_failure(run_riffle({"eval", checkpoint("best"), "--data", path("nowhere")}), 1, {path("nowhere")});
  expect_failure(run_riffle({"eval", checkpoint("best"), "--json", path("nowhere/x.json")}), 1,
                 {path("nowhere/x.json")});
}

TEST_F(TrainedOnIdx, PredictsTestImagesWithTheirTrueClass) {
  const ProcessResult json =
      run_riffle({"predict", checkpoint("best"), "idx:" + path("idx"), "--limit", "5", "--topk", "2", "--json"});
  expect_success(json);
  const std::vector<nlohmann::json> lines = json_lines(json.out);
  ASSERT_EQ(lines.size(), 5u);
  for (size_t i = 0; i < lines.size(); ++i) {
    const nlohmann::json& predictions = lines[i].at("predictions");
    ASSERT_EQ(predictions.size(), 2u);
    EXPECT_EQ(lines[i].at("label").at("index"), i % 4);
    EXPECT_EQ(predictions[0].at("name"), std::to_string(predictions[0].at("index").get<int>()));
    EXPECT_GE(predictions[0].at("probability"), predictions[1].at("probability"));
    EXPECT_LE(predictions[0].at("probability").get<double>() + predictions[1].at("probability").get<double>(),
              1 + 1e-12);
  }
  expect_contains(run_riffle({"predict", checkpoint("best"), "idx:" + path("idx"), "--limit", "1"}).out,
                  {"t10k-images-idx3-ubyte[0]", "true class: 0", "%"});
}

TEST_F(TrainedOnIdx, LogitsOfAnArrayAgreeWithPredictions) {
  expect_failure(run_riffle({"predict", checkpoint("best"), "--tensor", path("absent.npz"), "--logits", path("l.npy")}),
                 1, {"absent.npz"});
  HostTensor images;
  images.dtype = FileDType::kU8;
  images.shape = {22, 32, 32, 1};
  for (int64_t i = 0; i < 22; ++i) {
    const Image image = quadrant_image(i, 32, 1, /*seed=*/2);
    images.bytes.insert(images.bytes.end(), image.pixels.begin(), image.pixels.end());
  }
  write_npz(path("in.npz"), "images", images);
  expect_success(run_riffle({"predict", checkpoint("best"), "--tensor", path("in.npz"), "--logits", path("out.npy")}));
  const HostTensor logits = parse_npy(read_file(path("out.npy")), "out.npy");
  ASSERT_EQ(logits.dtype, FileDType::kF32);
  ASSERT_EQ(logits.shape, (std::vector<int64_t>{22, 4}));

  const std::vector<nlohmann::json> lines =
      json_lines(run_riffle({"predict", checkpoint("best"), "idx:" + path("idx"), "--json"}).out);
  ASSERT_EQ(lines.size(), 22u);
  const auto* row = reinterpret_cast<const float*>(logits.bytes.data());
  for (const nlohmann::json& line : lines) {
    const std::vector<Prediction> expected = most_probable(row, 4, 1);
    EXPECT_EQ(line.at("predictions").at(0).at("index"), expected[0].index);
    EXPECT_EQ(line.at("predictions").at(0).at("probability"), expected[0].probability);
    row += 4;
  }

  write_npz(path("in.npz"), "pictures", images);
  expect_failure(run_riffle({"predict", checkpoint("best"), "--tensor", path("in.npz"), "--logits", path("l.npy")}), 1,
                 {"in.npz", "'images'"});
  images.shape = {22, 32, 16, 2};
  write_npz(path("in.npz"), "images", images);
  expect_failure(run_riffle({"predict", checkpoint("best"), "--tensor", path("in.npz"), "--logits", path("l.npy")}), 1,
                 {"(22,32,16,2)", "(N,H,W,1)"});
}

TEST_F(TrainedOnIdx, InspectShowsLayersAndMetadata) {
  const ProcessResult table = run_riffle({"inspect", checkpoint("best")});
  expect_success(table);
  expect_contains(table.out, {"total", "MACs", "input 32x32x1", "metadata", "duration: 6ep"});
  const ProcessResult json = run_riffle({"inspect", path("tiny.yaml"), "--json", "model.classes=10"});
  expect_success(json);
  const nlohmann::json parsed = nlohmann::json::parse(json.out);
  int64_t parameters = 0;
  for (const nlohmann::json& layer : parsed.at("layers")) parameters += layer.at("parameters").get<int64_t>();
  EXPECT_EQ(parsed.at("parameters"), parameters);
  EXPECT_EQ(parsed.at("model").at("classes"), 10);
}

TEST_F(TrainedOnIdx, DamagedAndForeignCheckpointsAreRefused) {
  const std::string bytes = text_of(checkpoint("last"));
  write_bytes(path("truncated.safetensors"), {bytes.begin(), bytes.end() - 100});
  for (const char* command : {"eval", "inspect"}) {
    expect_failure(run_riffle({command, path("truncated.safetensors")}), 1, {path("truncated.safetensors")});
  }
  expect_failure(run_riffle({"eval", path("absent.safetensors")}), 1, {path("absent.safetensors")});
  expect_failure(run_riffle({"eval", path("tiny.yaml")}), 1, {path("tiny.yaml")});

  CheckpointFile file = read_safetensors(checkpoint("last"));
  CheckpointMetadata metadata = metadata_from_json(file.metadata, "last");
  metadata.model.stage_channels = {16, 24, 48};
  metadata.model.stage_repeats = {2, 2, 1};
  file.metadata = to_json(metadata);
  write_safetensors(path("foreign.safetensors"), file);
  expect_failure(run_riffle({"eval", path("foreign.safetensors")}), 1, {"foreign.safetensors", "missing", "stage3.1"});

  file = read_safetensors(checkpoint("last"));
  file.tensors["fc.weight"].shape = {8, 16};
  file.tensors["stage9.weight"] = file.tensors.at("fc.bias");
  write_safetensors(path("foreign.safetensors"), file);
  expect_failure(run_riffle({"predict", path("foreign.safetensors"), "idx:" + path("idx")}), 1,
                 {"foreign.safetensors does not fit", "0 missing, 1 unexpected, 1 mismatched",
                  "unexpected: stage9.weight", "mismatched: fc.weight (file 8x16, model 4x32)"});
}

// Its settings may be another version's; the data is all that an evaluation needs of them.
TEST_F(TrainedOnIdx, SettingsOfOtherVersionsDoNotStopAnEvaluation) {
  CheckpointFile file = read_safetensors(checkpoint("last"));
  const auto write_with_config = [&](const std::string& yaml) {
    file.metadata["config"] = yaml;
    write_safetensors(path("other.safetensors"), file);
  };
  const std::string data = "data: {source: \"idx:" + path("idx") + "\", val_split: ";
  write_with_config(data + "val, shards: 4}\nfuture: {x: 1}\n");
  EXPECT_EQ(evaluate(path("other.safetensors")).at("images"), 22);
  write_with_config(data + "everything}\n");
  EXPECT_EQ(evaluate(path("other.safetensors"), {"--data", path("idx"), "--split", "val"}).at("images"), 22);
  expect_failure(run_riffle({"eval", path("other.safetensors")}), 1,
                 {"other.safetensors (its configuration)", "data.val_split", "--data and --split"});
}

TEST_F(TrainedOnIdx, WeightsCanBeChosen) {
  const nlohmann::json val = records(json_lines(text_of(path("run/metrics.jsonl"))), "val").back();
  const nlohmann::json ema = evaluate(checkpoint("last"), {"--weights", "ema", "--batch", "8"});
  EXPECT_EQ(ema.at("loss"), val.at("ema_loss"));
  EXPECT_EQ(evaluate(checkpoint("last"), {"--weights", "raw", "--batch", "8"}).at("loss"), val.at("loss"));
  EXPECT_NE(val.at("ema_loss"), val.at("loss"));
  const auto predict = [](const std::string& weights) {
    return run_riffle({"predict", checkpoint("last"), "idx:" + path("idx"), "--json", "--weights", weights}).out;
  };
  EXPECT_EQ(json_lines(predict("ema")).size(), 22u);
  EXPECT_NE(predict("ema"), predict("raw"));

  CheckpointFile file = read_safetensors(checkpoint("last"));
  for (auto at = file.tensors.begin(); at != file.tensors.end();) {
    at = at->first.rfind("ema.", 0) == 0 ? file.tensors.erase(at) : std::next(at);
  }
  write_safetensors(path("single.safetensors"), file);
  expect_failure(run_riffle({"eval", path("single.safetensors"), "--weights", "ema"}), 1, {"no averaged weights"});
  file.metadata["weights"] = "ema";
  write_safetensors(path("single.safetensors"), file);
  EXPECT_EQ(evaluate(path("single.safetensors"), {"--weights", "ema", "--batch", "8"}).at("loss"), val.at("loss"));
  expect_failure(run_riffle({"eval", path("single.safetensors"), "--weights", "raw"}), 1, {"no raw weights"});
  expect_failure(run_riffle({"eval", checkpoint("last"), "--weights", "best"}), 2, {"--weights", "raw", "ema"});
}

TEST_F(TrainedOnIdx, WhereResultsGoIsCheckedBeforeTheWork) {
  // The checkpoint is absent as well; the target is looked at first.
  expect_failure(run_riffle({"eval", path("absent"), "--json", path("nowhere/x.json")}), 1, {"nowhere/x.json"});
  expect_failure(run_riffle({"predict", path("absent"), "--tensor", path("in"), "--logits", path("nowhere/l.npy")}), 1,
                 {"nowhere/l.npy"});
  expect_failure(run_riffle({"train", path("tiny.yaml"), "-o", path("run"), "--dry-run"}), 1, {"not empty"});
}

TEST_F(TrainedOnIdx, ThreadsAndRepetitionChangeNoBit) {
  const auto train = [](const std::string& run, const std::vector<std::string>& more) {
    std::vector<std::string> arguments{"train", path("tiny.yaml"), "-o", path(run)};
    arguments.insert(arguments.end(), more.begin(), more.end());
    expect_success(run_riffle(arguments));
    return read_safetensors(path(run + "/checkpoints/last.safetensors")).tensors;
  };
  const TensorMap one = train("one", {"--threads", "1", "data.loader_threads=1"});
  const TensorMap two = train("two", {"--threads", "2", "data.loader_threads=3", "data.prefetch=2"});
  const TensorMap other_seed = train("seed", {"--threads", "2", "--seed", "8"});
  ASSERT_EQ(one.size(), two.size());
  bool seed_changes = false;
  for (const auto& [name, tensor] : one) {
    EXPECT_EQ(tensor.bytes, two.at(name).bytes) << name;
    seed_changes = seed_changes || tensor.bytes != other_seed.at(name).bytes;
  }
  EXPECT_TRUE(seed_changes);
}

class TrainedOnFolders : public testing::Test {
 protected:
  void SetUp() override {
    write_image_folder(path("data/train"), 64, 32, 1);
    write_image_folder(path("data/val"), 12, 32, 2);
    std::ofstream(path("tiny.yaml")) << tiny_config(path("data"), 3);
  }
  std::string path(const std::string& name) const { return folder_.path() + "/" + name; }
  ProcessResult train(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments{"train", path("tiny.yaml"), "-o", path("run"), "--overwrite"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_riffle(arguments);
  }

  TemporaryFolder folder_;
};

TEST_F(TrainedOnFolders, PredictsFilesFoldersAndPatterns) {
  expect_success(train({"train.duration=5ep"}));
  const std::string best = path("run/checkpoints/best.safetensors"), val = path("data/val");
  const auto predict = [&](const std::string& what) {
    return run_riffle({"predict", best, what, "--json", "--topk", "1"});
  };
  const std::vector<nlohmann::json> of_folder = json_lines(predict(val).out);
  ASSERT_EQ(of_folder.size(), 12u);
  int correct = 0;
  for (const nlohmann::json& line : of_folder) {
    const std::string image = line.at("path"), name = line.at("predictions").at(0).at("name");
    correct += image.find("/" + name + "/") != std::string::npos ? 1 : 0;
  }
  EXPECT_GE(correct, 11);
  EXPECT_EQ(json_lines(predict(val + "/south-*/*.png").out).size(), 6u);
  EXPECT_EQ(json_lines(predict(val + "/south-east/2.png").out).size(), 1u);
  expect_failure(predict(val + "/*.jpg"), 1, {val + "/*.jpg", "no match"});

  write_bytes(val + "/south-east/broken.png", {'n', 'o'});
  const ProcessResult partly = predict(val);
  expect_failure(partly, 1, {"broken.png", "1 of 13 images"});
  EXPECT_EQ(json_lines(partly.out), of_folder);
  expect_failure(run_riffle({"eval", best}), 1, {"broken.png"});
}

TEST_F(TrainedOnFolders, SubsetsAndOtherOrdersOfClassesAreMatchedByName) {
  expect_success(train({"train.duration=5ep"}));
  const std::string best = path("run/checkpoints/best.safetensors");
  std::filesystem::remove_all(path("data/val/north-east"));
  std::filesystem::remove_all(path("data/val/south-east"));
  const ProcessResult result = run_riffle({"eval", best, "--json", path("result.json")});
  expect_success(result);
  expect_contains(result.out, {"2 of the network's 4 classes", "top-1 accuracy", "error"});
  const nlohmann::json json = nlohmann::json::parse(text_of(path("result.json")));
  EXPECT_EQ(json.at("images"), 6);
  EXPECT_GE(json.at("top1_correct"), 5);
}

TEST_F(TrainedOnFolders, UnreadableTrainingImagesAreSkippedCountedAndLimited) {
  write_bytes(path("data/train/south-east/broken.png"), {'n', 'o'});
  const ProcessResult skipped = train({"train.duration=1ep"});
  expect_success(skipped);
  expect_contains(skipped.out, {"1 unreadable image", "broken.png"});
  expect_failure(train({"train.duration=1ep", "data.max_bad_images=0"}), 1, {"broken.png", "max_bad_images"});
}

TEST_F(TrainedOnFolders, AccumulationMakesStepsOfSeveralBatches) {
  const ProcessResult result = train({"optimizer.accumulate=3", "train.duration=2ep", "optimizer.clip_norm=5"});
  expect_success(result);
  const std::vector<nlohmann::json> steps = records(json_lines(text_of(path("run/metrics.jsonl"))), "train");
  EXPECT_EQ(steps.back().at("step"), 4);
  EXPECT_GT(steps.back().at("grad_norm").get<double>(), 0);
  expect_contains(result.out, {"4 steps of 24 images, 2 an epoch", "grad norm"});
}

// What would otherwise end a run after its first epoch, or measure nothing.
TEST_F(TrainedOnIdx, DataThatCannotBeValidatedOnStopsBeforeTraining) {
  const std::string config = path("tiny.yaml");
  expect_failure(run_riffle({"train", config, "-o", path("crop"), "eval.crop=64", "--dry-run"}), 2,
                 {"(validation)", "32x32", "eval.crop"});
  expect_failure(run_riffle({"train", config, "-o", path("same"), "data.val_split=train"}), 2,
                 {"training and the validation images are the same", "DIR/val/<class>"});
  write_image_folder(path("plain"), 16, 32, 3);
  expect_failure(run_riffle({"train", config, "-o", path("same"), "data.source=folder:" + path("plain")}), 2,
                 {"training and the validation images are the same"});
}

TEST_F(TrainedOnIdx, ADryRunOfOneStepIsOneStep) {
  const ProcessResult result = run_riffle({"train", path("tiny.yaml"), "train.duration=1it", "--dry-run"});
  expect_success(result);
  expect_contains(result.out, {"1 step taken"});
}

TEST_F(TrainedOnIdx, ABatchLargerThanTheValidationDataIsTheData) {
  expect_success(run_riffle({"train", path("tiny.yaml"), "-o", path("large"), "train.duration=1it",
                             "eval.batch=1000000", "train.log_every_steps=2000000000"}));
  expect_failure(run_riffle({"train", path("tiny.yaml"), "eval.batch=4611686018427387904"}), 2,
                 {"eval.batch", "1048576"});
}

TEST_F(TrainedOnIdx, PredictionGoesOnPastPathsAndImagesThatFail) {
  write_png(path("good.png"), quadrant_image(0, 32, 1, 4));
  write_png(path("large.png"), quadrant_image(0, 40, 1, 4));
  const ProcessResult result =
      run_riffle({"predict", checkpoint("best"), path("absent.png"), path("large.png"), path("good.png"), "--json"});
  EXPECT_EQ(result.exit_code, 1);
  expect_contains(result.err, {"absent.png", "large.png: ", "40x40", "1 of 2 images could not be predicted"});
  const std::vector<nlohmann::json> lines = json_lines(result.out);
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_EQ(lines[0].at("path"), path("good.png"));
}

}  // namespace
}  // namespace riffle
