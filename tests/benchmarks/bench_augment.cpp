// Times every transform of augmentation, with parameters that make it act, on one 224x224 RGB image on one core; and
// lists as recipes have them on a 500x375 image, without decoding. "items_per_second" is images/s.
// Usage: bench_augment [--benchmark_filter=jitter]
#include <benchmark/benchmark.h>

#include "data/augment.h"
#include "data/augment_color.h"
#include "data/augment_policy.h"

namespace riffle {
namespace {

Image picture(int height, int width) {
  Image image(height, width, 3);
  RandomStream random(1, RandomPurpose::kTest);
  for (size_t i = 0; i < image.pixels.size(); ++i)
    image.pixels[i] =
        static_cast<uint8_t>((i / 3 % static_cast<size_t>(width)) / 3 + static_cast<size_t>(random.below(90)));
  return image;
}

template <class Change>
void time_in_place(benchmark::State& state, Change change) {
  Image image = picture(224, 224);
  for (auto _ : state) {
    change(image);
    benchmark::DoNotOptimize(image.pixels.data());
  }
  state.SetItemsProcessed(state.iterations());
}

void time_op(benchmark::State& state, AugmentOp op, double magnitude, AffineInterpolation interpolation) {
  const Image image = picture(224, 224);
  for (auto _ : state) {
    Image out = image;
    apply_op(out, {op, magnitude}, {interpolation, 0});
    benchmark::DoNotOptimize(out.pixels.data());
  }
  state.SetItemsProcessed(state.iterations());
}

void time_list(benchmark::State& state, const std::vector<TransformStep>& steps) {
  const Image image = picture(375, 500);
  const TrainTransform transform{224, steps, {124, 116, 104}};
  RandomStream random(2, RandomPurpose::kTest);
  for (auto _ : state) benchmark::DoNotOptimize(transform.apply(image, random).pixels.data());
  state.SetItemsProcessed(state.iterations());
}

void register_all() {
  const auto in_place = [](const char* name, auto change) {
    benchmark::RegisterBenchmark(name, [change](benchmark::State& state) { time_in_place(state, change); });
  };
  in_place("flip", [](Image& image) { flip_horizontal(image); });
  in_place("brightness", [](Image& image) { adjust_brightness(image, 0.99); });
  in_place("contrast", [](Image& image) { adjust_contrast(image, 0.99); });
  in_place("saturation", [](Image& image) { adjust_saturation(image, 0.99); });
  in_place("hue", [](Image& image) { adjust_hue(image, 0.1); });
  in_place("jitter 0.4", [](Image& image) { apply_jitter(image, {0.99, 1.01, 0.99, 0, {2, 0, 1, 3}}); });
  in_place("grayscale", [](Image& image) { make_gray(image); });
  in_place("lighting", [](Image& image) { add_to_channels(image, {1, -1, 1}); });
  in_place("erasing", [](Image& image) { erase(image, {50, 60, 90, 100}, {124, 116, 104}); });
  for (int i = 0; i <= static_cast<int>(AugmentOp::kInvert); ++i) {
    const auto op = static_cast<AugmentOp>(i);
    const double magnitude = op == AugmentOp::kPosterize                                    ? 4
                             : op == AugmentOp::kSolarize                                   ? 128
                             : op == AugmentOp::kTranslateX || op == AugmentOp::kTranslateY ? 17
                             : op == AugmentOp::kRotate                                     ? 20
                                                                                            : 0.3;
    const bool is_affine = op >= AugmentOp::kShearX && op <= AugmentOp::kRotate;
    benchmark::RegisterBenchmark(("copy + " + name_of(op)).c_str(), time_op, op, magnitude,
                                 AffineInterpolation::kNearest);
    if (is_affine)
      benchmark::RegisterBenchmark(("copy + " + name_of(op) + " bilinear").c_str(), time_op, op, magnitude,
                                   AffineInterpolation::kBilinear);
  }
  const RandomResizedCrop crop;
  const std::vector<std::pair<const char*, std::vector<TransformStep>>> lists{
      {"crop", {crop}},
      {"crop, flip, jitter", {crop, Flip{}, ColorJitter{0.4, 0.4, 0.4, 0}}},
      {"crop, flip, jitter with hue", {crop, Flip{}, ColorJitter{0.4, 0.4, 0.4, 0.1}}},
      {"crop, flip, trivial_augment_wide, erasing",
       {crop, Flip{}, TrivialAugmentWide{31, "bilinear", 0}, RandomErasing{0.1}}},
      {"crop, flip, rand_augment", {crop, Flip{}, RandAugment{}}},
      {"crop, flip, auto_augment", {crop, Flip{}, AutoAugment{}}},
  };
  for (const auto& [name, steps] : lists) benchmark::RegisterBenchmark(name, time_list, steps);
}

}  // namespace
}  // namespace riffle

int main(int argc, char** argv) {
  riffle::register_all();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
