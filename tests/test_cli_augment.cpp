// A whole recipe of augmentation through the program itself: trained smaller than evaluated, with repeats.
#include "riffle_process.h"
#include "tiny_data.h"
#include "train/checkpoint/checkpoint.h"

namespace riffle {
namespace {

const char* const kRecipe =
    "augment={size: 176, transforms: [random_resized_crop, {color_jitter: {brightness: 0.4, contrast: 0.4, "
    "saturation: 0.4, hue: 0.1}}, {lighting: 0.1}, flip, {trivial_augment_wide: {interpolation: bilinear}}, "
    "{random_erasing: 0.5}]}";

class AugmentedTraining : public testing::Test {
 protected:
  void SetUp() override {
    write_image_folder(path("data/train"), 24, 60, 1);
    write_image_folder(path("data/val"), 6, 60, 2);
    std::ofstream(path("tiny.yaml")) << tiny_config("folder:" + path("data"), 3);
  }
  std::string path(const std::string& name) const { return folder_.path() + "/" + name; }
  std::string checkpoint(const std::string& run) const { return path(run + "/checkpoints/last.safetensors"); }
  ProcessResult train(const std::string& run, const std::vector<std::string>& more) const {
    std::vector<std::string> arguments{
        "train", path("tiny.yaml"), "-o", path(run), "train.duration=1ep", "eval={resize: 232, crop: 224}", kRecipe};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_riffle(arguments);
  }

 private:
  TemporaryFolder folder_;
};

TEST_F(AugmentedTraining, TrainsAt176AndEvaluatesAt224) {
  expect_success(train("run", {"data.repeats=4"}));
  const CheckpointFile file = read_safetensors(checkpoint("run"));
  EXPECT_NE(file.metadata.at("config").get<std::string>().find("{random_erasing: {probability: 0.5, "),
            std::string::npos);
  const ProcessResult evaluation = run_riffle({"eval", checkpoint("run"), "--json", "-"});
  expect_success(evaluation);
  expect_contains(evaluation.out, {"\"images\":6"});
  // The resolved configuration is a configuration.
  expect_success(run_riffle({"train", path("run/config.resolved.yaml"), "-o", path("again"), "--dry-run"}));
}

TEST_F(AugmentedTraining, LoaderThreadsChangeNoWeight) {
  expect_success(train("one", {"data.loader_threads=1", "data.prefetch=1"}));
  expect_success(train("eight", {"data.loader_threads=8", "data.prefetch=5"}));
  const CheckpointFile one = read_safetensors(checkpoint("one")), eight = read_safetensors(checkpoint("eight"));
  ASSERT_EQ(one.tensors.size(), eight.tensors.size());
  for (const auto& [name, tensor] : one.tensors) EXPECT_EQ(tensor.bytes, eight.tensors.at(name).bytes) << name;
}

}  // namespace
}  // namespace riffle
