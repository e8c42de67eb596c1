// Configurations that are wrong: each message names the place and what would be right.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "core/check.h"
#include "train/config_reader.h"
#include "train/nearest.h"

namespace riffle {
namespace {

template <class Action>
std::string usage_error(Action action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUsage);
    return error.what();
  }
  return "no error";
}

std::string file_error(const std::string& text) {
  return usage_error([&] { parse_config(text, "x.yaml", {}); });
}

std::string override_error(const std::string& argument) {
  return usage_error([&] { parse_config("schedule: {lr: 0.3}\n", "x.yaml", {argument}); });
}

TEST(ConfigErrors, UnknownKeys) {
  EXPECT_EQ(file_error("schedule:\n  lr: 0.1\n  warmpu: 5ep\n"),
            "x.yaml:3:3: unknown key 'schedule.warmpu'; did you mean 'schedule.warmup'?");
  EXPECT_EQ(file_error("shcedule:\n  lr: 0.1\n"), "x.yaml:1:1: unknown key 'shcedule'; did you mean 'schedule'?");
  EXPECT_EQ(file_error("normalization: {}\n"),
            "x.yaml:1:1: unknown key 'normalization'; did you mean 'normalisation'?");
  EXPECT_EQ(file_error("ema:\n  halflife: 3\n"),
            "x.yaml:2:3: unknown key 'ema.halflife'; the keys of ema are decay, warmup, every");
  EXPECT_EQ(file_error("extends: base.yaml\n"),
            "x.yaml:1:1: unknown key 'extends'; the sections are model, data, normalisation, augment, eval, optimizer, "
            "schedule, ema, init, finetune, train, early_stopping, log, recalibrate, checkpoint");
}

TEST(ConfigErrors, KeysInTheWrongSection) {
  EXPECT_EQ(file_error("optimizer: {lr: 0.1}\n"),
            "x.yaml:1:13: unknown key 'optimizer.lr'; did you mean 'schedule.lr'?");
  EXPECT_EQ(file_error("momentum: 0.9\n"), "x.yaml:1:1: unknown key 'momentum'; did you mean 'optimizer.momentum'?");
  EXPECT_EQ(file_error("momentun: 0.9\n"), "x.yaml:1:1: unknown key 'momentun'; did you mean 'optimizer.momentum'?");
}

TEST(ConfigErrors, DuplicateKeys) {
  EXPECT_EQ(file_error("schedule:\n  lr: 0.1\n  kind: linear\n  lr: 0.2\n"),
            "x.yaml:4:3: duplicate key 'schedule.lr'; it is already at x.yaml:2:3");
  EXPECT_EQ(file_error("train: {batch: 8}\nema:\ntrain: {seed: 8}\n"),
            "x.yaml:3:1: duplicate key 'train'; it is already at x.yaml:1:1");
  EXPECT_EQ(file_error("schedule.lr: 0.1\nschedule:\n  \"lr\": 0.2\n"),
            "x.yaml:3:3: duplicate key 'schedule.lr'; it is already at x.yaml:1:1");
}

