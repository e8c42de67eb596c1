// The preprocessing of a checkpoint through the program: training stores it, `eval` and `predict` use it, and what
// overrides it is said.
#include <fstream>
#include <nlohmann/json.hpp>

#include "data/orientation.h"
#include "riffle_process.h"
#include "tiny_data.h"
#include "train/checkpoint/checkpoint.h"

namespace riffle {
namespace {

class Preprocessing : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    write_image_folder(path("data/train"), 16, 40, 1);
    write_image_folder(path("data/val"), 8, 40, 2);
    std::ofstream(path("tiny.yaml")) << tiny_config(path("data"), 3);
    const std::string evaluation =
        "eval={resize: 36, crop: 32, interpolation: opencv-bicubic, rounding: half-up, crop_offset: floor}";
    training_ = run_riffle({"train", path("tiny.yaml"), "-o", path("run"), "train.duration=1ep",
                            "augment={size: 32, transforms: [random_resized_crop]}", evaluation});
  }
  static void TearDownTestSuite() { delete folder_; }
  void SetUp() override { ASSERT_EQ(training_.exit_code, 0) << training_.out << training_.err; }

  static std::string path(const std::string& name) { return folder_->path() + "/" + name; }
  static std::string checkpoint() { return path("run/checkpoints/last.safetensors"); }

  struct Evaluation {
    nlohmann::json json;
    std::string messages;
  };
  static Evaluation evaluate(const std::vector<std::string>& more) {
    std::vector<std::string> arguments{"eval", checkpoint(), "--json", path("result.json")};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const ProcessResult result = run_riffle(arguments);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return {nlohmann::json::parse(text_of(path("result.json"))), result.err};
  }

  static TemporaryFolder* folder_;
  static ProcessResult training_;
  const nlohmann::json stored_{{"resize", 36},
                               {"crop", 32},
                               {"interpolation", "opencv-bicubic"},
                               {"rounding", "half-up"},
                               {"crop_offset", "floor"},
                               {"exif_orientation", false}};
};

TemporaryFolder* Preprocessing::folder_ = nullptr;
ProcessResult Preprocessing::training_;

TEST_F(Preprocessing, IsStoredAndShown) {
  const ProcessResult json = run_riffle({"inspect", checkpoint(), "--json"}),
                      text = run_riffle({"inspect", checkpoint()});
  expect_success(json);
  EXPECT_EQ(nlohmann::json::parse(json.out).at("metadata").at("preprocessing"), stored_);
  expect_contains(text.out, {"preprocessing: ", "\"interpolation\":\"opencv-bicubic\"", "\"rounding\":\"half-up\"",
                             "\"crop_offset\":\"floor\""});
}

TEST_F(Preprocessing, OfTheCheckpointIsUsedSilently) {
  const Evaluation plain = evaluate({});
  EXPECT_EQ(plain.json.at("preprocessing"), stored_);
  EXPECT_EQ(plain.json.at("weights"), "raw");
  EXPECT_EQ(plain.messages, "");
  // Options that change nothing are no reason to warn.
  const Evaluation same = evaluate({"--resize", "36", "--crop", "32", "--interpolation", "opencv-bicubic"});
  EXPECT_EQ(same.messages, "");
  EXPECT_EQ(same.json.at("loss"), plain.json.at("loss"));
}

TEST_F(Preprocessing, OptionsOverrideItWithAWarning) {
  const Evaluation plain = evaluate({});
  const Evaluation changed = evaluate({"--interpolation", "pillow-bilinear"});
  EXPECT_NE(changed.json.at("loss"), plain.json.at("loss"));
  expect_contains(changed.messages, {"riffle: warning: " + checkpoint() +
                                     " says resize 36, crop 32, opencv-bicubic, half-up, floor; used is resize 36, "
                                     "crop 32, pillow-bilinear, half-up, floor\n"});
  nlohmann::json expected = stored_;
  expected["interpolation"] = "pillow-bilinear";
  EXPECT_EQ(changed.json.at("preprocessing"), expected);

  const Evaluation larger = evaluate({"--resize", "48", "--crop", "40"});
  expected = stored_;
  expected["resize"] = 48;
  expected["crop"] = 40;
  EXPECT_EQ(larger.json.at("preprocessing"), expected);
  expect_contains(evaluate({"--resize", "0", "--crop", "40"}).messages, {"used is no resizing, crop 40\n"});
}

