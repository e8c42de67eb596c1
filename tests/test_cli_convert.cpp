// riffle convert as a user meets it: files of each dialect's authors in, the same logits out; files for others out, and
// back without a bit changed; one clear message where it cannot be.
#include <nlohmann/json.hpp>

#include "golden_io.h"
#include "riffle_process.h"
#include "shared_data.h"
#include "train/checkpoint/checkpoint.h"
#include "train/checkpoint/pth.h"
#include "train/checkpoint/read_tensor_file.h"
#include "train/loaded_model.h"
#include "train/make_backend.h"
#include "train/predictor.h"

namespace riffle {
namespace {

std::string fixture(const std::string& name) {
  return std::string(RIFFLE_SOURCE_DIR) + "/tests/fixtures/conversion/" + name;
}

void write_text(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

// max |a - b| / max |b|, over all of them.
double relative_difference_of(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  double error = 0, largest = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    error = std::max(error, std::fabs(static_cast<double>(a[i]) - b[i]));
    largest = std::max(largest, std::fabs(static_cast<double>(b[i])));
  }
  return error / largest;
}

void expect_same_tensors(const TensorMap& actual, const TensorMap& expected) {
  EXPECT_EQ(actual.size(), expected.size());
  for (const auto& [name, tensor] : expected) {
    ASSERT_EQ(actual.count(name), 1U) << name;
    EXPECT_EQ(actual.at(name).dtype, tensor.dtype) << name;
    EXPECT_EQ(actual.at(name).shape, tensor.shape) << name;
    EXPECT_EQ(actual.at(name).bytes, tensor.bytes) << name;
  }
}

class Convert : public testing::Test {
 protected:
  std::string path(const std::string& name) const { return folder_.path() + "/" + name; }

  // Converts `input` and returns the output's path.
  std::string converted(const std::string& input, const std::string& output,
                        const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments{"convert", input, path(output)};
    arguments.insert(arguments.end(), more.begin(), more.end());
    expect_success(run_riffle(arguments));
    return path(output);
  }
  std::vector<float> logits(const std::string& checkpoint, const std::string& images) const {
    expect_success(
        run_riffle({"predict", checkpoint, "--tensor", images, "--logits", path("logits.npy"), "--device", "cpu"}));
    const std::string bytes = text_of(path("logits.npy"));
    return elements_as<float>(parse_npy(std::vector<uint8_t>(bytes.begin(), bytes.end()), "logits.npy"), "logits");
  }

