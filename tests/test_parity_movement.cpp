// Parity of data movement: transfers, fill, copy, normalisation and channel permutations. All exact but normalisation.
#include <array>

#include "tests/parity.h"

namespace riffle {
namespace {

using namespace parity;

class MovementParity : public ParityTest {};
RIFFLE_INSTANTIATE_PARITY(MovementParity);

const std::vector<Shape>& shapes() {
  static const std::vector<Shape> all{{1, 1, 1, 2},   {2, 3, 5, 6},   {3, 7, 7, 58},  {1, 5, 3, 24},
                                      {2, 7, 7, 116}, {1, 3, 2, 232}, {1, 9, 11, 30}, {1, 1, 1, 1024}};
  return all;
}

template <class Body>
void for_each_case(const Body& body) {
  for (const Shape& shape : shapes())
    for (Layout x_layout : {kPacked, kSlice, kLastPart})
      for (Layout y_layout : {kPacked, kSlice, kFirstPart}) {
        SCOPED_TRACE(join(shape, ", x pitch +", x_layout.left, "+", x_layout.right, ", y pitch +", y_layout.left, "+",
                          y_layout.right));
        body(shape, x_layout, y_layout);
      }
}

TEST_P(MovementParity, UploadAndDownloadRoundTrip) {
  for_each_case([&](const Shape& shape, Layout, Layout y_layout) {
    Case test(backend());
    const std::vector<float> values = test.draw(shape);
    const std::vector<double> wide(values.begin(), values.end());
    const Argument y = test.output(shape, y_layout), z = test.output(shape, y_layout);
    test.run([&](Backend& b, Side side) {
      b.upload(values.data(), DType::kF32, y[side]);
      b.upload(wide.data(), DType::kF64, z[side]);
    });
    test.expect_equal(y);
    test.expect_equal(z);
    std::vector<float> back(values.size());
    backend().download(y[Side::kTest], DType::kF32, back.data());
    const std::vector<float> rounded = test.rounded(values);
    EXPECT_EQ(back, rounded);
    EXPECT_EQ(test.got(z), std::vector<double>(rounded.begin(), rounded.end()));
  });
}

TEST_P(MovementParity, IntegersRoundTrip) {
  const std::vector<int32_t> labels{7, -1, 1 << 30, 0, 3};
  const std::vector<uint8_t> bytes{0, 255, 1, 128, 77, 3};
  const Tensor label_tensor = backend().empty({5, 1, 1, 1}, DType::kI32);
  const Tensor byte_tensor = backend().empty({1, 1, 2, 3}, DType::kU8);
  backend().upload(labels.data(), DType::kI32, label_tensor);
  backend().upload(bytes.data(), DType::kU8, byte_tensor);
  std::vector<int32_t> labels_back(5);
  std::vector<uint8_t> bytes_back(6);
  backend().download(label_tensor, DType::kI32, labels_back.data());
  backend().download(byte_tensor, DType::kU8, bytes_back.data());
  EXPECT_EQ(labels_back, labels);
  EXPECT_EQ(bytes_back, bytes);
}

TEST_P(MovementParity, Fill) {
  for_each_case([&](const Shape& shape, Layout, Layout y_layout) {
    for (double value : {0.0, -1.5}) {
      Case test(backend());
      const Argument y = test.output(shape, y_layout);
      test.run([&](Backend& b, Side side) { b.fill(value, y[side]); });
      test.expect_equal(y);
    }
  });
}

TEST_P(MovementParity, Copy) {
  for_each_case([&](const Shape& shape, Layout x_layout, Layout y_layout) {
    for (Write write : {Write::kOverwrite, Write::kAccumulate}) {
      Case test(backend());
      const Argument x = test.input(shape, x_layout), y = test.output(shape, y_layout, write);
      test.run([&](Backend& b, Side side) { b.copy(x[side], write, y[side]); });
      test.expect_equal(y);  // one addition rounds once, to the nearest number
    }
  });
}

// A master weight to the activations' dtype, and a gradient back.
TEST_P(MovementParity, CopyConverts) {
  for (const Shape& shape : shapes())
    for (Write write : {Write::kOverwrite, Write::kAccumulate}) {
      SCOPED_TRACE(shape);
      Case test(backend());
      const Argument weight = test.parameter(shape), rounded = test.output(shape, kSlice, write);
      const Argument activation = test.input(shape, kSlice), sum = test.parameter_output(shape, write);
      test.run([&](Backend& b, Side side) {
        b.copy(weight[side], write, rounded[side]);
        b.copy(activation[side], write, sum[side]);
      });
      if (write == Write::kOverwrite) {
        test.expect_equal(rounded);
      } else {
        test.expect_sum(rounded, 1);  // rounded to float, then again
      }
      test.expect_equal(sum);
    }
}

// Of `size` elements, turn and turn about.
std::vector<uint8_t> alternating(int64_t size, const std::array<uint8_t, 2>& values) {
  std::vector<uint8_t> result(static_cast<size_t>(size));
  for (size_t i = 0; i < result.size(); ++i) result[i] = values[i % 2];
  return result;
}

TEST_P(MovementParity, Normalize) {
  Normalisation grey;
  grey.mean = {0.2860};
  grey.std = {0.3530};
  Normalisation bgr_raw;
  bgr_raw.scale = 1;
  bgr_raw.mean = {0, 0, 0};
  bgr_raw.std = {1, 1, 1};
  bgr_raw.reverse_channels = true;
  Normalisation bgr;
  bgr.reverse_channels = true;
  for (const Normalisation& normalisation : {Normalisation(), grey, bgr_raw, bgr})
    for (const Shape size : {Shape{1, 1, 1, 0}, Shape{2, 7, 5, 0}, Shape{3, 2, 29, 0}, Shape{3, 16, 16, 0}}) {
      const Shape shape = size.with_channels(static_cast<int64_t>(normalisation.mean.size()));
      SCOPED_TRACE(shape);
      Case test(backend());
      std::vector<uint8_t> bytes(static_cast<size_t>(shape.elements()));
      for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(test.random().below(256));
      bytes[0] = 255;
      const Argument images = test.integer_input(shape, bytes);
      // Every other image is mirrored, the first or the second.
      const Argument odd = test.integer_input<uint8_t>({shape.n, 1, 1, 1}, alternating(shape.n, {0, 1}));
      const Argument even = test.integer_input<uint8_t>({shape.n, 1, 1, 1}, alternating(shape.n, {255, 0}));
      // Three roundings of terms no larger than (255 * scale + mean) / std.
      std::vector<double> bounds;
      for (size_t i = 0; i < bytes.size(); ++i) {
        const size_t c = i % static_cast<size_t>(shape.c);
        bounds.push_back(4 * kRounding * (255 * normalisation.scale + normalisation.mean[c]) / normalisation.std[c]);
      }
      for (const Argument& flips : {Argument(), odd, even})
        for (Layout layout : {kPacked, kSlice}) {
          const Argument y = test.output(shape, layout);
          test.run([&](Backend& b, Side side) { b.normalize(images[side], flips[side], normalisation, y[side]); },
                   false);
          test.expect_within(y, bounds);
        }
    }
}

TEST_P(MovementParity, ChannelShuffle) {
  for_each_case([&](const Shape& shape, Layout x_layout, Layout y_layout) {
    for (int64_t groups = 1; groups <= shape.c; ++groups) {
      if (shape.c % groups != 0) continue;
      Case test(backend());
      const Argument x = test.input(shape, x_layout), y = test.output(shape, y_layout);
      test.run([&](Backend& b, Side side) { b.channel_shuffle(x[side], groups, y[side]); });
      test.expect_equal(y);
    }
  });
}

TEST_P(MovementParity, Interleave) {
  for_each_case([&](const Shape& shape, Layout x_layout, Layout y_layout) {
    const Shape half = shape.with_channels(shape.c / 2);
    for (Layout b_layout : {kPacked, kSlice}) {
      Case test(backend());
      const Argument a = test.input(half, x_layout), c = test.input(half, b_layout);
      const Argument y = test.output(shape, y_layout);
      test.run([&](Backend& b, Side side) { b.interleave(a[side], c[side], y[side]); });
      test.expect_equal(y);
    }
  });
}

TEST_P(MovementParity, Deinterleave) {
  for_each_case([&](const Shape& shape, Layout x_layout, Layout y_layout) {
    const Shape half = shape.with_channels(shape.c / 2);
    for (Layout b_layout : {kPacked, kSlice}) {
      Case test(backend());
      const Argument x = test.input(shape, x_layout);
      const Argument a = test.output(half, y_layout), c = test.output(half, b_layout);
      test.run([&](Backend& b, Side side) { b.deinterleave(x[side], a[side], c[side]); });
      test.expect_equal(a);
      test.expect_equal(c);
    }
  });
}

// Two halves of one buffer are what the network really passes: neighbours in the same rows.
TEST_P(MovementParity, HalvesOfOneBuffer) {
  Case test(backend());
  const Shape shape{2, 5, 3, 58};
  const Argument x = test.input(shape), y = test.output(shape);
  test.run([&](Backend& b, Side side) {
    b.deinterleave(x[side], y[side].channel_slice(0, 29), y[side].channel_slice(29, 29));
  });
  test.expect_equal(y);
  Case back(backend());
  const Argument halves = back.input(shape), z = back.output(shape);
  back.run([&](Backend& b, Side side) {
    b.interleave(halves[side].channel_slice(0, 29), halves[side].channel_slice(29, 29), z[side]);
  });
  back.expect_equal(z);
}

}  // namespace
}  // namespace riffle
