// Histograms of a network's filters and matrices, and of their gradients, under tags for TensorBoard. Batch norm's
// vectors and biases are left out: they are most of the tensors and say the least.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/module.h"
#include "train/tensorboard/histogram.h"

namespace riffle {

using TaggedHistograms = std::vector<std::pair<std::string, Histogram>>;

// Both wait for the device.
TaggedHistograms weight_histograms(Backend& backend, Module& network);  // "weights/fc.weight"
// Of the last step, between steps. loss_scale: what its gradients are multiplied by. Frozen parameters have none.
TaggedHistograms gradient_histograms(Backend& backend, Module& network, double loss_scale);  // "gradients/fc.weight"

}  // namespace riffle