  TemporaryFolder folder_;
};

struct Published {
  const char *dialect, *file;
};
class ConvertDialect : public Convert, public testing::WithParamInterface<Published> {};

TEST_P(ConvertDialect, LogitsAreTheAuthors) {
  const Published& published = GetParam();
  const std::string checkpoint = converted(fixture(published.file), "a.safetensors");
  const std::vector<float> expected = Golden(fixture("logits.npz")).values<float>(published.dialect);
  EXPECT_LE(relative_difference_of(logits(checkpoint, fixture("images.npz")), expected), 1e-5);
}

// The file for others holds what the authors' file held, under the same names.
TEST_P(ConvertDialect, ThereAndBackChangesNoBit) {
  const Published& published = GetParam();
  const bool tensorpack = std::string(published.dialect) == "tensorpack";
  const std::string back =
      converted(converted(fixture(published.file), "a.safetensors"), tensorpack ? "b.npz" : "b.pth");
  TensorMap original = read_tensor_file(fixture(published.file)).tensors;
  for (const char* name : {"linear/W/Momentum", "global_step", "learning_rate"}) original.erase(name);
  expect_same_tensors(read_tensor_file(back).tensors, original);
  // And from it to the same checkpoint again.
  EXPECT_EQ(text_of(converted(back, "c.safetensors")), text_of(path("a.safetensors")));
}

INSTANTIATE_TEST_SUITE_P(Dialects, ConvertDialect,
                         testing::Values(Published{"torchvision", "torchvision.pth"},
                                         Published{"megvii", "megvii.pth.tar"},
                                         Published{"tensorpack", "tensorpack.npz"}),
                         [](const auto& test) { return std::string(test.param.dialect); });

// The entry asked for is the one that is read, also one of Riffle's own name for averages.
TEST_F(Convert, EntriesOfTrainingCheckpoints) {
  const std::string file = std::string(RIFFLE_SOURCE_DIR) + "/tests/fixtures/pth/checkpoint.pth.tar";
  // It is no ShuffleNetV2: what was left aside explains the error.
  const ProcessResult averages =
      run_riffle({"convert", file, path("a.safetensors"), "--entry", "model_ema", "--json", path("a.json")});
  expect_failure(averages, 1, {"checkpoint.pth.tar"});
  expect_contains(averages.out, {"weights are those under 'model_ema'", "'epoch': 3, skipped"});
  const nlohmann::json report = nlohmann::json::parse(text_of(path("a.json")));
  EXPECT_EQ(report["format"], "PyTorch (zip)");
  EXPECT_FALSE(report["notes"].empty());
  EXPECT_FALSE(report["error"].get<std::string>().empty());
  expect_failure(run_riffle({"convert", file, path("a.safetensors"), "--entry", "ema"}), 2, {"no entry 'ema'"});
}

// A state dict cannot say whose images its weights want, nor what the stem does; the way back is said.
TEST_F(Convert, WhatAStateDictLosesIsSaid) {
  const std::string direct = converted(fixture("megvii.pth.tar"), "direct.safetensors", {"--to", "torchvision"});
  const ProcessResult out = run_riffle({"convert", fixture("megvii.pth.tar"), path("t.pth"), "--to", "torchvision"});
  expect_success(out);
  expect_contains(out.out, {"warning", "other images than the torchvision dialect's", "--preprocessing"});
  const std::string back = converted(path("t.pth"), "back.safetensors", {"--preprocessing", "megvii"});
  EXPECT_EQ(logits(back, fixture("images.npz")), logits(direct, fixture("images.npz")));

  const std::string small =
      converted(fixture("torchvision.pth"), "small.safetensors", {"--stem-stride", "1", "--stem-max-pool", "false"});
  const ProcessResult stem = run_riffle({"convert", small, path("small.pth")});
  expect_success(stem);
  expect_contains(stem.out, {"--stem-stride 1 --stem-max-pool false"});
  EXPECT_EQ(
      text_of(converted(path("small.pth"), "again.safetensors", {"--stem-stride", "1", "--stem-max-pool", "false"})),
      text_of(small));
}

TEST_F(Convert, TheReportReplacesNoCheckpoint) {
  const std::string input = converted(fixture("torchvision.pth"), "in.safetensors");
  const std::string before = text_of(input);
  for (const std::string& file : {input, path("out.safetensors")}) {
    expect_failure(run_riffle({"convert", input, path("out.safetensors"), "--json", file, "--force"}), 2,
                   {"--json names", file});
  }
  EXPECT_EQ(text_of(input), before);
}

TEST_F(Convert, ClassNamesThatRepeatAreRefused) {
  write_text(path("classes.txt"), "cat\ndog\ncat\n");
  expect_failure(
      run_riffle({"convert", fixture("torchvision.pth"), path("a.safetensors"), "--classes", path("classes.txt")}), 1,
      {"classes.txt", "line 3", "'cat'"});
}

// A checkpoint of TensorFlow's, given as its prefix and as its index.
TEST_F(Convert, TheKerasTutorialsModel) {
  const ProcessResult result = run_riffle({"convert", fixture("keras/model.ckpt"), path("a.safetensors")});
  expect_success(result);
  expect_contains(result.out,
                  {"TensorFlow checkpoint", "the Keras tutorial's", "tensorpack", "147 tensors matched", "RGB"});
  const std::vector<float> expected = Golden(fixture("keras/logits.npz")).values<float>("keras");
  EXPECT_LE(relative_difference_of(logits(path("a.safetensors"), fixture("images.npz")), expected), 1e-5);
  EXPECT_EQ(text_of(converted(fixture("keras/model.ckpt.index"), "b.safetensors")), text_of(path("a.safetensors")));
}

TEST_F(Convert, ReportsWhatBecameOfEveryTensor) {
  const ProcessResult text = run_riffle({"convert", fixture("tensorpack.npz"), path("a.safetensors")});
  expect_success(text);
  expect_contains(text.out, {"tensorpack", "ShuffleNetV2 custom (tensorpack), 7 classes", "147 tensors matched",
                             "none missing or unexpected, all values finite", "ignored: 1 tensor of optimizer state",
                             "ignored: 2 tensors of counters", "\"0\" to \"6\"", "BGR"});
  const ProcessResult json = run_riffle({"convert", fixture("megvii.pth.tar"), path("b.safetensors"), "--json", "-"});
  expect_success(json);
  const nlohmann::json report = nlohmann::json::parse(json.out);
  EXPECT_EQ(report.at("dialect"), "megvii");
  EXPECT_EQ(report.at("width"), "custom");
  EXPECT_EQ(report.at("matched"), 146);
  EXPECT_TRUE(report.at("missing").empty() && report.at("unexpected").empty() && report.at("mismatched").empty());
  EXPECT_EQ(report.at("preprocessing").at("interpolation"), "opencv-bilinear");
  EXPECT_EQ(report.at("normalisation").at("channel_order"), "bgr");
}

TEST_F(Convert, MegviiToTorchvisionKeepsLogits) {
  const std::string as_torchvision = converted(fixture("megvii.pth.tar"), "t.safetensors", {"--to", "torchvision"});
  EXPECT_EQ(read_safetensors(as_torchvision).metadata.at("model").at("dialect"), "torchvision");
  const std::vector<float> expected = Golden(fixture("logits.npz")).values<float>("megvii");
  EXPECT_LE(relative_difference_of(logits(as_torchvision, fixture("images.npz")), expected), 1e-5);
  // Its classifier has a bias of zeros, so that the way back exists, and is exact.
  const std::string back = converted(as_torchvision, "m.safetensors", {"--to", "megvii"});
  const std::string direct = converted(fixture("megvii.pth.tar"), "d.safetensors");
  EXPECT_EQ(text_of(back), text_of(direct));
}

TEST_F(Convert, DialectsThatAreNotEqualAreRefused) {
  expect_failure(run_riffle({"convert", fixture("tensorpack.npz"), path("a.safetensors"), "--to", "megvii"}), 1,
                 {"no exact conversion from tensorpack to megvii", "pads"});
  expect_failure(run_riffle({"convert", fixture("torchvision.pth"), path("a.safetensors"), "--to", "megvii"}), 1,
                 {"bias that is not zero", "Megvii's has none"});
  EXPECT_FALSE(std::filesystem::exists(path("a.safetensors")));
}

// The shapes would fit, and the network would be wrong.
TEST_F(Convert, AClaimThatNamesContradictIsRefused) {
  const std::vector<std::string> start{"convert", fixture("megvii.pth.tar"), path("a.safetensors")};
  auto claim = start;
  claim.insert(claim.end(), {"--dialect", "torchvision"});
  expect_failure(run_riffle(claim), 1,
                 {"megvii.pth.tar", "of the megvii dialect", "--dialect torchvision contradicts", "--to torchvision"});
  claim = start;
  claim.insert(claim.end(), {"--width", "0.5x"});
  expect_failure(run_riffle(claim), 1, {"8, 16, 32 and 16 channels", "--width 0.5x would have 48, 96, 192 and 1024"});
  EXPECT_FALSE(std::filesystem::exists(path("a.safetensors")));
}

TEST_F(Convert, FormatsBelongToDialects) {
  expect_failure(run_riffle({"convert", fixture("tensorpack.npz"), path("a.pth")}), 1, {"tensorpack", ".npz"});
  expect_failure(run_riffle({"convert", fixture("megvii.pth.tar"), path("a.npz")}), 1, {"megvii dialect", ".pth"});
  expect_failure(run_riffle({"convert", fixture("megvii.pth.tar"), path("a.h5")}), 2,
                 {"a.h5", ".safetensors, .pth or .npz"});
}

TEST_F(Convert, ExistingFilesAreKept) {
  const std::string output = converted(fixture("torchvision.pth"), "a.safetensors");
  const std::string before = text_of(output);
  expect_failure(run_riffle({"convert", fixture("megvii.pth.tar"), output}), 1, {"exists already", "--force"});
  EXPECT_EQ(text_of(output), before);
  converted(fixture("megvii.pth.tar"), "a.safetensors", {"--force"});
  EXPECT_NE(text_of(output), before);
  expect_failure(run_riffle({"convert", output, output, "--force"}), 2, {"the same file"});
}

TEST_F(Convert, ClassNamesComeFromAFile) {
  write_text(path("names.txt"), "ant\nbee\ncat\ndog\nelk\nfox\r\ngnu\n");
  const std::string output = converted(fixture("torchvision.pth"), "a.safetensors", {"--classes", path("names.txt")});
  EXPECT_EQ(read_safetensors(output).metadata.at("classes").at(5), "fox");
  write_text(path("names.txt"), "ant\nbee\n");
  expect_failure(
      run_riffle({"convert", fixture("torchvision.pth"), path("b.safetensors"), "--classes", path("names.txt")}), 1,
      {"has 7 classes, but 2 names"});
}

TEST_F(Convert, InspectShowsAnybodysCheckpoint) {
  const ProcessResult text = run_riffle({"inspect", fixture("megvii.pth.tar")});
  expect_success(text);
  expect_contains(text.out,
                  {"custom (megvii), 7 classes", "PyTorch (legacy)", "146 tensors matched", "stage2.0.branch_proj"});
  const ProcessResult json = run_riffle({"inspect", fixture("keras/model.ckpt"), "--json"});
  expect_success(json);
  EXPECT_EQ(nlohmann::json::parse(json.out).at("tensors").at("matched"), 147);
}

TEST_F(Convert, OtherFormatsAreRefusedByName) {
  const auto refuse = [&](const std::string& name, const std::string& bytes, const std::vector<std::string>& parts) {
    write_text(path(name), bytes);
    expect_failure(run_riffle({"convert", path(name), path("out.safetensors")}), 1, parts);
  };
  refuse("a.h5", "\x89HDF\r\n\x1a\n and more", {"a.h5", "HDF5", "tf.train.Checkpoint"});
  refuse("a.npy", "\x93NUMPY and more", {"single numpy array", ".npz"});
  refuse("a.gz", "\x1f\x8b and more", {"gzip"});
  refuse("a.txt", "hello", {"no format that is known", "safetensors", ".pth"});
  refuse("empty", "", {"empty"});
  expect_failure(run_riffle({"convert", path("absent.pth"), path("out.safetensors")}), 1, {"absent.pth"});
}

// Full-size networks with random weights, in the files of their authors.
class ConvertShared : public Convert, public testing::WithParamInterface<Published> {};

TEST_P(ConvertShared, LogitsAreTheAuthors) {
  const std::string name = GetParam().file, stem = GetParam().dialect;
  RIFFLE_NEED_SHARED_DATA("goldens");
  const std::string checkpoint = converted(shared_data("goldens/" + name), "a.safetensors");
  const std::vector<float> actual = logits(checkpoint, shared_data("goldens/inputs-rgb-uint8-nhwc.npz"));
  const std::vector<float> expected = Golden(shared_data("goldens/" + stem + "-logits.npz")).values<float>("logits");
  EXPECT_LE(relative_difference_of(actual, expected), 1e-4);
  if (stem != "megvii-0.5x") return;
  const std::string permuted = converted(shared_data("goldens/" + name), "t.pth", {"--to", "torchvision"});
  // A .pth does not say how its weights want their images: Megvii's way, which only the checkpoint knows.
  const std::string direct = converted(shared_data("goldens/" + name), "t.safetensors", {"--to", "torchvision"});
  EXPECT_LE(relative_difference_of(logits(direct, shared_data("goldens/inputs-rgb-uint8-nhwc.npz")), expected), 1e-4);
  TensorMap tensors = read_safetensors(direct).tensors;
  expect_same_tensors(read_pth(permuted).tensors, tensors);
}

INSTANTIATE_TEST_SUITE_P(Goldens, ConvertShared,
                         testing::Values(Published{"torchvision-x1_0", "torchvision-x1_0.pth"},
                                         Published{"megvii-0.5x", "megvii-0.5x.pth.tar"},
                                         Published{"tensorpack-0.5x", "tensorpack-0.5x.npz"}),
                         [](const auto& test) { return "Golden" + std::to_string(test.index); });

// Whether Pillow 13.0 filters the columns of pixels before the rows when it resizes the short edge to 256.
bool is_tall(const Image& image) {
  const int64_t height = int64_t{256} * image.height / image.width;
  return image.height > height && image.height - height > 2 * (image.width - 256);
}

// PyTorch's own logits of every image, its five largest.
TEST_F(Convert, RealWeightsGivePyTorchsLogits) {
  RIFFLE_NEED_SHARED_DATA("weights");
  RIFFLE_NEED_SHARED_DATA("imagenet-samples");
  const std::string checkpoint = converted(shared_data("weights/shufflenet_v2_x0_5-imagenet.pth"), "a.safetensors");
  const nlohmann::json expected =
      nlohmann::json::parse(text_of(shared_data("weights/expected-x0_5-imagenet-samples.json"))).at("predictions");
  ASSERT_EQ(expected.size(), 400U);
  const DeviceChoice device = make_backend({"cpu"});
  const LoadedModel model = load_for_inference(*device.backend, checkpoint, "");
  NetworkInput input(*device.backend, model.metadata.normalisation, {1, 224, 224, 3});
  double worst = 0;
  int tall = 0;
  for (const nlohmann::json& each : expected) {
    const std::string file = shared_data("imagenet-samples/val/" + each.at("file").get<std::string>());
    const std::vector<uint8_t> bytes = read_file(file);
    const Image whole = decode_image(bytes.data(), bytes.size(), file, 3);
    if (is_tall(whole)) {  // resized by Pillow 9.4 here, which has other pixels than 13.0: see docs/preprocessing.md
      ++tall;
      continue;
    }
    const Image image = model.metadata.preprocessing.apply(whole);
    const std::vector<float> logits =
        compute_logits(*device.backend, *model.network, input, image.pixels.data(), /*count=*/1);
    for (size_t i = 0; i < 5; ++i) {
      const double logit = logits.at(each.at("top5").at(i).get<size_t>());
      worst = std::max(worst, std::fabs(logit - each.at("top5_logits").at(i).get<double>()));
    }
  }
  RecordProperty("worst_difference", std::to_string(worst));
  EXPECT_LE(worst, 1e-2);
  EXPECT_EQ(tall, 1);
}

TEST_F(Convert, RealWeightsClassifyRealImages) {
  RIFFLE_NEED_SHARED_DATA("weights");
  RIFFLE_NEED_SHARED_DATA("imagenet-samples");
  const std::string zip = shared_data("weights/shufflenet_v2_x0_5-imagenet.pth");
  const std::string checkpoint = converted(zip, "a.safetensors");
  const std::string legacy = converted(shared_data("weights/shufflenet_v2_x0_5-imagenet-legacy.pth"), "b.safetensors");
  EXPECT_EQ(text_of(checkpoint), text_of(legacy));
  expect_same_tensors(read_pth(converted(checkpoint, "c.pth")).tensors, read_pth(zip).tensors);
  const ProcessResult result = run_riffle(
      {"eval", checkpoint, "--data", "folder:" + shared_data("imagenet-samples"), "--json", "-", "--device", "cpu"});
  expect_success(result);
  const nlohmann::json json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json.at("images"), 400);
  EXPECT_NEAR(json.at("top1_correct").get<double>(), 290, 1);
  EXPECT_NEAR(json.at("top5_correct").get<double>(), 362, 1);
  const ProcessResult tench =
      run_riffle({"predict", checkpoint, shared_data("imagenet-samples/val/n01440764"), "--topk", "1", "--json"});
  expect_success(tench);
  const nlohmann::json best = nlohmann::json::parse(tench.out).at("predictions").at(0);
  EXPECT_EQ(best.at("wnid"), "n01440764");
  EXPECT_EQ(best.at("name"), "tench, Tinca tinca");
}

}  // namespace
}  // namespace riffle
