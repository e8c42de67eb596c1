// Parity of mixup and CutMix: pixels of two images each, and targets of two labels each.
#include "tests/parity.h"

namespace riffle {
namespace {

using namespace parity;

class MixingParity : public ParityTest {};
RIFFLE_INSTANTIATE_PARITY(MixingParity);

struct Pixels {
  Shape shape;
  std::vector<uint8_t> bytes;
};

Pixels draw_pixels(Case& test, Shape shape) {
  Pixels pixels{shape, std::vector<uint8_t>(static_cast<size_t>(shape.elements()))};
  for (uint8_t& byte : pixels.bytes) byte = static_cast<uint8_t>(test.random().below(256));
  return pixels;
}

Normalisation of_channels(int64_t channels, bool reverse) {
  Normalisation normalisation;
  if (channels == 1) normalisation.mean = normalisation.std = {0.5};
  normalisation.reverse_channels = reverse;
  return normalisation;
}

void check_mix(Backend& backend, Shape shape, bool reverse, const ImageMix& mix, Layout layout) {
  SCOPED_TRACE(join(shape, reverse ? " reversed" : "", ", rows ", mix.top, "..", mix.bottom, ", columns ", mix.left,
                    "..", mix.right, ", inside ", mix.inside));
  Case test(backend);
  const Pixels pixels = draw_pixels(test, shape);
  const Normalisation normalisation = of_channels(shape.c, reverse);
  const Argument images = test.integer_input(shape, pixels.bytes), y = test.output(shape, layout);
  test.run([&](Backend& b, Side side) { b.normalize_mixed(images[side], normalisation, mix, y[side]); }, false);
  // Values are below 5 with these means and deviations; the table, the share, two products and the sum round.
  test.expect_within(y, std::vector<double>(pixels.bytes.size(), 8 * 5 * kRounding));
}

TEST_P(MixingParity, NormalizeMixed) {
  for (const Shape shape : {Shape{1, 1, 1, 3}, Shape{2, 7, 5, 3}, Shape{3, 16, 9, 3}, Shape{5, 2, 29, 1}})
    for (bool reverse : {false, true})
      for (Layout layout : {kPacked, kSlice})
        for (double inside : {0.0, 0.3, 1.0}) {
          const int64_t h = shape.h, w = shape.w;
          check_mix(backend(), shape, reverse, {0, h, 0, w, inside}, layout);
          check_mix(backend(), shape, reverse, {h / 2, h, w / 3, w / 2 + 1, inside}, layout);
          check_mix(backend(), shape, reverse, {h / 2, h / 2, 0, w, inside}, layout);  // empty
        }
}

// Outside of the box, and inside it with nothing of the image, pixels are exactly those of normalize().
TEST_P(MixingParity, CutPixelsAreExact) {
  Case test(backend());
  const Shape shape{3, 8, 6, 3};
  const Pixels pixels = draw_pixels(test, shape);
  const Tensor images = backend().empty(shape, DType::kU8), plain = backend().empty(shape), y = backend().empty(shape);
  backend().upload(pixels.bytes.data(), DType::kU8, images);
  backend().normalize(images, Tensor{}, {}, plain);
  backend().normalize_mixed(images, {}, {2, 5, 1, 4, 0}, y);
  const std::vector<double> before = host(backend(), plain), after = host(backend(), y);
  const auto at = [&](int64_t n, int64_t row, int64_t column) {
    return static_cast<size_t>(((n * shape.h + row) * shape.w + column) * shape.c);
  };
  for (int64_t n = 0; n < 3; ++n)
    for (int64_t row = 0; row < shape.h; ++row)
      for (int64_t column = 0; column < shape.w; ++column) {
        const bool cut = row >= 2 && row < 5 && column >= 1 && column < 4;
        for (size_t c = 0; c < 3; ++c)
          EXPECT_EQ(after[at(n, row, column) + c], before[at(cut ? (n + 2) % 3 : n, row, column) + c]);
      }
}

TEST_P(MixingParity, MixedTargets) {
  for (int64_t classes : {1, 2, 10, 1000})
    for (int64_t samples : {1, 3, 17})
      for (double share : {0.5, 0.8, 1.0})
        for (double smoothing : {0.0, 0.1}) {
          SCOPED_TRACE(join(samples, " samples, ", classes, " classes, share ", share, ", smoothing ", smoothing));
          Case test(backend());
          std::vector<int32_t> label, other;
          for (int64_t n = 0; n < samples; ++n) {
            label.push_back(static_cast<int32_t>(test.random().below(classes)));
            other.push_back(static_cast<int32_t>(test.random().below(classes)));
          }
          const Shape one{samples, 1, 1, 1}, all{samples, 1, 1, classes};
          const Argument labels = test.integer_input(one, label), others = test.integer_input(one, other);
          const Argument targets = test.parameter_output(all);
          test.run([&](Backend& b,
                       Side side) { b.mixed_targets(labels[side], others[side], share, smoothing, targets[side]); },
                   false);
          test.expect_within(targets, std::vector<double>(static_cast<size_t>(all.elements()), 4 * kRounding));
        }
}

}  // namespace
}  // namespace riffle