TEST(ConfigErrors, WrongTypes) {
  EXPECT_EQ(file_error("schedule:\n  lr: quick\n"),
            "x.yaml:2:7: schedule.lr is 'quick'; expected a number such as 0.5");
  EXPECT_EQ(file_error("schedule:\n  lr: \"0.5\"\n"),
            "x.yaml:2:7: schedule.lr is '0.5' in quotes; expected a number such as 0.5");
  EXPECT_EQ(file_error("schedule:\n  lr:\n  kind: linear\n"),
            "x.yaml:2:3: schedule.lr is empty; expected a number such as 0.5");
  EXPECT_EQ(file_error("schedule: {lr: .inf}\n"), "x.yaml:1:16: schedule.lr is '.inf'; expected a number such as 0.5");
  EXPECT_EQ(file_error("train: {batch: 2.5}\n"),
            "x.yaml:1:16: train.batch is '2.5'; expected a whole number such as 32");
  EXPECT_EQ(file_error("train: {batch: [2]}\n"),
            "x.yaml:1:16: train.batch is a list; expected a whole number such as 32");
  EXPECT_EQ(file_error("train: {seed: -1}\n"),
            "x.yaml:1:15: train.seed is '-1'; expected a whole number >= 0 such as 42");
  EXPECT_EQ(file_error("train: {duration: 3 weeks}\n"),
            "x.yaml:1:19: train.duration is '3 weeks'; expected a duration such as 240ep or 300000it");
  EXPECT_EQ(file_error("optimizer: {nesterov: yes}\n"),
            "x.yaml:1:23: optimizer.nesterov is 'yes'; expected true or false");
  EXPECT_EQ(file_error("data: {source: {idx: a}}\n"),
            "x.yaml:1:16: data.source is a mapping; expected a string such as \"text\"");
  EXPECT_EQ(file_error("model: {stage_channels: 48}\n"),
            "x.yaml:1:25: model.stage_channels is '48'; expected a list of whole numbers such as [48, 96, 192]");
  EXPECT_EQ(file_error("model:\n  stage_channels: [48, 96,\n    many]\n"),
            "x.yaml:3:5: model.stage_channels is 'many'; expected a whole number such as 32");
  EXPECT_EQ(file_error("schedule: {milestones: 30ep}\n"),
            "x.yaml:1:24: schedule.milestones is '30ep'; expected a list of durations such as [30ep, 60ep]");
}

TEST(ConfigErrors, WrongChoices) {
  EXPECT_EQ(
      file_error("schedule: {kind: cosin}\n"),
      "x.yaml:1:18: schedule.kind is 'cosin'; expected one of linear, cosine, step, polynomial, constant; did you "
      "mean 'cosine'?");
  EXPECT_EQ(file_error("model: {width: huge}\n"),
            "x.yaml:1:16: model.width is 'huge'; expected one of 0.5x, 1.0x, 1.5x, 2.0x, custom");
  EXPECT_EQ(file_error("model: {width: }\n"),
            "x.yaml:1:9: model.width is empty; expected one of 0.5x, 1.0x, 1.5x, 2.0x, custom");
}

TEST(ConfigErrors, ValuesOutOfRange) {
  EXPECT_EQ(file_error("optimizer: {momentum: 1}\n"),
            "x.yaml:1:23: optimizer.momentum is 1; expected a number >= 0 and < 1");
  EXPECT_EQ(file_error("train: {batch: 0}\n"),
            "x.yaml:1:16: train.batch is 0; expected a whole number >= 1 and <= 1048576");
  EXPECT_EQ(file_error("train: {duration: 0it}\n"), "x.yaml:1:19: train.duration is 0it; expected a duration > 0");
  EXPECT_EQ(file_error("model: {stem_stride: 3}\n"),
            "x.yaml:1:22: model.stem_stride is 3; expected a whole number: 1 or 2");
  EXPECT_EQ(file_error("model: {dropout: 1}\n"),
            "x.yaml:1:18: model.dropout is 1; expected a number: -1, or >= 0 and < 1");
  EXPECT_EQ(file_error("normalisation: {std: [1, 0, 1]}\n"),
            "x.yaml:1:26: normalisation.std is 0; expected a list of numbers > 0");
}

