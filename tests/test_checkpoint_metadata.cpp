// Checkpoint metadata: it survives the trip through a file, and every field that is missing or wrong is named.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "tests/checkpoint_files.h"
#include "train/checkpoint/metadata.h"
#include "train/checkpoint/safetensors.h"

namespace riffle {
namespace {

using Json = nlohmann::json;

CheckpointMetadata example() {
  CheckpointMetadata metadata;
  metadata.model = ShuffleNetV2Config::published("0.5x", Dialect::kMegvii);
  metadata.model.classes = 3;
  metadata.model.input_channels = 1;
  metadata.model.stem_stride = 1;
  metadata.model.stem_max_pool = false;
  metadata.model.dropout = 0.2;
  metadata.classes = {"T-shirt", "\u00e9charpe", "1"};
  metadata.preprocessing = {0, 28};
  metadata.normalisation.scale = 1.0 / 255;
  metadata.normalisation.mean = {0.2860};
  metadata.normalisation.std = {0.3530};
  metadata.training = {12, 5625};
  metadata.averaged = true;
  metadata.metrics = {92.34, 99.81, 0.2345678901234567};
  metadata.config_yaml = "train:\n  batch: 128\n";
  metadata.riffle_version = "0.1.0";
  return metadata;
}

void expect_equal(const CheckpointMetadata& actual, const CheckpointMetadata& expected) {
  EXPECT_TRUE(actual.model == expected.model);
  EXPECT_EQ(actual.classes, expected.classes);
  EXPECT_TRUE(actual.preprocessing == expected.preprocessing) << to_json(actual.preprocessing);
  EXPECT_EQ(actual.normalisation.scale, expected.normalisation.scale);
  EXPECT_EQ(actual.normalisation.mean, expected.normalisation.mean);
  EXPECT_EQ(actual.normalisation.std, expected.normalisation.std);
  EXPECT_EQ(actual.normalisation.reverse_channels, expected.normalisation.reverse_channels);
  ASSERT_EQ(actual.training.has_value(), expected.training.has_value());
  if (expected.training) {
    EXPECT_EQ(actual.training->epoch, expected.training->epoch);
    EXPECT_EQ(actual.training->step, expected.training->step);
    EXPECT_EQ(actual.training->loss_scale, expected.training->loss_scale);
  }
  ASSERT_EQ(actual.metrics.has_value(), expected.metrics.has_value());
  if (expected.metrics) {
    EXPECT_EQ(actual.metrics->top1_percent, expected.metrics->top1_percent);
    EXPECT_EQ(actual.metrics->top5_percent, expected.metrics->top5_percent);
    EXPECT_EQ(actual.metrics->loss, expected.metrics->loss);
  }
  EXPECT_EQ(actual.averaged, expected.averaged);
  EXPECT_EQ(actual.config_yaml, expected.config_yaml);
  EXPECT_EQ(actual.riffle_version, expected.riffle_version);
}

CheckpointMetadata through_a_file(const CheckpointMetadata& metadata) {
  const TemporaryFolder folder;
  const std::string path = folder.file("model.safetensors");
  write_safetensors(path, {{}, to_json(metadata)});
  return metadata_from_json(read_safetensors(path).metadata, path);
}

std::string reading(const Json& json) {
  const std::string message = message_of([&] { metadata_from_json(json, "a.safetensors"); });
  expect_message(message, {"a.safetensors: metadata"});
  return message;
}

// Every field, as a JSON pointer, except those that only inform people and the optional sections as a whole.
std::vector<std::string> required_fields() {
  return {"/riffle_version",
          "/model",
          "/model/architecture",
          "/model/dialect",
          "/model/stage_channels",
          "/model/stage_repeats",
          "/model/stem_channels",
          "/model/head_channels",
          "/model/classes",
          "/model/input_channels",
          "/model/stem_stride",
          "/model/stem_max_pool",
          "/model/dropout",
          "/classes",
          "/preprocessing",
          "/preprocessing/resize",
          "/preprocessing/crop",
          "/preprocessing/interpolation",
          "/normalisation",
          "/normalisation/scale",
          "/normalisation/mean",
          "/normalisation/std",
          "/normalisation/channel_order",
          "/training/epoch",
          "/training/step",
          "/metrics/top1_percent",
          "/metrics/top5_percent",
          "/metrics/loss",
          "/config"};
}

std::string dotted(std::string pointer) {
  pointer.erase(0, 1);
  std::replace(pointer.begin(), pointer.end(), '/', '.');
  return pointer;
}

TEST(Metadata, SurvivesAFile) {
  expect_equal(through_a_file(example()), example());

  CheckpointMetadata converted = example();
  converted.model = ShuffleNetV2Config::published("2.0x", Dialect::kTensorpack);
  converted.classes.assign(1000, "n01440764");
  converted.normalisation = {};
  converted.normalisation.reverse_channels = true;
  converted.preprocessing = {256, 224, Interpolation::kOpenCvBicubic, ResizeRounding::kHalfUp, CropOffset::kFloor,
                             true};
  converted.training.reset();
  converted.metrics.reset();
  converted.config_yaml.clear();
  expect_equal(through_a_file(converted), converted);
}

TEST(Metadata, KeepsALossThatIsNotFinite) {
  CheckpointMetadata metadata = example();
  metadata.metrics->loss = std::numeric_limits<double>::infinity();
  EXPECT_TRUE(std::isnan(through_a_file(metadata).metrics->loss));
}

TEST(Metadata, KeepsALossScaleOtherThanOne) {
  CheckpointMetadata metadata = example();
  EXPECT_FALSE(to_json(metadata).at("training").contains("loss_scale"));
  metadata.training->loss_scale = 32768;
  expect_equal(through_a_file(metadata), metadata);
  Json json = to_json(metadata);
  EXPECT_EQ(json.at("training").at("loss_scale"), 32768);
  for (const Json& wrong : {Json(0), Json(-2), Json("x"), Json(nullptr)}) {
    json["training"]["loss_scale"] = wrong;
    expect_message(reading(json), {"'training.loss_scale' is " + wrong.dump(), "a number"});
  }
}

TEST(Metadata, WeightsAreAsTrainedUnlessItSaysOtherwise) {
  Json json = to_json(example());
  EXPECT_EQ(json.at("weights"), "ema");
  json.erase("weights");
  EXPECT_FALSE(metadata_from_json(json, "a.safetensors").averaged);
  json["weights"] = "swa";
  expect_message(reading(json), {"'weights' is \"swa\"", "\"raw\" or \"ema\""});
}

TEST(Metadata, EveryPreprocessingSurvives) {
  CheckpointMetadata metadata = example();
  for (const std::string& interpolation : interpolation_names())
    for (const std::string& rounding : rounding_names())
      for (const std::string& crop_offset : crop_offset_names()) {
        metadata.preprocessing = {256, 224, find_interpolation(interpolation).value(), find_rounding(rounding).value(),
                                  find_crop_offset(crop_offset).value()};
        expect_equal(through_a_file(metadata), metadata);
        const Json expected{{"resize", 256},
                            {"crop", 224},
                            {"interpolation", interpolation},
                            {"rounding", rounding},
                            {"crop_offset", crop_offset},
                            {"exif_orientation", false}};
        EXPECT_EQ(to_json(metadata).at("preprocessing"), expected);
      }
}

TEST(Metadata, PreprocessingOfOlderFilesIsTorchvisions) {
  Json json = to_json(example());
  json["preprocessing"] = {{"resize", 256}, {"crop", 224}, {"interpolation", "pillow-bilinear"}};
  EXPECT_TRUE(metadata_from_json(json, "a.safetensors").preprocessing == EvalTransform{});
}

TEST(Metadata, NamesEachMissingField) {
  const Json whole = to_json(example());
  for (const std::string& field : required_fields()) {
    Json json = whole;
    const Json::json_pointer pointer(field);
    json.at(pointer.parent_pointer()).erase(pointer.back());
    expect_message(reading(json), {"lacks '" + dotted(field) + "'", "written by riffle?"});
  }
  reading(Json::object());
  reading(Json(nullptr));
}

TEST(Metadata, NamesEachIllTypedField) {
  const Json whole = to_json(example());
  for (const std::string& field : required_fields()) {
    for (const Json& wrong : {Json{{"a", 1}}, Json({1, "two"}), Json(-1.5e300), Json("x"), Json(nullptr)}) {
      Json json = whole;
      Json& value = json.at(Json::json_pointer(field));
      // Text may say anything in these two, the loss may be any number or null.
      if ((field == "/riffle_version" || field == "/config") && wrong.is_string()) continue;
      if (field == "/metrics/loss" && (wrong.is_number() || wrong.is_null())) continue;
      if ((field == "/metrics/top1_percent" || field == "/metrics/top5_percent") && wrong.is_number()) continue;
      value = wrong;
      const std::string message = message_of([&] { metadata_from_json(json, "a.safetensors"); });
      // An object in place of a section lacks its fields.
      const bool names_field = message.find("'" + dotted(field) + "' is ") != std::string::npos;
      const bool names_part = wrong.is_object() && message.find("lacks '" + dotted(field) + ".") != std::string::npos;
      EXPECT_TRUE(names_field || names_part) << field << " = " << wrong << ": " << message;
    }
  }
}

TEST(Metadata, SaysWhatWouldBeAccepted) {
  const auto with = [](const char* field, const Json& value) {
    Json json = to_json(example());
    json[Json::json_pointer(field)] = value;
    return reading(json);
  };
  expect_message(with("/model/dialect", "pytorch"),
                 {"'model.dialect' is \"pytorch\"", "torchvision", "megvii", "tensorpack"});
  expect_message(with("/model/architecture", "resnet"), {"'model.architecture' is \"resnet\"", "\"shufflenet_v2\""});
  expect_message(with("/model/stage_channels", {116, 232}), {"'model.stage_channels' is [116,232]", "3 whole numbers"});
  expect_message(with("/model/stage_repeats", {4, 8, 0}), {"'model.stage_repeats'", "from 1"});
  expect_message(with("/model/stem_channels", uint64_t{1} << 63), {"'model.stem_channels' is 9223372036854775808"});
  expect_message(with("/model/input_channels", 2), {"'model.input_channels' is 2", "1 or 3"});
  expect_message(with("/model/dropout", 1.0), {"'model.dropout' is 1.0", "[0, 1)"});
  expect_message(with("/classes", {"a", "b"}), {"'classes'", "a list of 3 texts"});
  expect_message(with("/normalisation/mean", {0.1, 0.2, 0.3}), {"'normalisation.mean'", "a list of 1 number"});
  expect_message(with("/normalisation/std", Json::array({0.0})), {"'normalisation.std'", "> 0"});
  expect_message(with("/normalisation/scale", 0), {"'normalisation.scale' is 0", "> 0"});
  expect_message(with("/normalisation/channel_order", "rbg"), {"\"rbg\"", "\"rgb\" or \"bgr\""});
  expect_message(with("/preprocessing/interpolation", "nearest"),
                 {"'preprocessing.interpolation' is \"nearest\"", "\"pillow-bilinear\"", "\"opencv-bicubic\""});
  expect_message(with("/preprocessing/rounding", "up"),
                 {"'preprocessing.rounding' is \"up\"", "\"truncate\", \"half-up\""});
  expect_message(with("/preprocessing/crop_offset", 0), {"'preprocessing.crop_offset' is 0", "text"});
  expect_message(with("/preprocessing/exif_orientation", 6),
                 {"'preprocessing.exif_orientation' is 6", "true or false"});
  expect_message(with("/preprocessing/crop_offset", "ceil"), {"\"ceil\"", "\"half-to-even\", \"floor\""});
  expect_message(with("/preprocessing/crop", 0), {"'preprocessing.crop' is 0", "from 1"});
  expect_message(with("/training/step", -1), {"'training.step' is -1"});
  expect_message(with("/config", Json(std::vector<int>(1000, 1))), {"'config' is array of 1000"});
}

TEST(Metadata, RefusesToStoreContradictions) {
  CheckpointMetadata metadata = example();
  metadata.classes.pop_back();
  expect_message(message_of([&] { to_json(metadata); }), {"2 class names for a model of 3 classes"});
  metadata = example();
  metadata.normalisation.std = {1, 1, 1};
  expect_message(message_of([&] { to_json(metadata); }), {"3 standard deviations for 1 input channels"});
  metadata = example();
  metadata.classes[1] = "caf\xe9";
  expect_message(message_of([&] { to_json(metadata); }), {"class 1", "caf\xe9", "UTF-8"});
}

TEST(Metadata, DescribesTheArchitectureOfAnyFile) {
  EXPECT_EQ(describe_architecture(to_json(example())), "ShuffleNetV2 0.5x (megvii), 3 classes");
  EXPECT_EQ(describe_architecture(Json::object()), "");
  EXPECT_EQ(describe_architecture(Json(nullptr)), "");
  EXPECT_EQ(describe_architecture({{"model", "resnet18"}}), "");
  EXPECT_EQ(describe_architecture({{"model", {{"architecture", "shufflenet_v2"}}}}), "");
}

}  // namespace
}  // namespace riffle
