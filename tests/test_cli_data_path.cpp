// What the loader does for a run, through the program: sizes that change, shuffled shards, unreadable and truncated images,
// classes in another order, few file descriptors.
#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "riffle_process.h"
#include "tiny_data.h"

namespace riffle {
namespace {

class DataPath : public testing::Test {
 protected:
  void SetUp() override {
    write_image_folder(path("data/train"), 48, 32, 1);
    write_image_folder(path("data/val"), 12, 32, 2);
    std::ofstream(path("tiny.yaml")) << tiny_config(path("data"), 3);
  }
  std::string path(const std::string& name) const { return folder_.path() + "/" + name; }
  ProcessResult train(const std::string& run, const std::vector<std::string>& overrides,
                      const std::string& setup = ":") const {
    std::vector<std::string> arguments{"train", path("tiny.yaml"), "-o", path(run), "--threads", "2"};
    arguments.insert(arguments.end(), overrides.begin(), overrides.end());
    return run_riffle(arguments, setup);
  }
  std::string checkpoint(const std::string& run) const { return path(run + "/checkpoints/last.safetensors"); }
  nlohmann::json evaluate(const std::string& run, const std::vector<std::string>& more) const {
    std::vector<std::string> arguments{"eval", checkpoint(run), "--json", "-"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const ProcessResult result = run_riffle(arguments);
    expect_success(result);
    return nlohmann::json::parse(result.out);
  }
  void break_image(const std::string& name) const { write_bytes(path(name), {'n', 'o', ' ', 'i', 'm', 'a', 'g', 'e'}); }

  TemporaryFolder folder_;
};

// FixRes, and progressive resizing on the way there.
TEST_F(DataPath, SmallImagesFirstAndLargerOnesInEvaluation) {
  const std::vector<std::string> recipe{"augment.transforms=[random_resized_crop, flip]", "augment.size=24",
                                        "eval.resize=36", "eval.crop=32"};
  expect_success(train("fixres", recipe));
  EXPECT_EQ(evaluate("fixres", {}).at("preprocessing").at("crop"), 32);

  std::vector<std::string> progressive = recipe;
  progressive[1] = "augment.size=16";
  progressive.insert(progressive.end(), {"augment.sizes=[{from: 1ep, size: 32}, {from: 2ep, size: 24}]",
                                         "train.duration=3ep", "optimizer.accumulate=2"});
  const ProcessResult result = train("progressive", progressive);
  expect_success(result);
  expect_contains(result.out, {"image size  32x32 from epoch 2 on", "image size  24x24 from epoch 3 on"});
  // Only the sizes of its first epoch matter to a run of one.
  progressive[5] = "train.duration=1ep";
  expect_success(train("one", progressive));
  progressive[4] = "augment.sizes=[]";
  expect_success(train("plain", progressive));
  EXPECT_EQ(evaluate("one", {}).at("loss"), evaluate("plain", {}).at("loss"));
}

TEST_F(DataPath, SizesThatCannotBe) {
  const std::string crop = "augment.transforms=[random_resized_crop]";
  const auto sizes = [&](const std::string& text) { return train("none", {crop, "augment.sizes=" + text}); };
  expect_failure(sizes("[{from: 0.5ep, size: 32}]"), 2, {"augment.sizes", "0.5ep", "whole epochs"});
  expect_failure(sizes("[{from: 0ep, size: 32}]"), 2, {"0ep", "from 1ep on"});
  expect_failure(sizes("[{from: 10it, size: 32}]"), 2, {"10it", "whole epochs"});
  expect_failure(sizes("[{from: 3ep, size: 32}, {from: 3ep, size: 64}]"), 2, {"3ep", "later and later"});
  expect_failure(sizes("[{from: 3ep, size: 0}]"), 2, {"augment.sizes.size", ">= 1"});
  expect_failure(sizes("[{from: 3ep}]"), 2, {"no size", "{from: 30ep, size: 192}"});
  expect_failure(sizes("[{from: 3ep, size: 8, crop: 4}]"), 2, {"unknown key 'crop'"});
  expect_failure(train("none", {"augment.sizes=[{from: 1ep, size: 64}]"}), 2, {"random_resized_crop"});
}

TEST_F(DataPath, ShardsAreShuffledTheSameWayEveryTime) {
  expect_success(run_riffle({"data", "pack", path("data"), path("packed"), "--shards", "5"}));
  const std::string source = "data.source=pack:" + path("packed");
  const std::vector<std::string> shards{source, "data.shuffle=shards", "data.shuffle_window=2"};
  expect_success(train("first", shards));
  std::vector<std::string> other_threads = shards;
  other_threads.emplace_back("data.loader_threads=8");
  expect_success(train("second", other_threads));
  const double loss = evaluate("first", {}).at("loss");
  EXPECT_EQ(loss, evaluate("second", {}).at("loss"));
  expect_success(train("full", {source}));
  EXPECT_NE(loss, evaluate("full", {}).at("loss"));
  expect_failure(train("none", {"data.shuffle=shards"}), 2, {"data.shuffle is shards", "do not lie in tar files"});
  expect_failure(train("none", {source, "data.shuffle_window=3"}), 2, {"data.shuffle_window", "data.shuffle is full"});
}

TEST_F(DataPath, UnreadableImagesAreAnErrorUnlessAllowed) {
  expect_success(train("run", {}));
  const nlohmann::json whole = evaluate("run", {"--allow-bad=0"});
  EXPECT_EQ(whole.at("bad_images"), 0);
  break_image("data/val/north-east/0.png");
  break_image("data/val/south-west/11.png");
  expect_failure(run_riffle({"eval", checkpoint("run")}), 1, {"north-east/0.png"});
  expect_failure(run_riffle({"eval", checkpoint("run"), "--allow-bad=1"}), 1,
                 {"2 unreadable images, more than the 1", "south-west/11.png"});
  expect_failure(run_riffle({"eval", checkpoint("run"), "--allow-bad=0"}), 1, {"north-east/0.png"});
  expect_failure(run_riffle({"eval", checkpoint("run"), "--allow-bad=few"}), 2,
                 {"--allow-bad", "'few' is not a whole"});
  for (const char* batch : {"1", "5", "12"}) {
    const nlohmann::json result = evaluate("run", {"--allow-bad", "--batch", batch});
    EXPECT_EQ(result.at("images"), 12);
    EXPECT_EQ(result.at("bad_images"), 2);
    EXPECT_DOUBLE_EQ(result.at("top1").get<double>(), result.at("top1_correct").get<double>() / 12);
    EXPECT_LE(result.at("top5_correct"), 10);  // of 4 classes: every image that was read
    EXPECT_DOUBLE_EQ(result.at("top5").get<double>(), 10.0 / 12);
    EXPECT_TRUE(std::isfinite(result.at("loss").get<double>()));
  }
  const ProcessResult text = run_riffle({"eval", checkpoint("run"), "--allow-bad=2"});
  expect_success(text);
  expect_contains(text.out, {"2 unreadable images were counted as wrong", "north-east/0.png", "south-west/11.png",
                             "2 images could not be read and count as wrong", "12 images"});
}

TEST_F(DataPath, UnreadableValidationImagesInARun) {
  break_image("data/val/north-east/0.png");
  expect_failure(train("strict", {}), 1, {"north-east/0.png"});
  const ProcessResult result = train("lenient", {"eval.max_bad_images=1"});
  expect_success(result);
  expect_contains(result.out, {"1 unreadable image was counted as wrong (eval.max_bad_images)"});
  break_image("data/val/south-west/11.png");
  expect_failure(train("again", {"eval.max_bad_images=1"}), 1, {"2 unreadable images, more than the 1"});
}

TEST_F(DataPath, TruncatedImagesAreErrorsUnlessAccepted) {
  const auto cut = [&](const std::string& name) {
    std::vector<uint8_t> bytes = read_file(path(name));
    bytes.resize(bytes.size() - 20);  // in the image data: IEND has 12 bytes
    write_bytes(path(name), bytes);
  };
  for (const char* name : {"data/train/north-east/0.png", "data/val/north-east/0.png", "data/val/south-west/11.png"})
    cut(name);
  expect_failure(train("strict", {}), 1, {"val/north-east/0.png", "truncated"});
  const ProcessResult run = train("run", {"data.truncated=accept", "data.max_bad_images=0", "train.duration=2ep"});
  expect_success(run);
  for (const char* line : {"1 truncated image was used as far as the file goes (data.truncated)",
                           "2 truncated images were used as far as the file goes (data.truncated)"}) {
    const size_t first = run.out.find(line);
    EXPECT_NE(first, std::string::npos) << line << "\n" << run.out;
    EXPECT_EQ(run.out.find(line, first + 1), std::string::npos) << "named again in the second epoch:\n" << run.out;
  }
  expect_contains(run.out, {"train/north-east/0.png", "val/north-east/0.png", "val/south-west/11.png"});
  // As in training, unless said otherwise; other data is strict.
  const nlohmann::json result = evaluate("run", {});
  EXPECT_EQ(result.at("truncated_images"), 2);
  EXPECT_EQ(result.at("bad_images"), 0);
  expect_failure(run_riffle({"eval", checkpoint("run"), "--truncated", "error"}), 1, {"north-east/0.png"});
  std::filesystem::copy(path("data"), path("other"), std::filesystem::copy_options::recursive);
  expect_failure(run_riffle({"eval", checkpoint("run"), "--data", path("other")}), 1, {"other/val/north-east/0.png"});
  const nlohmann::json other = evaluate("run", {"--data", path("other"), "--truncated", "accept"});
  EXPECT_EQ(other.at("truncated_images"), 2);
  EXPECT_EQ(other.at("loss"), result.at("loss"));
}

// The network's classes are in another order than the folders'; labels go by names.
TEST_F(DataPath, ClassesInAnotherOrder) {
  expect_success(train("run", {"data.class_names=[south-west, north-west, south-east, north-east]"}));
  std::filesystem::copy(path("data"), path("other"), std::filesystem::copy_options::recursive);
  const nlohmann::json own = evaluate("run", {}), other = evaluate("run", {"--data", path("other")});
  for (const char* key : {"loss", "top1_correct", "images"}) EXPECT_EQ(other.at(key), own.at(key)) << key;
  const ProcessResult result = run_riffle({"eval", checkpoint("run"), "--data", path("other")});
  expect_contains(result.out, {"labels matched by class name", "in another order"});
  std::filesystem::rename(path("other/val/north-east"), path("other/val/north"));
  expect_failure(run_riffle({"eval", checkpoint("run"), "--data", path("other")}), 1,
                 {"1 of its 4 classes are unknown to the network", "north"});
}

TEST_F(DataPath, AllImagesUnreadable) {
  expect_success(train("run", {}));
  for (const auto& entry : std::filesystem::recursive_directory_iterator(path("data/val")))
    if (entry.is_regular_file()) write_bytes(entry.path().string(), {'x'});
  expect_failure(run_riffle({"eval", checkpoint("run"), "--allow-bad"}), 1, {"no image could be read"});
}

// More shards than the process may open files.
TEST_F(DataPath, FewFileDescriptors) {
  write_image_folder(path("many/train"), 160, 32, 1);
  write_image_folder(path("many/val"), 8, 32, 2);
  expect_success(run_riffle({"data", "pack", path("many"), path("packed"), "--shards", "150", "--split", "train"}));
  expect_success(run_riffle({"data", "pack", path("many"), path("packed"), "--split", "val"}));
  const std::vector<std::string> run{"data.source=pack:" + path("packed"), "train.duration=1ep"};
  expect_success(train("few", run, "ulimit -n 96"));
  expect_success(train("plenty", run));
  EXPECT_EQ(evaluate("few", {}).at("loss"), evaluate("plenty", {}).at("loss"));
}

}  // namespace
}  // namespace riffle
