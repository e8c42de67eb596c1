// The words for the choices of EvalTransform.
#include "data/transform.h"

namespace riffle {
namespace {

// The value whose name, in the order of the enumeration, is `name`.
template <class Choice>
std::optional<Choice> find_choice(const std::vector<std::string>& names, const std::string& name) {
  for (size_t i = 0; i < names.size(); ++i) {
    if (names[i] == name) return static_cast<Choice>(i);
  }
  return std::nullopt;
}

}  // namespace

// The names stand in the order of the enumerations.
const std::vector<std::string>& interpolation_names() {
  static const std::vector<std::string> names{"pillow-bilinear", "pillow-bicubic", "opencv-bilinear", "opencv-bicubic"};
  return names;
}

const std::vector<std::string>& rounding_names() {
  static const std::vector<std::string> names{"truncate", "half-up"};
  return names;
}

const std::vector<std::string>& crop_offset_names() {
  static const std::vector<std::string> names{"half-to-even", "floor"};
  return names;
}

const char* name_of(Interpolation interpolation) {
  return interpolation_names().at(static_cast<size_t>(interpolation)).c_str();
}

const char* name_of(ResizeRounding rounding) {
  return rounding_names().at(static_cast<size_t>(rounding)).c_str();
}

const char* name_of(CropOffset offset) {
  return crop_offset_names().at(static_cast<size_t>(offset)).c_str();
}

std::optional<Interpolation> find_interpolation(const std::string& name) {
  return find_choice<Interpolation>(interpolation_names(), name);
}

std::optional<ResizeRounding> find_rounding(const std::string& name) {
  return find_choice<ResizeRounding>(rounding_names(), name);
}

std::optional<CropOffset> find_crop_offset(const std::string& name) {
  return find_choice<CropOffset>(crop_offset_names(), name);
}

bool EvalTransform::operator==(const EvalTransform& other) const {
  return resize == other.resize && crop == other.crop && interpolation == other.interpolation &&
         rounding == other.rounding && crop_offset == other.crop_offset && exif_orientation == other.exif_orientation;
}

}  // namespace riffle
