// Histograms of weights and gradients.
#include "train/tensorboard/network_histograms.h"

namespace riffle {
namespace {

std::vector<float> values_of(Backend& backend, const Tensor& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.elements()));
  backend.download(tensor, DType::kF32, values.data());
  return values;
}

}  // namespace

TaggedHistograms weight_histograms(Backend& backend, Module& network) {
  TaggedHistograms histograms;
  network.for_each_parameter([&](const std::string& name, Parameter& parameter) {
    if (parameter.decay) histograms.emplace_back("weights/" + name, histogram_of(values_of(backend, parameter.value)));
  });
  return histograms;
}

TaggedHistograms gradient_histograms(Backend& backend, Module& network, double loss_scale) {
  TaggedHistograms histograms;
  network.for_each_parameter([&](const std::string& name, Parameter& parameter) {
    if (!parameter.decay || parameter.frozen) return;
    histograms.emplace_back("gradients/" + name, histogram_of(values_of(backend, parameter.grad), 1 / loss_scale));
  });
  return histograms;
}

}  // namespace riffle
