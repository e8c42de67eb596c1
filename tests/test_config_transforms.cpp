// augment.transforms: how the list is written, what is wrong with wrong ones, and that docs/augmentation.md has every
// transform and parameter.
#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "core/check.h"
#include "train/config_reader.h"
#include "train/config_transforms.h"

namespace riffle {
namespace {

std::string error_of(const std::string& list, const std::string& more = "") {
  try {
    parse_config("augment: {transforms: " + list + "}\n" + more, "x.yaml", {});
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUsage);
    return error.what();
  }
  return "no error";
}

std::string text_of(const std::string& list) {
  std::string text;
  for (const TransformStep& step :
       parse_config("augment: {transforms: " + list + "}\n", "x.yaml", {}).augment.transforms)
    text += (text.empty() ? "" : " ") + value_text(step);
  return text;
}

TEST(ConfigTransforms, AreWrittenShortOrInFull) {
  EXPECT_EQ(text_of("[center_crop]"), "center_crop");
  EXPECT_EQ(text_of("[center_crop, flip]"), "center_crop {flip: {probability: 0.5}}");
  EXPECT_EQ(text_of("[{resize: 232}, {center_crop: }, {flip: 0.25}]"),
            "{resize: {short_edge: 232}} center_crop {flip: {probability: 0.25}}");
  EXPECT_EQ(text_of("[{flip: {probability: 1}}, {random_resized_crop: [0.25, 1]}]"),
            "{flip: {probability: 1}} {random_resized_crop: {scale: [0.25, 1], ratio: [0.75, 1.3333333333333333]}}");
  EXPECT_EQ(text_of("[center_crop, {rand_augment: {magnitude: 5, interpolation: bilinear}}]"),
            "center_crop {rand_augment: {operations: 2, magnitude: 5, bins: 31, interpolation: bilinear, fill: 0}}");
}

TEST(ConfigTransforms, KeepTheirOrderAndReplaceTheDefaults) {
  const Config config = parse_config("augment: {transforms: [auto_augment, center_crop, lighting]}\n", "x.yaml", {});
  ASSERT_EQ(config.train_transform().steps.size(), 3u);
  EXPECT_TRUE(std::holds_alternative<AutoAugment>(config.train_transform().steps[0]));
  EXPECT_TRUE(std::holds_alternative<CenterCrop>(config.train_transform().steps[1]));
  EXPECT_TRUE(std::holds_alternative<Lighting>(config.train_transform().steps[2]));
}

TEST(ConfigTransforms, EveryOneReadsBack) {
  for (TransformStep step : known_steps()) {
    TransformStep changed = step;
    for (const Field& field : fields_of(changed)) {
      if (auto* const* number = std::get_if<double*>(&field.value)) **number = 0.375;
      if (auto* const* number = std::get_if<int*>(&field.value)) **number = leaf_of(field.path) == "magnitude" ? 3 : 17;
      if (auto* const* text = std::get_if<std::string*>(&field.value)) **text = "bilinear";
      if (auto* const* range = std::get_if<Interval*>(&field.value)) **range = {0.125, 0.5};
    }
    const std::vector<Field> before = fields_of(step), after = fields_of(changed);
    for (size_t i = 0; i < before.size(); ++i)
      EXPECT_NE(before[i].value_text(), after[i].value_text()) << before[i].path;
    const std::string size = sets_size(step) ? "" : ", center_crop";
    const std::string more = std::holds_alternative<PadAndCrop>(step) ? "eval: {resize: 0}\n" : "";
    const Config config =
        parse_config(join("augment: {transforms: [", value_text(changed), size, "]}\n", more), "x.yaml", {});
    EXPECT_EQ(value_text(config.augment.transforms.at(0)), value_text(changed));
    EXPECT_EQ(to_yaml(parse_config(to_yaml(config), "x.yaml", {})), to_yaml(config));
  }
}

TEST(ConfigTransforms, WrongNames) {
  EXPECT_EQ(error_of("[flipp]"), "x.yaml:1:24: unknown transform 'flipp'; did you mean 'flip'?");
  EXPECT_EQ(error_of("[{random_resize_crop: {}}]"),
            "x.yaml:1:24: unknown transform 'random_resize_crop'; did you mean 'random_resized_crop'?");
  EXPECT_EQ(error_of("[mosaic]")
                .rfind("x.yaml:1:24: unknown transform 'mosaic'; the transforms are random_resized_crop, ", 0),
            0u);
  EXPECT_EQ(error_of("[center_crop, {flip: {probabilty: 1}}]"),
            "x.yaml:1:45: unknown key 'flip.probabilty'; did you mean 'flip.probability'?");
  EXPECT_EQ(error_of("[{random_resized_crop: {antialias: true}}]"),
            "x.yaml:1:47: unknown key 'random_resized_crop.antialias'; its parameters are scale, ratio");
  EXPECT_EQ(error_of("[{flip: {probability: 1, probability: 0}}]"),
            "x.yaml:1:48: duplicate key 'flip.probability'; it is already at x.yaml:1:32");
}

TEST(ConfigTransforms, WrongValues) {
  EXPECT_EQ(error_of("[{flip: often}]"), "x.yaml:1:31: flip.probability is 'often'; expected a number such as 0.5");
  EXPECT_EQ(error_of("[{flip: 2}]"), "x.yaml:1:31: flip.probability is 2; expected a number >= 0 and <= 1");
  EXPECT_EQ(error_of("[{flip: {probability: }}]"),
            "x.yaml:1:32: flip.probability is empty; expected a number such as 0.5");
  EXPECT_EQ(error_of("[{center_crop: 224}]"), "x.yaml:1:38: center_crop has no parameters; expected just its name");
  EXPECT_EQ(error_of("[{random_resized_crop: 0.08}]"),
            "x.yaml:1:46: random_resized_crop.scale is '0.08'; expected two numbers, the least and the greatest, such "
            "as [0.08, 1]");
  EXPECT_EQ(error_of("[{random_resized_crop: {ratio: [1, 2, 3]}}]"),
            "x.yaml:1:54: random_resized_crop.ratio is a list of 3; expected two numbers, the least and the greatest, "
            "such as [0.75, 1.3333333333333333]");
  EXPECT_EQ(error_of("[{random_resized_crop: [0.5, 0.25]}]"),
            "x.yaml:1:46: random_resized_crop.scale is [0.5, 0.25]; expected the least first, then the greatest");
  EXPECT_EQ(error_of("[{auto_augment: {interpolation: linear}}]"),
            "x.yaml:1:55: auto_augment.interpolation is 'linear'; expected one of nearest, bilinear; did you mean "
            "'bilinear'?");
  EXPECT_EQ(error_of("flip"),
            "x.yaml:1:23: augment.transforms is 'flip'; expected a list of transforms such as [random_resized_crop, "
            "{flip: 0.5}]");
  EXPECT_EQ(
      error_of("[{flip: 1, center_crop: }]"),
      "x.yaml:1:24: augment.transforms has a mapping of 2 keys; expected a transform such as flip, {flip: 0.5} or "
      "{flip: {probability: 0.5}}");
}

TEST(ConfigTransforms, ListsThatMakeNoSense) {
  const std::string here = "x.yaml:1:23: ";
  EXPECT_EQ(error_of("[flip]"), here +
                                    "augment.transforms does not give images a size; expected one of "
                                    "random_resized_crop, pad_and_crop, center_crop");
  EXPECT_EQ(error_of("[random_resized_crop, center_crop]"),
            here +
                "augment.transforms has both random_resized_crop and center_crop; expected one, which makes images of "
                "augment.size");
  EXPECT_EQ(error_of("[center_crop, resize]"), here +
                                                   "augment.transforms has resize after center_crop, which makes "
                                                   "images of augment.size; expected it before");
  EXPECT_EQ(error_of("[center_crop, {rand_augment: {magnitude: 31}}]"),
            here + "rand_augment.magnitude is 31; expected less than rand_augment.bins, 31");
  EXPECT_EQ(error_of("[center_crop, color_jitter]"),
            here + "color_jitter changes nothing; expected a strength, such as {color_jitter: {brightness: 0.4}}");
  const std::string gray = "model: {input_channels: 1}\nnormalisation: {mean: [0.5], std: [1]}\n";
  EXPECT_EQ(error_of("[center_crop, lighting]", gray), here +
                                                           "augment.transforms has lighting, but "
                                                           "model.input_channels is 1; gray images have no colours");
  EXPECT_EQ(error_of("[center_crop, {color_jitter: {hue: 0.1}}]", gray),
            here +
                "augment.transforms has color_jitter of saturation or hue, but model.input_channels is 1; gray images "
                "have no colours");
  EXPECT_EQ(error_of("[center_crop, {color_jitter: {contrast: 0.1}}]", gray), "no error");
  EXPECT_EQ(error_of("[pad_and_crop]"),
            here +
                "eval.resize is 256, but pad_and_crop trains on images as they are; expected eval.resize 0, so that "
                "evaluation sees the same, or resize before pad_and_crop");
  EXPECT_EQ(error_of("[resize, pad_and_crop]"), "no error");
}

// One row a parameter, in this form, and no others; and a heading for each transform.
TEST(Documentation, DescribesEveryTransform) {
  std::set<std::string> expected, found;
  for (TransformStep step : known_steps()) {
    expected.insert("### " + name_of(step));
    for (const Field& field : fields_of(step)) {
      expected.insert("| `" + leaf_of(field.path) + "` | `" + field.value_text() + "` | " + field.accepted() + " | " +
                      field.meaning + " |");
    }
  }
  std::ifstream file(std::string(RIFFLE_SOURCE_DIR) + "/docs/augmentation.md");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("| `", 0) == 0 || line.rfind("### ", 0) == 0) found.insert(line);
  }
  for (const std::string& row : expected) EXPECT_EQ(found.count(row), 1u) << "missing: " << row;
  for (const std::string& row : found) EXPECT_EQ(expected.count(row), 1u) << "stale: " << row;
}

}  // namespace
}  // namespace riffle
