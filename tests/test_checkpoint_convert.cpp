// Names, layouts and dialects, in memory: every naming there and back, what is inferred, what is refused, and channel
// permutations judged by the logits of both networks.
#include <cmath>

#include "checkpoint_files.h"
#include "data/imagenet_classes.h"
#include "train/checkpoint/checkpoint.h"
#include "train/checkpoint/convert.h"
#include "train/checkpoint/dialect_conversion.h"
#include "train/conversion_check.h"
#include "train/label_map.h"
#include "train/make_backend.h"

namespace riffle {
namespace {

ShuffleNetV2Config small_model(Dialect dialect) {
  ShuffleNetV2Config model;
  model.dialect = dialect;
  model.stem_channels = 4;
  model.stage_channels = {8, 16, 32};
  model.stage_repeats = {3, 5, 2};
  model.head_channels = 12;
  model.classes = 5;
  return model;
}

// Weights, and statistics that are nobody's defaults, so that a wrong map shows.
TensorMap random_tensors(const ShuffleNetV2Config& model) {
  const DeviceChoice device = make_backend({"cpu"});
  Backend& backend = *device.backend;
  ShuffleNetV2 network(backend, model, /*seed=*/3);
  TensorMap tensors;
  export_module(backend, network, tensors);
  uint32_t state = 7;
  for (auto& [name, tensor] : tensors) {
    if (tensor.shape.size() != 1) continue;
    std::vector<float> values;
    for (int64_t i = 0; i < tensor.elements(); ++i) {
      state = state * 1664525U + 1013904223U;
      values.push_back(0.5F + static_cast<float>(state >> 8U) / static_cast<float>(1U << 24U));
    }
    tensor = f32_tensor(tensor.shape, values);
  }
  return tensors;
}

TensorFile file_of(const ShuffleNetV2Config& model, Naming naming) {
  TensorFile file;
  file.format = "test";
  file.tensors = to_naming(random_tensors(model), model, naming);
  return file;
}

TensorMap without_counters(TensorMap tensors) {
  for (auto at = tensors.begin(); at != tensors.end();) {
    at = reason_to_ignore(at->first) == "batch counters" ? tensors.erase(at) : std::next(at);
  }
  return tensors;
}

struct Case {
  Naming naming;
  Dialect dialect;
};
class EveryNaming : public testing::TestWithParam<Case> {};

TEST_P(EveryNaming, ThereAndBack) {
  const ShuffleNetV2Config model = small_model(GetParam().dialect);
  const ConvertedModel converted = convert(file_of(model, GetParam().naming), {}, "x");
  EXPECT_EQ(converted.naming, GetParam().naming);
  EXPECT_TRUE(converted.metadata.model == model);
  EXPECT_TRUE(converted.reconciliation.complete());
  check(converted, false, false, "x");
  const TensorMap expected = random_tensors(model), actual = without_counters(converted.tensors);
  ASSERT_EQ(actual.size(), expected.size());
  for (const auto& [name, tensor] : expected) expect_same(actual.at(name), tensor, name);
}

INSTANTIATE_TEST_SUITE_P(
    Namings, EveryNaming,
    testing::Values(Case{Naming::kRiffle, Dialect::kTorchvision}, Case{Naming::kRiffle, Dialect::kMegvii},
                    Case{Naming::kRiffle, Dialect::kTensorpack}, Case{Naming::kMegvii, Dialect::kMegvii},
                    Case{Naming::kTensorpack, Dialect::kTensorpack}, Case{Naming::kKeras, Dialect::kTensorpack}));

TEST(Conversion, PublishedWidthsAreRecognised) {
  for (const Dialect dialect : {Dialect::kTorchvision, Dialect::kMegvii, Dialect::kTensorpack}) {
    for (const char* width : {"0.5x", "2.0x"}) {
      const ShuffleNetV2Config model = ShuffleNetV2Config::published(width, dialect);
      const ConvertedModel converted = convert(file_of(model, Naming::kRiffle), {}, "x");
      EXPECT_TRUE(converted.metadata.model == model) << name_of(dialect) << width;
      const int resize = dialect == Dialect::kTorchvision && model.head_channels == 2048 ? 232 : 256;
      EXPECT_EQ(converted.metadata.preprocessing.resize, resize);
      EXPECT_EQ(converted.metadata.classes, imagenet_wnids());
    }
  }
}

TEST(Conversion, AccountsForEveryTensor) {
  TensorFile file = file_of(small_model(Dialect::kMegvii), Naming::kMegvii);
  file.tensors.erase("features.4.branch_main.3.weight");
  file.tensors["head.extra"] = f32_tensor({1}, {0});
  file.tensors["features.1.branch_main.0.momentum_buffer"] = f32_tensor({1}, {0});
  file.tensors["conv_last.1.weight"] = f32_tensor({3}, {1, NAN, 3});
  file.tensors["first_conv.1.bias"] = f32_tensor({4}, {INFINITY, NAN, 1e-40F, 1});
  const ConvertedModel converted = convert(file, {}, "x");
  const Reconciliation& report = converted.reconciliation;
  EXPECT_EQ(report.missing, std::vector<std::string>{"features.4.branch_main.3.weight"});
  EXPECT_EQ(report.unexpected, std::vector<std::string>{"head.extra"});
  ASSERT_EQ(report.mismatched.size(), 1U);
  expect_message(report.mismatched[0], {"conv_last.1.weight", "file 3", "expected 12"});
  EXPECT_EQ(report.ignored.at("optimizer state"), 1);
  ASSERT_EQ(report.odd.size(), 1U);
  EXPECT_EQ(report.odd[0].name, "first_conv.1.bias");
  EXPECT_EQ(report.odd[0].nans, 1);
  EXPECT_EQ(report.odd[0].infinities, 1);
  EXPECT_EQ(report.odd[0].denormals, 1);
  expect_message(report.text(), {"missing 1", "unexpected 1", "another shape 1", "1 NaN 1 infinite 1 denormal"});
  expect_message(message_of([&] { check(converted, true, true, "x"); }),
                 {"1 tensors are missing", "1 have another shape"});
}

// tf.train.Checkpoint(model=...): paths of objects, and the optimizer's slots beside them.
TEST(Conversion, WhatIsOfTrainingOnly) {
  for (const char* name : {"conv1.1.num_batches_tracked", "n_averaged"})
    EXPECT_EQ(reason_to_ignore(name), "batch counters") << name;
  for (const char* name : {"conv1/W/Momentum", "conv1/W/Adam_1:0", "SGD/momentum", "Adam/iter", "Adam/conv1/W/m",
                           "conv1/bn/gamma/v:0", "stage2/block0/conv1/W/ExponentialMovingAverage"})
    EXPECT_EQ(reason_to_ignore(name), "optimizer state") << name;
  for (const char* name : {"conv1/W", "conv1.0.weight", "stage2/block0/conv1/bn/beta", "fc.bias", "momentum"})
    EXPECT_EQ(reason_to_ignore(name), "") << name;
}

TEST(Conversion, ObjectBasedNamesOfKeras) {
  const ShuffleNetV2Config model = small_model(Dialect::kTensorpack);
  TensorFile file;
  for (const auto& [name, tensor] : file_of(model, Naming::kKeras).tensors) {
    file.tensors["model/" + name + "/.ATTRIBUTES/VARIABLE_VALUE"] = tensor;
    file.tensors["model/" + name + "/.OPTIMIZER_SLOT/optimizer/m/.ATTRIBUTES/VARIABLE_VALUE"] = tensor;
  }
  file.tensors["save_counter/.ATTRIBUTES/VARIABLE_VALUE"] = host_tensor<int64_t>(FileDType::kI64, {}, {1});
  ConvertOptions options;
  const ConvertedModel rgb = convert(file, options, "x");
  check(rgb, false, false, "x");
  EXPECT_TRUE(rgb.metadata.model == model);
  EXPECT_EQ(rgb.reconciliation.ignored.at("optimizer state"), rgb.reconciliation.matched);
  EXPECT_FALSE(rgb.metadata.normalisation.reverse_channels);
  options.bgr = true;
  const Normalisation bgr = convert(file, options, "x").metadata.normalisation;
  EXPECT_TRUE(bgr.reverse_channels);
  EXPECT_EQ(bgr.mean, (std::vector<double>{0.406, 0.456, 0.485}));
}

TEST(Conversion, RifflesOwnCheckpoints) {
  const ShuffleNetV2Config model = small_model(Dialect::kMegvii);
  const ConvertedModel foreign = convert(file_of(model, Naming::kMegvii), {}, "x");
  TensorFile file;
  file.metadata = to_json(foreign.metadata);
  file.tensors = random_tensors(model);
  for (const auto& [name, tensor] : random_tensors(model)) {
    file.tensors["ema." + name] = HostTensor{tensor.dtype, tensor.shape, std::vector<uint8_t>(tensor.bytes.size())};
    file.tensors["optimizer.momentum." + name] = tensor;
  }
  const ConvertedModel raw = convert(file, {}, "x");
  check(raw, false, false, "x");
  EXPECT_TRUE(raw.own);
  expect_same(raw.tensors.at("fc.weight"), file.tensors.at("fc.weight"), "raw");
  EXPECT_FALSE(raw.metadata.averaged);
  ConvertOptions options;
  options.averages = true;
  const ConvertedModel averages = convert(file, options, "x");
  check(averages, false, false, "x");
  EXPECT_TRUE(averages.metadata.averaged);
  expect_same(averages.tensors.at("fc.weight"), file.tensors.at("ema.fc.weight"), "averages");
  options = {};
  options.claims.dialect = Dialect::kTensorpack;
  expect_message(message_of([&] { convert(file, options, "x"); }), {"says that it is of the megvii dialect", "--to"});
}

TEST(Conversion, SwitchesAllowWhatIsHarmlessOnly) {
  TensorFile file = file_of(small_model(Dialect::kTensorpack), Naming::kTensorpack);
  file.tensors["extra"] = f32_tensor({1}, {0});
  file.tensors["linear/b"] = f32_tensor({5}, {1, 2, INFINITY, 4, 5});
  const ConvertedModel converted = convert(file, {}, "x");
  expect_message(message_of([&] { check(converted, false, true, "x"); }), {"--allow-unexpected"});
  expect_message(message_of([&] { check(converted, true, false, "x"); }), {"1 tensors", "--allow-nonfinite"});
  check(converted, true, true, "x");
  EXPECT_EQ(converted.tensors.count("extra"), 0U);
}

TEST(Conversion, NamesDecideTheDialect) {
  const auto refusal = [](const TensorFile& file, const ConvertOptions& options = {}) {
    return message_of([&] { convert(file, options, "x.pth"); });
  };
  TensorFile megvii = file_of(small_model(Dialect::kMegvii), Naming::kMegvii);
  ConvertOptions claim;
  claim.claims.dialect = Dialect::kTorchvision;
  expect_message(refusal(megvii, claim), {"of the megvii dialect", "Megvii's", "a rename would load and be wrong"});
  claim.claims = {};
  claim.claims.width = "1.0x";
  expect_message(refusal(megvii, claim), {"--width 1.0x would have 116, 232, 464 and 1024"});
  TensorFile mixed = megvii;
  mixed.tensors["stage2/block0/conv1/W"] = f32_tensor({1, 1, 4, 4}, std::vector<float>(16));
  expect_message(refusal(mixed), {"names of several kinds", "stage2/block0/conv1/W", "features.0.branch_main"});
  TensorFile halves = file_of(small_model(Dialect::kTorchvision), Naming::kRiffle);
  halves.tensors["stage2.0.branch_proj.0.weight"] = f32_tensor({1}, {0});
  expect_message(refusal(halves), {"names of two dialects", "branch_proj"});
  TensorFile other;
  other.tensors["layer1.0.conv1.weight"] = f32_tensor({1}, {0});
  expect_message(refusal(other), {"none of ShuffleNetV2's", "'layer1.0.conv1.weight'"});
  other.tensors.clear();
  other.tensors[std::string(1 << 20, 'a') + "/Momentum"] = f32_tensor({1}, {0});
  EXPECT_LT(refusal(other).size(), 2000U);
}

std::vector<float> logits_of(const ShuffleNetV2Config& model, const TensorMap& tensors) {
  const DeviceChoice device = make_backend({"cpu"});
  Backend& backend = *device.backend;
  CheckpointMetadata metadata;
  metadata.model = model;
  metadata.preprocessing.crop = 64;
  return probe_logits(backend, metadata, tensors, "x");
}

TEST(DialectConversion, LogitsStayWhereShapesAgree) {
  const ShuffleNetV2Config model = small_model(Dialect::kMegvii);
  const TensorMap tensors = random_tensors(model);
  const DialectConversion there = convert_dialect(model, tensors, Dialect::kTorchvision, "x");
  EXPECT_EQ(there.model.dialect, Dialect::kTorchvision);
  EXPECT_LE(relative_difference(logits_of(model, tensors), logits_of(there.model, there.tensors)), 1e-5);
  const DialectConversion back = convert_dialect(there.model, there.tensors, Dialect::kMegvii, "x");
  ASSERT_EQ(back.tensors.size(), tensors.size());
  for (const auto& [name, tensor] : tensors) expect_same(back.tensors.at(name), tensor, name);

  // A plain rename fits as well, and is another function.
  TensorMap renamed;
  for (const auto& [name, tensor] : tensors) {
    std::string other = name;
    if (const size_t at = other.find("branch_proj"); at != std::string::npos) other.replace(at, 11, "branch1");
    if (const size_t at = other.find("branch_main"); at != std::string::npos) other.replace(at, 11, "branch2");
    renamed[other] = tensor;
  }
  renamed["fc.bias"] = f32_tensor({5}, std::vector<float>(5));
  EXPECT_GE(relative_difference(logits_of(model, tensors), logits_of(there.model, renamed)), 1e-3);
}

TEST(DialectConversion, RefusesWhatHasNoEqual) {
  const auto refusal = [](const ShuffleNetV2Config& model, Dialect to) {
    return message_of([&] { convert_dialect(model, random_tensors(model), to, "x"); });
  };
  expect_message(refusal(small_model(Dialect::kTensorpack), Dialect::kMegvii), {"tensorpack to megvii", "pads"});
  expect_message(refusal(small_model(Dialect::kTorchvision), Dialect::kMegvii), {"bias that is not zero"});
  ShuffleNetV2Config uneven = small_model(Dialect::kMegvii);
  uneven.stem_channels = 6;
  uneven.stage_channels = {8, 16, 32};
  expect_message(refusal(uneven, Dialect::kTorchvision), {"different shapes in stage2", "6 to 8", "only 0.5x"});
}

TEST(ImageNetClasses, NamesAndIds) {
  ASSERT_EQ(imagenet_classes().size(), 1000U);
  EXPECT_STREQ(imagenet_classes().front().wnid, "n01440764");
  EXPECT_STREQ(imagenet_names("n01440764"), "tench, Tinca tinca");
  EXPECT_EQ(imagenet_names("n00000000"), nullptr);
  EXPECT_EQ(imagenet_wnid("tench"), "n01440764");
  EXPECT_EQ(imagenet_wnid("crane"), "");  // a bird and a machine
  const std::vector<std::string> wnids = imagenet_wnids();
  EXPECT_TRUE(std::is_sorted(wnids.begin(), wnids.end()));
  const LabelMap map = match_classes({"goldfish", "n01440764"}, wnids, "data");
  EXPECT_EQ(map.to_network, (std::vector<int32_t>{1, 0}));
  expect_message(message_of([&] { match_classes({"crane"}, wnids, "data"); }), {"unknown to the network", "crane"});
}

}  // namespace
}  // namespace riffle
