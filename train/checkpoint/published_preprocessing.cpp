#include "train/checkpoint/published_preprocessing.h"

namespace riffle {

PublishedPreprocessing published_preprocessing(const ShuffleNetV2Config& model) {
  PublishedPreprocessing result;  // torchvision's, to begin with
  EvalTransform& transform = result.transform;
  Normalisation& normalisation = result.normalisation;
  switch (model.dialect) {
    case Dialect::kTorchvision: {
      const std::string width = model.width_name();
      if (width == "1.5x" || width == "2.0x") transform.resize = 232;
      break;
    }
    case Dialect::kMegvii:
      transform.interpolation = Interpolation::kOpenCvBilinear;
      transform.rounding = ResizeRounding::kHalfUp;
      normalisation = {1.0, {0, 0, 0}, {1, 1, 1}, /*reverse_channels=*/true};
      break;
    case Dialect::kTensorpack:
      transform.interpolation = Interpolation::kOpenCvBicubic;
      transform.rounding = ResizeRounding::kHalfUp;
      transform.crop_offset = CropOffset::kFloor;
      normalisation = {1.0 / 255, {0.406, 0.456, 0.485}, {0.225, 0.224, 0.229}, /*reverse_channels=*/true};
      break;
  }
  return result;
}

}  // namespace riffle
