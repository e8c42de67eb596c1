// What a run shows in pictures: the first batch of training images, as augmented, and the filters of the first
// convolution.
#pragma once

#include <string>
#include <vector>

#include "data/image.h"
#include "data/loader.h"
#include "layers/shufflenet_v2.h"

namespace riffle {

// The first images of a batch with the names of their classes, by label.
Image sample_sheet(const Batch& batch, const std::vector<std::string>& classes);

// Each filter of the first convolution, its least value black and its greatest white (or full colour), enlarged.
// bgr: the network reads its channels in that order; the picture shows RGB. Waits for the device.
Image filter_sheet(Backend& backend, ShuffleNetV2& network, bool bgr);

}  // namespace riffle
