// Overrides of a checkpoint's preprocessing.
#include "train/preprocessing_options.h"

#include <CLI/CLI.hpp>
#include <iostream>

#include "core/check.h"
#include "train/whole_number.h"

namespace riffle {
namespace {

constexpr int64_t kMaxPixels = 1 << 14;  // as in a configuration
constexpr const char *kResize = "--resize", *kCrop = "--crop", *kInterpolation = "--interpolation";

}  // namespace

void PreprocessingOptions::add_to(CLI::App& command) {
  command.add_option(kResize, resize, "Short edge after resizing, 0: no resizing; by default the checkpoint's")
      ->check(whole_number(0, kMaxPixels))
      ->type_name("N");
  command.add_option(kCrop, crop, "Height and width of the centre crop; by default the checkpoint's")
      ->check(whole_number(1, kMaxPixels))
      ->type_name("N");
  std::string names;
  for (const std::string& name : interpolation_names()) names += (names.empty() ? "" : ", ") + name;
  command.add_option(kInterpolation, interpolation, names + "; by default the checkpoint's")
      ->check(CLI::IsMember(interpolation_names()))
      ->type_name("NAME");
}

void PreprocessingOptions::exclude(CLI::App& command, CLI::Option& option) const {
  for (const char* name : {kResize, kCrop, kInterpolation}) option.excludes(command.get_option(name));
}

EvalTransform PreprocessingOptions::override_of(const EvalTransform& checkpoint, const std::string& path) const {
  EvalTransform used = checkpoint;
  if (resize) used.resize = *resize;
  if (crop) used.crop = *crop;
  if (!interpolation.empty()) used.interpolation = find_interpolation(interpolation).value();
  if (used.resize != 0 && used.resize < used.crop) {
    fail_usage("a resize of ", used.resize, " and a crop of ", used.crop, " (", path, " says ", describe(checkpoint),
               "): the crop would have black borders; expected ", kResize, " of at least ", used.crop, ", or 0");
  }
  if (used.resize == 0 && !interpolation.empty()) {
    fail_usage(kInterpolation, " ", interpolation, ", but images are not resized (", path, " says ",
               describe(checkpoint), "); expected ", kResize, " as well");
  }
  if (!(used == checkpoint)) {
    std::cerr << "riffle: warning: " << path << " says " << describe(checkpoint) << "; used is " << describe(used)
              << '\n';
  }
  return used;
}

std::string describe(const EvalTransform& preprocessing) {
  const char* orientation = preprocessing.exif_orientation ? ", EXIF orientation" : "";
  if (preprocessing.resize == 0) return join("no resizing, crop ", preprocessing.crop, orientation);
  return join("resize ", preprocessing.resize, ", crop ", preprocessing.crop, ", ",
              name_of(preprocessing.interpolation), ", ", name_of(preprocessing.rounding), ", ",
              name_of(preprocessing.crop_offset), orientation);
}

}  // namespace riffle