// The value just outside every bound, and a bound that belongs to its range.
TEST(ConfigErrors, Bounds) {
  for (const char* outside : {"model.stage_channels=[0,2,4]",
                              "model.stage_repeats=[0,1,1]",
                              "model.stem_channels=0",
                              "model.head_channels=-1",
                              "model.input_channels=2",
                              "model.classes=-1",
                              "model.dropout=-0.5",
                              "data.loader_threads=-1",
                              "data.prefetch=0",
                              "data.max_bad_images=-1",
                              "normalisation.scale=0",
                              "augment.size=0",
                              "augment.transforms=[{random_resized_crop: {scale: [0, 1]}}]",
                              "augment.transforms=[{random_resized_crop: {scale: [0.5, 1.1]}}]",
                              "augment.transforms=[{random_resized_crop: {ratio: [0, 1]}}]",
                              "augment.transforms=[{pad_and_crop: -1}]",
                              "augment.transforms=[random_resized_crop, {flip: 1.1}]",
                              "data.repeats=0",
                              "eval.resize=-1",
                              "eval.crop=0",
                              "eval.interpolation=bilinear",
                              "eval.rounding=up",
                              "eval.crop_offset=ceil",
                              "eval.batch=-1",
                              "eval.every_epochs=0",
                              "optimizer.momentum=-0.1",
                              "optimizer.weight_decay=-1e-9",
                              "optimizer.clip_norm=-1",
                              "optimizer.accumulate=0",
                              "schedule.lr=0",
                              "schedule.final_lr=-1",
                              "schedule.warmup=-1ep",
                              "schedule.warmup_factor=1.1",
                              "schedule.milestones=[0]",
                              "schedule.gamma=0",
                              "schedule.gamma=1.5",
                              "schedule.power=0",
                              "ema.decay=1",
                              "train.label_smoothing=1",
                              "train.label_smoothing=-0.1",
                              "train.log_every_steps=0"}) {
    const std::string message = override_error(outside);
    EXPECT_NE(message.find("; expected "), std::string::npos) << outside << ": " << message;
  }
  for (const char* inside :
       {"model.dropout=-1", "model.dropout=0", "augment.transforms=[random_resized_crop, {flip: 1}]",
        "augment.transforms=[{random_resized_crop: [1, 1]}, {flip: 0}]", "eval.resize=0", "optimizer.momentum=0",
        "optimizer.clip_norm=0", "schedule.warmup=0", "schedule={warmup: 1ep, warmup_factor: 1}",
        "schedule={kind: step, milestones: [1], gamma: 1}", "ema.decay=0", "train.label_smoothing=0", "train.seed=0",
        "train.duration=0.5"}) {
    EXPECT_EQ(override_error(inside), "no error") << inside;
  }
}

TEST(ConfigErrors, DocumentsOfTheWrongShape) {
  const std::string sections =
      "; expected sections: model, data, normalisation, augment, eval, optimizer, schedule, ema, init, finetune, "
      "train, early_stopping, log, recalibrate, checkpoint";
  EXPECT_EQ(file_error("42\n"), "x.yaml:1:1: the configuration is '42'" + sections);
  EXPECT_EQ(file_error("- model\n"), "x.yaml:1:1: the configuration is a list" + sections);
  EXPECT_EQ(file_error("ema: 0.9\n"), "x.yaml:1:6: ema is '0.9'; expected its keys: decay, warmup, every");
  EXPECT_EQ(file_error("ema: {decay: 0}\n---\nema: {decay: 0.9}\n"),
            "x.yaml: 2 YAML documents, separated by '---'; expected one");
  EXPECT_EQ(file_error("? [a]\n: 1\n"), "x.yaml:1:3: a key is a list; expected a name");
  EXPECT_EQ(file_error("ema: &e {decay: 0}\ntrain:\n  <<: *e\n"),
            "x.yaml:3:3: unknown key 'train.<<'; YAML merge keys are not supported: write the keys out");
  EXPECT_EQ(file_error("ema:\n  decay: \"0.9\n"), "x.yaml:2:14: not valid YAML: illegal EOF in scalar");
  EXPECT_EQ(file_error("ema: *e\n"), "x.yaml:1:6: not valid YAML: the referenced anchor is not defined");
}

TEST(ConfigErrors, Overrides) {
  EXPECT_EQ(override_error("schedule.lr=fast"),
            "override 'schedule.lr=fast': schedule.lr is 'fast'; expected a number such as 0.5");
  EXPECT_EQ(override_error("schedule.rl=1"),
            "override 'schedule.rl=1': unknown key 'schedule.rl'; did you mean "
            "'schedule.lr'?");
  EXPECT_EQ(override_error("schedule.lr="),
            "override 'schedule.lr=': schedule.lr is empty; expected a number such as 0.5");
  EXPECT_EQ(
      override_error("schedule={lr: 1, lr: 2}"),
      "override 'schedule={lr: 1, lr: 2}': duplicate key 'schedule.lr'; it is already at override 'schedule={lr: 1, "
      "lr: 2}'");
  for (const char* argument : {"schedule.lr", "=1", ""}) {
    EXPECT_EQ(override_error(argument),
              std::string("override '") + argument + "': expected key.path=value, such as schedule.lr=0.1");
  }
  EXPECT_EQ(override_error("model.stage_channels=[1,"),
            "override 'model.stage_channels=[1,': not valid YAML: end of sequence flow not found");
}

