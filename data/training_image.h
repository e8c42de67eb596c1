// A training image from a data set, in two halves: loading, which fails where the image is bad, and the transforms. In
// quick mode loading does the first transform too, for it decodes only what that needs. The draws are the same.
#pragma once

#include <string>

#include "data/augment.h"
#include "data/dataset.h"

namespace riffle {

struct LoadedImage {
  Image image;
  RandomStream random;    // the sample's own, after the draws of the steps that are done
  size_t steps_done = 0;  // of the transform's
};

// Throws Error naming the image, as Dataset::load(). Images that quick mode cannot read in part are decoded whole.
LoadedImage load_training_image(const Dataset& data, int64_t index, const TrainTransform& transform,
                                const RandomStream& random);
// The other steps.
Image finish_training_image(LoadedImage& loaded, const TrainTransform& transform);

// "": the transform may be used in quick mode. Else why not.
std::string why_not_quick(const TrainTransform& transform);

}  // namespace riffle
