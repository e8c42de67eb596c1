// The recipes in configs/: each reads, resolves to itself, builds its network, schedule and transforms without data, and
// says where it comes from; and those that were published say what was published.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "core/rng.h"
#include "train/config_reader.h"
#include "train/make_backend.h"
#include "train/schedule.h"

namespace riffle {
namespace {

const std::string kConfigs = std::string(RIFFLE_SOURCE_DIR) + "/configs/";
constexpr int64_t kImageNetImages = 1281167;

std::string file_text(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// A file's text with the comment on one line.
std::string unwrapped(std::string text) {
  for (size_t at = 0; (at = text.find("\n# ", at)) != std::string::npos;) text.replace(at, 3, " ");
  return text;
}

std::vector<std::string> recipes() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kConfigs)) {
    if (entry.is_regular_file()) names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

TEST(Recipes, AllReadAndSayWhatTheyAre) {
  for (const std::string& name : recipes()) {
    const Config config = read_config(kConfigs + name, {});
    EXPECT_EQ(to_yaml(parse_config(to_yaml(config), "resolved.yaml", {})), to_yaml(config)) << name;
    EXPECT_EQ(file_text(kConfigs + name).substr(0, 2), "# ") << name << " does not say what it is";
    EXPECT_GT(config.schedule.reference_batch, 0) << name << " does not say for which batch its learning rate is";
  }
  EXPECT_GE(recipes().size(), 15u);
}

TEST(Recipes, AllBuildWithoutData) {
  const DeviceChoice device = make_backend({"cpu", 1});
  RandomStream random(1, RandomPurpose::kTest, 0);
  for (const std::string& name : recipes()) {
    SCOPED_TRACE(name);
    const Config config = read_config(kConfigs + name, {});
    const ShuffleNetV2 network(*device.backend, config.network(config.model.classes > 0 ? 0 : 10), 1);
    EXPECT_EQ(network.config().input_channels, config.model.input_channels);
    const int64_t steps_per_epoch = std::max<int64_t>(1, kImageNetImages / config.images_per_step());
    const int64_t steps = config.train.duration.steps(steps_per_epoch);
    const LearningRate rate(scaled_schedule(config), steps, steps_per_epoch);
    EXPECT_TRUE(rate.warnings().empty());
    EXPECT_GT(rate.at(steps - 1), 0);
    const TrainTransform transform = config.train_transform();
    const int size = config.eval.resize > 0 ? 300 : config.eval.crop;
    const Image image(size, size, static_cast<int>(config.model.input_channels));
    const Image augmented = transform.apply(image, random);
    EXPECT_EQ(augmented.width, config.augment.size);
    const Image evaluated = config.eval_transform().apply(image);
    EXPECT_EQ(evaluated.height, config.eval.crop);
  }
}

struct Published {
  const char *file, *width, *dialect, *top1;
};

// What the comment of each file says of itself is what it sets.
TEST(Recipes, OfImageNetSayWhatWasPublished) {
  const Published published[] = {
      {"imagenet_megvii_x0_5.yaml", "0.5x", "megvii", "61.1 %"},
      {"imagenet_megvii_x1_0.yaml", "1.0x", "megvii", "69.4 %"},
      {"imagenet_megvii_x1_5.yaml", "1.5x", "megvii", "72.6 %"},
      {"imagenet_megvii_x2_0.yaml", "2.0x", "megvii", "75.0 %"},
      {"imagenet_tensorpack_x0_5.yaml", "0.5x", "tensorpack", "60.5 %"},
      {"imagenet_tensorpack_x1_0.yaml", "1.0x", "tensorpack", "69.4 %"},
      {"imagenet_torchvision_x0_5.yaml", "0.5x", "torchvision", "60.552 %"},
      {"imagenet_torchvision_x1_0.yaml", "1.0x", "torchvision", "69.362 %"},
      {"imagenet_torchvision_x1_5.yaml", "1.5x", "torchvision", "72.996 %"},
      {"imagenet_torchvision_x2_0.yaml", "2.0x", "torchvision", "76.230 %"},
  };
  for (const Published& recipe : published) {
    SCOPED_TRACE(recipe.file);
    const std::string text = unwrapped(file_text(kConfigs + recipe.file));
    const Config config = read_config(kConfigs + recipe.file, {});
    EXPECT_NE(text.find(std::string("Published: top-1 ") + recipe.top1), std::string::npos);
    EXPECT_NE(text.find("Riffle has not run it to the end."), std::string::npos);
    EXPECT_NE(text.find("https://"), std::string::npos);
    EXPECT_EQ(config.model.width, recipe.width);
    EXPECT_EQ(config.model.dialect, recipe.dialect);
    EXPECT_EQ(config.model.classes, 1000);
    EXPECT_EQ(config.data.source, "");
    EXPECT_EQ(config.images_per_step(), 1024);
    EXPECT_EQ(config.schedule.reference_batch, 1024);
    EXPECT_EQ(config.schedule.lr, 0.5);
    EXPECT_EQ(config.schedule.final_lr, 0);
  }
}

TEST(Recipes, FollowTheirSources) {
  const Config megvii = read_config(kConfigs + "imagenet_megvii_x2_0.yaml", {});
  EXPECT_EQ(megvii.train.duration.text(), "300000it");
  EXPECT_EQ(megvii.schedule.kind, "linear");
  EXPECT_EQ(megvii.optimizer.weight_decay, 4e-5);
  EXPECT_EQ(megvii.train.label_smoothing, 0.1);
  EXPECT_EQ(megvii.recalibrate.duration.text(), "1250it");
  EXPECT_EQ(megvii.normalisation.scale, 1);
  EXPECT_TRUE(megvii.network_input().reverse_channels);
  EXPECT_EQ(megvii.network(0).dropout, 0.2);

  const Config tensorpack = read_config(kConfigs + "imagenet_tensorpack_x0_5.yaml", {});
  EXPECT_TRUE(tensorpack.optimizer.nesterov);
  EXPECT_EQ(tensorpack.train.label_smoothing, 0);
  EXPECT_EQ(std::get<RandomResizedCrop>(tensorpack.augment.transforms.at(0)).scale.min, 0.49);
  EXPECT_EQ(tensorpack.eval.interpolation, "opencv-bicubic");

  const Config torchvision = read_config(kConfigs + "imagenet_torchvision_x1_5.yaml", {});
  EXPECT_EQ(torchvision.train.duration.text(), "600ep");
  EXPECT_EQ(torchvision.schedule.kind, "cosine");
  EXPECT_EQ(torchvision.optimizer.weight_decay, 2e-5);
  EXPECT_EQ(torchvision.augment.size, 176);
  EXPECT_EQ(torchvision.eval.resize, 232);
  EXPECT_EQ(torchvision.augment.mixup, 0.2);
  EXPECT_EQ(torchvision.augment.cutmix, 1);
  EXPECT_EQ(torchvision.data.repeats, 4);

  const Config simple = read_config(kConfigs + "imagenet.yaml", {});
  EXPECT_EQ(to_yaml(simple), to_yaml(read_config(kConfigs + "imagenet_torchvision_x1_0.yaml", {})));
}

}  // namespace
}  // namespace riffle