TEST(ConfigErrors, FilesThatCannotBeRead) {
  const std::string folder = std::filesystem::temp_directory_path().string();
  EXPECT_EQ(usage_error([] { read_config("no/such.yaml", {}); }),
            "no/such.yaml: cannot open the configuration: No such file or directory");
  EXPECT_EQ(usage_error([&] { read_config(folder, {}); }),
            folder + ": is a folder; expected a YAML configuration file");
}

TEST(ConfigErrors, QuickDecodingNeedsACropFirst) {
  EXPECT_EQ(file_error("data: {decode: quick}\naugment: {transforms: [flip, random_resized_crop]}\n"),
            "x.yaml:1:16: data.decode is quick, but the first transform is neither random_resized_crop nor resize, so "
            "that whole images are needed; expected data.decode exact, or another list in augment.transforms");
}

TEST(ConfigErrors, NetworksThatCannotBeBuilt) {
  EXPECT_EQ(file_error("model:\n  width: custom\n"),
            "x.yaml:2:10: model.width is custom, but model.stage_channels is not set; expected the output channels of "
            "three stages, such as [48, 96, 192]");
  EXPECT_EQ(file_error("model:\n  stage_channels: [48, 96]\n"),
            "x.yaml:2:19: model.stage_channels has 2 values; expected 3, such as [48, 96, 192]");
  EXPECT_EQ(file_error("model:\n  stage_channels: [48, 97, 192]\n"),
            "x.yaml:2:19: model.stage_channels has 97; expected even numbers, for each unit splits its channels into "
            "halves");
  EXPECT_EQ(file_error("model: {stage_repeats: [4, 8, 4, 1]}\n"),
            "x.yaml:1:24: model.stage_repeats has 4 values; expected 3, such as [4, 8, 4]");
  EXPECT_EQ(file_error("model: {width: 0.5x, dialect: megvii, stem_channels: 48}\n"),
            "x.yaml:1:54: a stage of 48 channels follows 48 channels; in the megvii dialect each stage must have more "
            "channels than the one before (the first, more than model.stem_channels)");
  EXPECT_EQ(file_error("model: {width: 0.5x, stem_channels: 48}\n"), "no error");
}

TEST(ConfigErrors, ClassesAndChannelsThatDisagree) {
  EXPECT_EQ(file_error("model: {classes: 3}\ndata: {class_names: [a, b]}\n"),
            "x.yaml:1:18: model.classes is 3, but data.class_names has 2 names; expected as many, or model.classes 0");
  EXPECT_EQ(file_error("data: {class_names: [a, b, a]}\n"), "x.yaml:1:21: data.class_names has 'a' twice");
  EXPECT_EQ(file_error("data: {class_names: [a, \"\"]}\n"), "x.yaml:1:21: data.class_names has an empty name");
  EXPECT_EQ(file_error("model: {input_channels: 1}\n"),
            "x.yaml:1:25: normalisation.mean has 3 values, but model.input_channels is 1; expected one value for each "
            "channel");
  EXPECT_EQ(file_error("normalisation:\n  mean: [0, 0, 0]\n  std: [1]\n"),
            "x.yaml:3:8: normalisation.std has 1 value, but model.input_channels is 3; expected one value for each "
            "channel");
  EXPECT_EQ(file_error("model: {input_channels: 1}\nnormalisation: {mean: [0], std: [1], channel_order: bgr}\n"),
            "x.yaml:2:53: normalisation.channel_order is bgr, but model.input_channels is 1; one channel has no order, "
            "expected rgb");
}

