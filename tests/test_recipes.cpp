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
  }
  EXPECT_GE(recipes().size(), 14u);
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

}  // namespace
}  // namespace riffle