TEST_F(Preprocessing, PredictTakesTheSameOptions) {
  const auto predict = [](const std::vector<std::string>& more) {
    std::vector<std::string> arguments{"predict", checkpoint(), path("data/val/south-east/2.png"), "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    ProcessResult result = run_riffle(arguments);
    expect_success(result);
    return result;
  };
  const ProcessResult plain = predict({}), changed = predict({"--interpolation", "opencv-bilinear"});
  EXPECT_EQ(plain.err.find("warning"), std::string::npos) << plain.err;
  EXPECT_FALSE(nlohmann::json::parse(plain.out).contains("preprocessing"));
  expect_contains(changed.err, {"warning", "opencv-bicubic", "used is", "opencv-bilinear"});
  const nlohmann::json line = nlohmann::json::parse(changed.out);
  EXPECT_EQ(line.at("preprocessing").at("interpolation"), "opencv-bilinear");
  EXPECT_NE(line.at("predictions"), nlohmann::json::parse(plain.out).at("predictions"));
}

TEST_F(Preprocessing, TurnsPhotographsWhereTheCheckpointSaysSo) {
  const Image stored = decode_file(image_fixture("exif_rotated.jpg"), 3);
  write_png(path("stored.png"), stored);
  write_png(path("turned.png"), upright(stored));
  CheckpointFile file = read_safetensors(checkpoint());
  file.metadata["preprocessing"]["exif_orientation"] = true;
  write_safetensors(path("turning.safetensors"), file);
  const auto predictions = [](const std::string& of, const std::string& image) {
    const ProcessResult result = run_riffle({"predict", of, image, "--json"});
    expect_success(result);
    return nlohmann::json::parse(result.out).at("predictions");
  };
  const std::string photograph = image_fixture("exif_rotated.jpg");
  EXPECT_EQ(predictions(checkpoint(), photograph), predictions(checkpoint(), path("stored.png")));
  EXPECT_EQ(predictions(path("turning.safetensors"), photograph), predictions(checkpoint(), path("turned.png")));
  EXPECT_NE(predictions(checkpoint(), path("stored.png")), predictions(checkpoint(), path("turned.png")));
}

TEST_F(Preprocessing, OptionsThatDoNotFitAreUsageErrors) {
  for (const char* command : {"eval", "predict"}) {
    const auto with = [&](const std::vector<std::string>& more) {
      std::vector<std::string> arguments{command, checkpoint()};
      if (command == std::string("predict")) arguments.push_back(path("data/val"));
      arguments.insert(arguments.end(), more.begin(), more.end());
      return run_riffle(arguments);
    };
    expect_failure(with({"--crop", "40"}), 2,
                   {"a resize of 36 and a crop of 40", "says resize 36", "at least 40, or 0"});
    expect_failure(with({"--resize", "0", "--interpolation", "pillow-bicubic"}), 2,
                   {"--interpolation pillow-bicubic, but images are not resized", "expected --resize"});
    expect_failure(with({"--interpolation", "bilinear"}), 2, {"--interpolation", "bilinear", "opencv-bilinear"});
    expect_failure(with({"--resize", "wide"}), 2, {"--resize", "'wide' is not a whole number from 0 to 16384"});
    expect_failure(with({"--crop", "0"}), 2, {"--crop", "'0' is not a whole number from 1"});
  }
  // Images without resizing must have the size of the crop.
  expect_failure(run_riffle({"predict", checkpoint(), path("data/val"), "--resize", "0"}), 1,
                 {"the image is 40x40", "no resizing, crop 32"});
  expect_failure(run_riffle({"predict", checkpoint(), "--tensor", "in.npz", "--logits", "out.npy", "--crop", "8"}), 2,
                 {"--tensor", "excludes", "--crop"});
}

}  // namespace
}  // namespace riffle