TEST(ConfigErrors, ImageSizesThatDisagree) {
  EXPECT_EQ(file_error("eval: {crop: 288}\n"),
            "x.yaml:1:14: eval.resize is 256, less than eval.crop, 288; the crop would have black borders; expected at "
            "least 288, or 0");
}

TEST(ConfigErrors, SettingsThatTheirScheduleIgnores) {
  EXPECT_EQ(
      file_error("schedule: {kind: step}\n"),
      "x.yaml:1:18: schedule.kind is step, but schedule.milestones is empty; expected when to lower the rate, such "
      "as [80ep, 120ep]");
  EXPECT_EQ(file_error("schedule: {milestones: [3ep]}\n"),
            "x.yaml:1:24: schedule.milestones is set, but schedule.kind is cosine; only step has milestones");
  EXPECT_EQ(file_error("schedule: {kind: constant, final_lr: 0.1}\n"),
            "x.yaml:1:38: schedule.final_lr is set, but schedule.kind is constant; only linear, cosine and polynomial "
            "fall to a final rate");
  EXPECT_EQ(file_error("schedule: {final_lr: 0.6}\n"),
            "x.yaml:1:22: schedule.final_lr is 0.6; expected at most schedule.lr, 0.5");
  EXPECT_EQ(file_error("optimizer: {nesterov: true, momentum: 0}\n"),
            "x.yaml:1:39: optimizer.nesterov is true, but optimizer.momentum is 0; expected a momentum such as 0.9");
}

TEST(ConfigErrors, SettingsThatNothingReads) {
  EXPECT_EQ(file_error("schedule: {gamma: 0.5}\n"),
            "x.yaml:1:19: schedule.gamma is 0.5, but schedule.kind is cosine, which does not use it; expected its "
            "default, 0.1");
  EXPECT_EQ(file_error("schedule: {kind: linear, power: 2}\n"),
            "x.yaml:1:33: schedule.power is 2, but schedule.kind is linear, which does not use it; expected its "
            "default, 1");
  EXPECT_EQ(file_error("schedule:\n  warmup_factor: 0.1\n"),
            "x.yaml:2:18: schedule.warmup_factor is 0.1, but schedule.warmup is 0: there is no warm-up; expected its "
            "default, 0");
  EXPECT_EQ(file_error("schedule: {batch_rule: sqrt}\n"),
            "x.yaml:1:24: schedule.batch_rule is sqrt, but schedule.reference_batch is 0: rates are for the batch in "
            "use; expected its default, linear");
}

TEST(ConfigErrors, ResizingThatDoesNotHappen) {
  for (const char* setting : {"interpolation: opencv-bilinear", "rounding: half-up", "crop_offset: floor"}) {
    const std::string text(setting), key = text.substr(0, text.find(':')), value = text.substr(key.size() + 2);
    const std::string message = file_error("eval: {resize: 0, " + text + "}\n");
    EXPECT_EQ(message.rfind(join("x.yaml:1:", 21 + key.size(), ": eval.", key, " is ", value, ", but "), 0), 0u)
        << message;
    EXPECT_NE(message.find("eval.resize is 0: images are not resized; expected its default, "), std::string::npos)
        << message;
  }
}

TEST(ConfigErrors, FrozenPartsAreTheFirstOnes) {
  const std::string message = file_error("finetune:\n  freeze: [stem, stage3]\n");
  EXPECT_EQ(message.rfind("x.yaml:2:11: finetune.freeze has stage3, but not stage2, which comes before it", 0), 0u)
      << message;
  EXPECT_EQ(file_error("finetune: {freeze: [stem, stem]}\n"), "x.yaml:1:20: finetune.freeze has stem twice");
  EXPECT_EQ(file_error("finetune: {freeze: [stem, stage1]}\n"),
            "x.yaml:1:27: finetune.freeze is 'stage1'; expected one of stem, stage2, stage3, stage4, conv5; did you "
            "mean 'stage2'?");
  EXPECT_EQ(file_error("finetune: {freeze: stem}\n"),
            "x.yaml:1:20: finetune.freeze is 'stem'; expected a list of strings such as [cat, dog]");
  EXPECT_NE(file_error("finetune: {freeze: [stem, stage2, stage3, stage4, conv5], head_only: 1ep}\n")
                .find("x.yaml:1:70: finetune.head_only is 1ep, but finetune.freeze has all parts"),
            std::string::npos);
}

