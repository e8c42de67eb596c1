// Configurations that are right: scalars, defaults, overrides, the round trip, the documentation, and what a
// configuration means to the network and the data. Those that are wrong: test_config_errors.cpp.
#include <gtest/gtest.h>

#include <fstream>
#include <limits>
#include <set>
#include <sstream>

#include "core/check.h"
#include "train/config_fields.h"
#include "train/config_reader.h"
#include "train/config_values.h"
#include "train/make_backend.h"
#include "train/schedule.h"

namespace riffle {
namespace {

const std::string kSource = RIFFLE_SOURCE_DIR;

template <class T>
bool parses_to(const std::string& text, T expected) {
  T value{};
  return parse_value(text, value) && value == expected;
}

template <class T>
bool parses(const std::string& text) {
  T value{};
  return parse_value(text, value);
}

std::string file_text(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST(ConfigValues, Numbers) {
  EXPECT_TRUE(parses_to("4e-5", 4e-5));
  EXPECT_TRUE(parses_to("1e6", 1e6));
  EXPECT_TRUE(parses_to(".5", 0.5));
  EXPECT_TRUE(parses_to("-2", -2.0));
  EXPECT_TRUE(parses_to("+2.", 2.0));
  for (const char* text : {"", "+", "+-1", "0x10", "nan", ".inf", "inf", "1e999", "1_000", "1,5", "0.5 ", "4e"}) {
    EXPECT_FALSE(parses<double>(text)) << text;
  }
}

TEST(ConfigValues, WholeNumbers) {
  EXPECT_TRUE(parses_to<int64_t>("1e6", 1000000));
  EXPECT_TRUE(parses_to<int64_t>("010", 10));
  EXPECT_TRUE(parses_to<int64_t>("-3", -3));
  EXPECT_TRUE(parses_to<int64_t>("9223372036854775807", std::numeric_limits<int64_t>::max()));
  EXPECT_TRUE(parses_to<uint64_t>("18446744073709551615", std::numeric_limits<uint64_t>::max()));
  for (const char* text : {"0.5", "1e-1", "9223372036854775808", "1e30", "true", "0x10"}) {
    EXPECT_FALSE(parses<int64_t>(text)) << text;
  }
  EXPECT_FALSE(parses<int>("2147483648"));
  EXPECT_FALSE(parses<int>("3e9"));
  EXPECT_FALSE(parses<uint64_t>("-1"));
  EXPECT_FALSE(parses<uint64_t>("-1e3"));
}

TEST(ConfigValues, Flags) {
  EXPECT_TRUE(parses_to("true", true));
  EXPECT_TRUE(parses_to("False", false));
  for (const char* text : {"on", "yes", "1", "0", "tRUE", ""}) EXPECT_FALSE(parses<bool>(text)) << text;
}

TEST(ConfigValues, Durations) {
  const auto text_after_parsing = [](const std::string& text) {
    Duration duration;
    return parse_value(text, duration) ? duration.text() : "rejected";
  };
  EXPECT_EQ(text_after_parsing("240ep"), "240ep");
  EXPECT_EQ(text_after_parsing("240"), "240ep");
  EXPECT_EQ(text_after_parsing("0.5ep"), "0.5ep");
  EXPECT_EQ(text_after_parsing("300000it"), "300000it");
  EXPECT_EQ(text_after_parsing("3e5it"), "300000it");
  for (const char* text : {"", "ep", "it", "1.5it", "-1ep", "240 ep", "240epochs", "inf"}) {
    EXPECT_EQ(text_after_parsing(text), "rejected") << text;
  }
}

TEST(ConfigValues, TextReadsBackExactly) {
  for (double value : {1.0 / 255, 4e-5, 0.1, 1.0 / 3, 300000.0, 1e300, -0.25, 1e15, 0.0}) {
    EXPECT_TRUE(parses_to(value_text(value), value)) << value_text(value);
  }
  EXPECT_EQ(value_text(300000.0), "300000");
  EXPECT_EQ(value_text(0.0001), "0.0001");
}

TEST(ConfigReader, EmptyConfigurationsAreTheDefaults) {
  const std::string defaults = to_yaml(Config{});
  for (const char* text : {"", "# nothing but a comment\n", "---\n", "model:\ntrain:\n", "train: {}\n"}) {
    EXPECT_EQ(to_yaml(parse_config(text, "x.yaml", {})), defaults) << text;
  }
}

TEST(ConfigReader, OverridesComeAfterTheFileInOrder) {
  const Config config = parse_config("schedule: {lr: 0.3, warmup: 5ep}\n", "x.yaml",
                                     {"schedule.lr=0.1", "model.stage_channels=[48, 96, 192]", "schedule.lr=4e-5",
                                      "train={batch: 8, duration: 20it}", "data.source=idx:/a=b"});
  EXPECT_EQ(config.schedule.lr, 4e-5);
  EXPECT_EQ(config.schedule.warmup.text(), "5ep");
  EXPECT_EQ(config.model.stage_channels, (std::vector<int64_t>{48, 96, 192}));
  EXPECT_EQ(config.train.batch, 8);
  EXPECT_EQ(config.train.duration.text(), "20it");
  EXPECT_EQ(config.data.source, "idx:/a=b");
}

TEST(ConfigReader, StringsAreTakenAsWritten) {
  const Config config = parse_config("data: {class_names: [no, 010, \"null\", 'a: b', \"x\\ty\", é]}\n", "x.yaml", {});
  const std::vector<std::string> expected{"no", "010", "null", "a: b", "x\ty", "é"};
  EXPECT_EQ(config.data.class_names, expected);
  EXPECT_EQ(parse_config(to_yaml(config), "x.yaml", {}).data.class_names, expected);
}

TEST(ConfigReader, QuotedDurationsAndAliasesAreFine) {
  const Config config = parse_config("train: {duration: \"3ep\", batch: &n 64}\neval: {batch: *n}\n", "x.yaml", {});
  EXPECT_EQ(config.train.duration.text(), "3ep");
  EXPECT_EQ(config.eval.batch, 64);
}

// Between them these differ from the defaults in every field.
const char* const kStepRecipe = R"(
model:
  width: custom
  dialect: megvii
  stage_channels: [32, 64, 128]
  stage_repeats: [2, 3, 2]
  stem_channels: 16
  head_channels: 256
  stem_stride: 1
  stem_max_pool: false
  input_channels: 1
  classes: 2
  dropout: 0.25
data:
  source: "idx:/some where/#1"
  train_split: val
  val_split: test
  class_names: [cat, x]
  loader_threads: 3
  prefetch: 7
  repeats: 2
  max_bad_images: 0
  truncated: accept
  exif_orientation: true
  val_labels: labels.txt
  index_cache: ""
  cache_bytes: 1.5GiB
normalisation: {scale: 1, mean: [0.1], std: [0.2]}
augment: {size: 28, transforms: [{pad_and_crop: 2}, {flip: 0.25}], mixup: 0.2, cutmix: 1}
eval: {resize: 0, crop: 28, batch: 10, every_epochs: 2, max_bad_images: 3}
optimizer: {momentum: 0.8, nesterov: true, weight_decay: 1e-4, clip_norm: 5, accumulate: 2,
            lr_multipliers: [{pattern: "fc.*", multiplier: 10}, {multiplier: 0.5, pattern: stage4.*}]}
schedule: {kind: step, lr: 0.3, warmup: 100it, warmup_factor: 0.1, milestones: [10, 20.5ep, 5e4it], gamma: 0.2,
           reference_batch: 1024, batch_rule: sqrt}
ema: {decay: 0.999, warmup: false, every: 32}
init: {checkpoint: "some where/#1.safetensors", weights: ema, reset_head: true}
finetune: {freeze: [stage2, stem], head_only: 20it}
train: {duration: 30ep, batch: 64, label_smoothing: 0.1, seed: 18446744073709551615, log_every_steps: 5,
        precision: bf16, deterministic: true, cuda_graphs: false, nonfinite: skip, max_skipped_steps: 3,
        overfit_batches: 2, limit_steps: 100}
early_stopping: {patience: 5, min_delta: 0.5}
recalibrate: {duration: 200it}
log: {tensorboard: false, histograms: none}
)";
const char* const kPolynomialRecipe = R"(
data: {decode: quick, shuffle: shards, shuffle_window: 4}
normalisation: {channel_order: bgr}
augment: {sizes: [{from: 3ep, size: 192}, {size: 240, from: 10ep}],
          transforms: [{random_resized_crop: {scale: [0.2, 0.9], ratio: [0.5, 2]}}]}
eval: {interpolation: opencv-bicubic, rounding: half-up, crop_offset: floor}
schedule: {kind: polynomial, final_lr: 0.001, power: 2}
checkpoint: {every: 500it, keep: 3, keep_every: 10ep}
)";

TEST(ConfigReader, EveryFieldSurvivesTheRoundTrip) {
  Config defaults;
  std::set<std::string> changed;
  for (const char* text : {kStepRecipe, kPolynomialRecipe}) {
    Config config = parse_config(text, "x.yaml", {});
    EXPECT_EQ(to_yaml(parse_config(to_yaml(config), "resolved.yaml", {})), to_yaml(config));
    const std::vector<Field> before = fields_of(defaults), after = fields_of(config);
    for (size_t i = 0; i < before.size(); ++i) {
      if (before[i].value_text() != after[i].value_text()) changed.insert(after[i].path);
    }
  }
  for (const Field& field : fields_of(defaults)) EXPECT_EQ(changed.count(field.path), 1u) << field.path;
}

TEST(ConfigReader, FieldsReachTheirMembers) {
  const Config config = parse_config(kStepRecipe, "x.yaml", {});
  EXPECT_EQ(config.data.source, "idx:/some where/#1");
  EXPECT_EQ(std::get<PadAndCrop>(config.augment.transforms.at(0)).pad, 2);
  EXPECT_EQ(config.schedule.milestones.at(1).text(), "20.5ep");
  EXPECT_EQ(config.schedule.milestones.at(2).text(), "50000it");
  EXPECT_EQ(config.train.seed, std::numeric_limits<uint64_t>::max());
  ASSERT_EQ(config.optimizer.lr_multipliers.size(), 2u);
  EXPECT_EQ(config.optimizer.lr_multipliers[0].pattern, "fc.*");
  EXPECT_EQ(config.optimizer.lr_multipliers[1].multiplier, 0.5);
  EXPECT_EQ(config.finetune.head_only.text(), "20it");
  EXPECT_EQ(config.frozen_parts(), 2);
}

// As a checkpoint of a later version might have it.
TEST(ConfigReader, TheDataSectionIsReadWhateverElseThereIs) {
  const DataSection data = parse_data_section(
      "data: {source: \"idx:a\", val_split: test, class_names: [x, y], shards: 3}\nmodel: {moe: 8}\nnews: 1\n", "c");
  EXPECT_EQ(data.source, "idx:a");
  EXPECT_EQ(data.val_split, "test");
  EXPECT_EQ(data.class_names, (std::vector<std::string>{"x", "y"}));
  EXPECT_EQ(parse_data_section("model: {width: 0.5x}\n", "c").source, "");
  EXPECT_THROW(parse_data_section("data: {val_split: 7}\n", "c"), Error);
}

TEST(ConfigFields, DefaultsAreAccepted) {
  EXPECT_EQ(to_yaml(parse_config(to_yaml(Config{}), "x.yaml", {})), to_yaml(Config{}));
}

TEST(ConfigFields, ChoicesAreThoseThatTheProgramKnows) {
  Config config;
  for (const Field& field : fields_of(config)) {
    for (const std::string& choice : field.constraint.choices) {
      if (field.path == "model.dialect") {
        EXPECT_EQ(name_of(parse_dialect(choice)), choice);
      }
      if (field.path == "model.width" && choice != "custom") {
        EXPECT_EQ(ShuffleNetV2Config::published(choice, Dialect::kTorchvision).width_name(), choice);
      }
      if (field.path == "train.precision") {
        EXPECT_EQ(field.constraint.choices, precisions());
      }
      if (field.path == "schedule.kind") {
        ScheduleSection section;
        section.kind = choice;
        EXPECT_EQ(LearningRate(section, 10, 1).at(0), section.lr) << choice;
      }
    }
  }
}

TEST(Config, NetworkOfAPublishedWidth) {
  const Config config = parse_config("model: {width: 2.0x, dialect: megvii}\n", "x.yaml", {});
  ShuffleNetV2Config expected = ShuffleNetV2Config::published("2.0x", Dialect::kMegvii);
  expected.classes = 10;
  EXPECT_TRUE(config.network(10) == expected);
  EXPECT_EQ(config.network(10).dropout, 0.2);
  EXPECT_EQ(parse_config("model: {width: 2.0x}\n", "x.yaml", {}).network(10).dropout, 0);
}

TEST(Config, NetworkOfACustomWidth) {
  const ShuffleNetV2Config network = parse_config(kStepRecipe, "x.yaml", {}).network(2);
  EXPECT_EQ(network.dialect, Dialect::kMegvii);
  EXPECT_EQ(network.stage_channels, (std::vector<int64_t>{32, 64, 128}));
  EXPECT_EQ(network.stage_repeats, (std::vector<int64_t>{2, 3, 2}));
  EXPECT_EQ(network.stem_channels, 16);
  EXPECT_EQ(network.head_channels, 256);
  EXPECT_EQ(network.stem_stride, 1);
  EXPECT_FALSE(network.stem_max_pool);
  EXPECT_EQ(network.input_channels, 1);
  EXPECT_EQ(network.dropout, 0.25);
}

TEST(Config, NetworkNeedsToKnowItsClasses) {
  Config config;
  EXPECT_EQ(config.network(37).classes, 37);
  EXPECT_THROW(config.network(0), Error);
  config.model.classes = 20;
  EXPECT_EQ(config.network(0).classes, 20);
  EXPECT_EQ(config.network(10).classes, 20);
  EXPECT_THROW(config.network(21), Error);
}

TEST(Config, Preprocessing) {
  const Config step = parse_config(kStepRecipe, "x.yaml", {});
  EXPECT_EQ(step.network_input().scale, 1);
  EXPECT_EQ(step.network_input().mean, std::vector<double>{0.1});
  EXPECT_EQ(step.network_input().std, std::vector<double>{0.2});
  EXPECT_FALSE(step.network_input().reverse_channels);
  const Config polynomial = parse_config(kPolynomialRecipe, "x.yaml", {});
  EXPECT_TRUE(polynomial.network_input().reverse_channels);

  const TrainTransform train = step.train_transform(), resized = polynomial.train_transform();
  EXPECT_EQ(train.decode, DecodeMode::kExact);
  EXPECT_EQ(resized.decode, DecodeMode::kQuick);
  EXPECT_EQ(train.size, 28);
  EXPECT_EQ(std::get<PadAndCrop>(train.steps.at(0)).pad, 2);
  EXPECT_EQ(std::get<Flip>(train.steps.at(1)).probability, 0.25);
  EXPECT_EQ(train.mean_colour[0], 0);  // the mean is 0.1 of 1
  const auto& crop = std::get<RandomResizedCrop>(resized.steps.at(0));
  EXPECT_EQ(crop.scale.min, 0.2);
  EXPECT_EQ(crop.scale.max, 0.9);
  EXPECT_EQ(crop.ratio.min, 0.5);
  EXPECT_EQ(crop.ratio.max, 2);
  EXPECT_EQ(resized.mean_colour, (std::array<uint8_t, 3>{104, 116, 124}));  // bgr: the first mean is blue's

  EvalTransform unresized{0, 28};
  unresized.exif_orientation = true;
  EXPECT_TRUE(step.eval_transform() == unresized);
  EXPECT_TRUE(train.exif_orientation);
  EXPECT_FALSE(resized.exif_orientation);
  EXPECT_TRUE(parse_config("eval: {}\n", "x.yaml", {}).eval_transform() == EvalTransform{});
  EXPECT_TRUE(polynomial.eval_transform() ==
              (EvalTransform{256, 224, Interpolation::kOpenCvBicubic, ResizeRounding::kHalfUp, CropOffset::kFloor}));
}

// docs/configuration.md has one row a field, in this form, and no others.
TEST(Documentation, DescribesEveryField) {
  Config defaults;
  std::set<std::string> expected, found;
  for (const Field& field : fields_of(defaults)) {
    expected.insert("| `" + field.path + "` | `" + field.value_text() + "` | " + field.accepted() + " | " +
                    field.meaning + " |");
  }
  std::istringstream lines(file_text(kSource + "/docs/configuration.md"));
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind("| `", 0) == 0) found.insert(line);
  }
  for (const std::string& row : expected) EXPECT_EQ(found.count(row), 1u) << "missing: " << row;
  for (const std::string& row : found) EXPECT_EQ(expected.count(row), 1u) << "stale: " << row;
}

}  // namespace
}  // namespace riffle
