// Prediction.
#include "train/predictor.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "data/image.h"
#include "train/preprocessing_options.h"

namespace riffle {
namespace {

Image load(const PredictionInput& input, int channels) {
  if (input.dataset != nullptr) return input.dataset->load(input.index);
  const std::vector<uint8_t> bytes = read_file(input.path);
  return decode_image(bytes.data(), bytes.size(), input.path, channels);
}

}  // namespace

std::vector<Prediction> most_probable(const float* logits, int64_t classes, int64_t count) {
  std::vector<int64_t> order(static_cast<size_t>(classes));
  std::iota(order.begin(), order.end(), 0);
  const auto shown = static_cast<std::ptrdiff_t>(std::min(count, classes));
  std::partial_sort(order.begin(), order.begin() + shown, order.end(),
                    [logits](int64_t a, int64_t b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; });
  const double largest = logits[order.front()];
  double sum = 0;
  for (int64_t c = 0; c < classes; ++c) sum += std::exp(static_cast<double>(logits[c]) - largest);
  std::vector<Prediction> predictions;
  for (auto at = order.begin(); at != order.begin() + shown; ++at) {
    predictions.push_back({*at, std::exp(static_cast<double>(logits[*at]) - largest) / sum});
  }
  return predictions;
}

Predictor::Predictor(Backend& backend, const LoadedModel& model, int64_t top_k, int threads)
    : backend_(backend),
      model_(model),
      top_k_(top_k),
      decoders_(threads),
      input_(backend, model.metadata.normalisation,
             {kBatch, model.metadata.preprocessing.crop, model.metadata.preprocessing.crop,
              model.metadata.model.input_channels}) {}

std::vector<PredictionOutput> Predictor::predict(const std::vector<PredictionInput>& inputs) {
  const auto count = static_cast<int64_t>(inputs.size());
  RIFFLE_CHECK(count >= 1 && count <= kBatch, count, " inputs");
  const auto channels = static_cast<int>(model_.metadata.model.input_channels);
  std::vector<PredictionOutput> outputs(inputs.size());
  std::vector<Image> images(inputs.size());
  decoders_(count, [&](int64_t i) {
    const auto at = static_cast<size_t>(i);
    try {
      images[at] = load(inputs[at], channels);
    } catch (const Error& error) {
      outputs[at].error = error.what();
      return;
    }
    try {
      images[at] = model_.metadata.preprocessing.apply(images[at]);
    } catch (const Error& error) {
      outputs[at].error = join(inputs[at].path, ": ", error.what(), " (", model_.path, ", ",
                               describe(model_.metadata.preprocessing), ")");
    }
  });

  std::vector<size_t> readable;
  std::vector<uint8_t> pixels;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!outputs[i].error.empty()) continue;
    readable.push_back(i);
    pixels.insert(pixels.end(), images[i].pixels.begin(), images[i].pixels.end());
  }
  if (readable.empty()) return outputs;
  const std::vector<float> logits =
      compute_logits(backend_, *model_.network, input_, pixels.data(), static_cast<int64_t>(readable.size()));
  const int64_t classes = model_.metadata.model.classes;
  for (size_t row = 0; row < readable.size(); ++row) {
    const float* of_image = logits.data() + row * static_cast<size_t>(classes);
    if (!std::all_of(of_image, of_image + classes, [](float logit) { return std::isfinite(logit); })) {
      fail(model_.path, ": the logits of ", inputs[readable[row]].path,
           " are not finite; the checkpoint's weights are broken");
    }
    outputs[readable[row]].classes = most_probable(of_image, classes, top_k_);
  }
  return outputs;
}

std::vector<float> compute_logits(Backend& backend, ShuffleNetV2& network, NetworkInput& input, const uint8_t* images,
                                  int64_t count) {
  const Context context{backend};
  const Variable logits = network.forward(context, input.images(images, count));
  std::vector<float> host(static_cast<size_t>(logits.shape().elements()));
  backend.download(logits.value(), DType::kF32, host.data());
  return host;
}

}  // namespace riffle