TEST(ConfigErrors, RatesByPattern) {
  const auto error = [](const std::string& rules) {
    return file_error("optimizer: {lr_multipliers: " + rules + "}\n");
  };
  const std::string expected = "; expected {pattern: \"fc.*\", multiplier: 10}";
  EXPECT_EQ(error("{fc.*: 10}"),
            "x.yaml:1:29: optimizer.lr_multipliers is a mapping; expected a list such as "
            "[{pattern: \"fc.*\", multiplier: 10}]");
  EXPECT_EQ(error("[10]"), "x.yaml:1:30: an element of optimizer.lr_multipliers is '10'" + expected);
  EXPECT_EQ(error("[{pattern: a}]"),
            "x.yaml:1:30: an element of optimizer.lr_multipliers has no multiplier" + expected);
  EXPECT_EQ(error("[{multiplier: 1}]"),
            "x.yaml:1:30: an element of optimizer.lr_multipliers has no pattern" + expected);
  EXPECT_EQ(error("[{pattern: a, lr: 1}]"), "x.yaml:1:43: unknown key 'lr' in optimizer.lr_multipliers" + expected);
  EXPECT_EQ(error("[{pattern: a, pattern: b}]"), "x.yaml:1:43: duplicate key 'pattern' in optimizer.lr_multipliers");
  EXPECT_EQ(error("[{pattern: a, multiplier: -1}]"),
            "x.yaml:1:55: optimizer.lr_multipliers.multiplier is -1; expected a number >= 0");
}

TEST(ConfigErrors, FilesThatAreNoText) {
  const std::string folder = std::filesystem::temp_directory_path().string();
  for (const char* name : {"/riffle-no-text.safetensors", "/riffle-no-text.pth"}) {
    const std::string path = folder + name;
    std::ofstream(path, std::ios::binary) << std::string("\x08\0\0\0\0\0\0\0{}", 10);
    const std::string message = usage_error([&] { read_config(path, {}); });
    std::filesystem::remove(path);
    EXPECT_EQ(message.rfind(path + ": is ", 0), 0u) << message;
    EXPECT_NE(message.find("expected a YAML configuration"), std::string::npos) << message;
    EXPECT_EQ(message.find("a checkpoint") != std::string::npos, std::string(name) == "/riffle-no-text.safetensors");
  }
}

TEST(ConfigErrors, CheckedTogetherBlameTheOverride) {
  EXPECT_EQ(override_error("schedule.final_lr=0.4"),
            "override 'schedule.final_lr=0.4': schedule.final_lr is 0.4; expected at most schedule.lr, 0.3");
}

TEST(Nearest, SuggestsOnlyWhatIsNear) {
  const std::vector<std::string> commands{"train", "eval", "predict", "inspect", "devices"};
  EXPECT_EQ(nearest("trian", commands), "train");  // a swap is one edit
  EXPECT_EQ(nearest("evl", commands), "eval");
  EXPECT_EQ(nearest("evaluate", commands), "");           // 4 > max(2, 8 / 3)
  EXPECT_EQ(nearest("prediction", commands), "predict");  // 3 = 10 / 3
  EXPECT_EQ(nearest("train", commands), "train");
  EXPECT_EQ(nearest("serve", commands), "");
  EXPECT_EQ(nearest("", commands), "");
  EXPECT_EQ(nearest("x", {"lr"}), "");              // within 2 edits, but nothing alike
  EXPECT_EQ(nearest("ab", {"abc", "abd"}), "abc");  // the first of equals
  EXPECT_EQ(nearest("word", {}), "");
}

}  // namespace
}  // namespace riffle
