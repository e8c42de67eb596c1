// How the authors of each dialect's published weights turn an image into the network's input; docs/preprocessing.md has
// the sources.
#pragma once

#include "core/backend.h"
#include "data/transform.h"
#include "layers/shufflenet_v2.h"

namespace riffle {

struct PublishedPreprocessing {
  EvalTransform transform;
  Normalisation normalisation;
};

PublishedPreprocessing published_preprocessing(const ShuffleNetV2Config& model);

}  // namespace riffle
