// Results must not depend on the number of threads: every primitive, on shapes large enough to be split, bit for bit.
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "core/cpu/cpu_backend.h"
#include "core/rng.h"
#include "tests/step_scalars.h"

namespace riffle {
namespace {

// One backend, the same arguments every time, and the bits of what was computed.
class Recorder {
 public:
  explicit Recorder(int threads) : backend_(make_cpu_backend(threads)) {}

  Backend& backend() { return *backend_; }
  const std::vector<unsigned char>& bits() const { return bits_; }

  Tensor input(Shape shape, double mean = 0) {
    std::vector<float> values(static_cast<size_t>(shape.elements()));
    for (float& value : values) value = static_cast<float>(mean + random_.normal());
    return uploaded(shape, values);
  }
  Tensor positive(Shape shape) {
    std::vector<float> values(static_cast<size_t>(shape.elements()));
    for (float& value : values) value = static_cast<float>(random_.uniform(0.5, 2));
    return uploaded(shape, values);
  }
  Tensor vector(int64_t size) { return input(vector_shape(size)); }
  Tensor labels(int64_t samples, int64_t classes) {
    std::vector<int32_t> values(static_cast<size_t>(samples));
    for (int32_t& value : values) value = static_cast<int32_t>(random_.below(classes));
    Tensor tensor = backend_->empty({samples, 1, 1, 1}, DType::kI32);
    backend_->upload(values.data(), DType::kI32, tensor);
    return tensor;
  }
  Tensor images(Shape shape) {
    std::vector<uint8_t> values(static_cast<size_t>(shape.elements()));
    for (uint8_t& value : values) value = static_cast<uint8_t>(random_.below(256));
    Tensor tensor = backend_->empty(shape, DType::kU8);
    backend_->upload(values.data(), DType::kU8, tensor);
    return tensor;
  }
  // Zeros, so that kAccumulate may follow.
  Tensor output(Shape shape) {
    Tensor tensor = backend_->empty(shape);
    backend_->fill(0, tensor);
    return tensor;
  }

  void keep(const Tensor& tensor) {
    std::vector<unsigned char> bytes(static_cast<size_t>(tensor.elements()) * size_of(tensor.dtype()));
    backend_->download(tensor, tensor.dtype(), bytes.data());
    bits_.insert(bits_.end(), bytes.begin(), bytes.end());
  }
  void keep(double value) {
    unsigned char bytes[sizeof value];
    std::memcpy(bytes, &value, sizeof value);
    bits_.insert(bits_.end(), bytes, bytes + sizeof value);
  }

 private:
  Tensor uploaded(Shape shape, const std::vector<float>& values) {
    Tensor tensor = backend_->empty(shape);
    backend_->upload(values.data(), DType::kF32, tensor);
    return tensor;
  }

  std::unique_ptr<Backend> backend_;
  RandomStream random_{1, RandomPurpose::kTest};
  std::vector<unsigned char> bits_;
};

void expect_same_bits(const std::function<void(Recorder&)>& compute) {
  Recorder one(1);
  compute(one);
  ASSERT_FALSE(one.bits().empty());
  for (int threads : {2, 3}) {
    Recorder several(threads);
    compute(several);
    EXPECT_TRUE(several.bits() == one.bits()) << threads << " threads give other bits than one";
  }
}

const Shape kLarge{5, 29, 31, 116};
const Window kStride2{3, 3, 2, Padding::all(1)};

Shape strided(const Shape& x) {
  return {x.n, kStride2.out_h(x.h), kStride2.out_w(x.w), x.c};
}

TEST(ThreadCount, Movement) {
  expect_same_bits([](Recorder& r) {
    const Tensor x = r.input(kLarge), y = r.output(kLarge);
    const Shape half = kLarge.with_channels(58);
    r.backend().copy(x, Write::kAccumulate, y);
    r.keep(y);
    r.backend().fill(0.5, y);
    r.keep(y);
    r.backend().channel_shuffle(x, 2, y);
    r.keep(y);
    const Tensor a = r.output(half), b = r.output(half);
    r.backend().deinterleave(x, a, b);
    r.keep(a);
    r.keep(b);
    r.backend().interleave(b, a, y);
    r.keep(y);
    const Tensor images = r.images({7, 65, 67, 3}), pixels = r.output({7, 65, 67, 3});
    for (const Tensor& flips : {Tensor{}, r.images({7, 1, 1, 1})}) {
      r.backend().normalize(images, flips, Normalisation(), pixels);
      r.keep(pixels);
    }
  });
}

TEST(ThreadCount, Conv2d) {
  for (int64_t groups : {1, 3}) {
    expect_same_bits([groups](Recorder& r) {
      const Shape x_shape{5, 61, 63, 3}, w_shape{24, 3, 3, 3 / groups};
      const Shape y_shape = strided(x_shape).with_channels(24);
      const Tensor x = r.input(x_shape), w = r.input(w_shape), bias = r.vector(24), dy = r.input(y_shape);
      const Tensor y = r.output(y_shape), dx = r.output(x_shape), dw = r.output(w_shape);
      r.backend().conv2d(x, w, kStride2, groups, {bias, true}, y);
      r.keep(y);
      for (Write write : {Write::kOverwrite, Write::kAccumulate}) {
        r.backend().conv2d_backward_data(dy, w, kStride2, groups, write, dx);
        r.backend().conv2d_backward_weights(x, dy, kStride2, groups, write, dw);
        r.keep(dx);
        r.keep(dw);
      }
    });
  }
}

TEST(ThreadCount, Depthwise) {
  for (int64_t kernel : {3, 5}) {
    const Window window{kernel, kernel, 2, Padding::all(kernel / 2)};
    expect_same_bits([window](Recorder& r) {
      const Shape y_shape{kLarge.n, window.out_h(kLarge.h), window.out_w(kLarge.w), kLarge.c};
      const Shape w_shape{1, window.kernel_h, window.kernel_w, kLarge.c};
      const Tensor x = r.input(kLarge), w = r.input(w_shape), bias = r.vector(kLarge.c), dy = r.input(y_shape);
      const Tensor y = r.output(y_shape), dx = r.output(kLarge), dw = r.output(w_shape);
      r.backend().depthwise(x, w, window, {bias, true}, y);
      r.keep(y);
      for (Write write : {Write::kOverwrite, Write::kAccumulate}) {
        r.backend().depthwise_backward_data(dy, w, window, write, dx);
        r.backend().depthwise_backward_weights(x, dy, window, write, dw);
        r.keep(dx);
        r.keep(dw);
      }
    });
  }
}

// Many pixels and few, as in the first stage and in the classifier.
TEST(ThreadCount, Pointwise) {
  for (const Shape& x_shape : {kLarge, Shape{64, 1, 1, 1024}, Shape{3, 7, 7, 464}}) {
    expect_same_bits([x_shape](Recorder& r) {
      const Shape w_shape{232, 1, 1, x_shape.c}, y_shape = x_shape.with_channels(232);
      const Tensor x = r.input(x_shape), w = r.input(w_shape), bias = r.vector(232), dy = r.input(y_shape);
      const Tensor y = r.output(y_shape), dx = r.output(x_shape), dw = r.output(w_shape);
      const Tensor sums = r.output(vector_shape(x_shape.c));
      r.backend().pointwise(x, w, {bias, true}, y);
      r.keep(y);
      for (Write write : {Write::kOverwrite, Write::kAccumulate}) {
        r.backend().pointwise_backward_data(dy, w, write, dx);
        r.backend().pointwise_backward_weights(x, dy, write, dw);
        r.backend().channel_sums(x, write, sums);
        r.keep(dx);
        r.keep(dw);
        r.keep(sums);
      }
    });
  }
}

TEST(ThreadCount, BatchNorm) {
  expect_same_bits([](Recorder& r) {
    const int64_t channels = kLarge.c;
    const Tensor x = r.input(kLarge, 3), dy = r.input(kLarge), gamma = r.vector(channels), beta = r.vector(channels);
    const Tensor mean = r.output(vector_shape(channels)), var = r.output(vector_shape(channels));
    r.backend().batch_norm_statistics(x, mean, var);
    r.keep(mean);
    r.keep(var);
    const Tensor running_mean = r.vector(channels), running_var = r.positive(vector_shape(channels));
    r.backend().batch_norm_update_running(mean, var, kLarge.pixels(), 0.1, running_mean, running_var);
    r.keep(running_mean);
    r.keep(running_var);
    const Tensor y = r.output(kLarge);
    r.backend().batch_norm_apply(x, mean, var, gamma, beta, 1e-5, true, y);
    r.keep(y);
    for (bool frozen : {false, true}) {
      const auto backward = frozen ? &Backend::batch_norm_backward_frozen : &Backend::batch_norm_backward;
      const Tensor dx = r.output(kLarge);
      const Tensor dgamma = r.output(vector_shape(channels)), dbeta = r.output(vector_shape(channels));
      (r.backend().*backward)(x, dy, mean, var, gamma, beta, 1e-5, true, Write::kAccumulate, dx, dgamma, dbeta);
      r.keep(dx);
      r.keep(dgamma);
      r.keep(dbeta);
    }
  });
}

BatchNormState random_norm(Recorder& r, int64_t channels, bool relu) {
  const Tensor mean = r.vector(channels), var = r.positive(vector_shape(channels));
  return {mean, var, r.vector(channels), r.vector(channels), 1e-5, relu};
}

// The channels of a buffer in three parts.
ChannelParts parts_of(const Tensor& whole, int64_t first, int64_t second) {
  return ChannelParts(std::vector<Tensor>{whole.channel_slice(0, first), whole.channel_slice(first, second),
                                          whole.channel_slice(first + second, whole.channels() - first - second)});
}

TEST(ThreadCount, BatchNormOfParts) {
  expect_same_bits([](Recorder& r) {
    const BatchNormState n = random_norm(r, kLarge.c, true);
    const Tensor x = r.input(kLarge), y = r.output(kLarge), dy = r.input(kLarge), dx = r.output(kLarge);
    const Tensor dgamma = r.output(vector_shape(kLarge.c)), dbeta = r.output(vector_shape(kLarge.c));
    r.backend().batch_norm_apply(x, n.mean, n.var, n.gamma, n.beta, n.eps, n.relu, parts_of(y, 58, 29));
    r.backend().batch_norm_backward(x, parts_of(dy, 29, 7), n.mean, n.var, n.gamma, n.beta, n.eps, n.relu,
                                    Write::kOverwrite, dx, dgamma, dbeta);
    for (const Tensor& result : {y, dx, dgamma, dbeta}) r.keep(result);
  });
}

// The last: a filter too large for the fused pass.
TEST(ThreadCount, PointwiseFusedWithNorms) {
  for (const auto& [x_shape, outputs] : {std::pair{kLarge, int64_t{58}}, {Shape{3, 9, 7, 464}, int64_t{300}}})
    for (Write write : {Write::kOverwrite, Write::kAccumulate})
      expect_same_bits([x_shape = x_shape, outputs = outputs, write](Recorder& r) {
        const Shape w_shape{outputs, 1, 1, x_shape.c}, y_shape = x_shape.with_channels(outputs);
        const Tensor x = r.input(x_shape), w = r.input(w_shape), y = r.output(y_shape), dz = r.input(y_shape);
        const BatchNormState n = random_norm(r, outputs, true), before = random_norm(r, x_shape.c, false);
        const Tensor mean = r.output(vector_shape(outputs)), var = r.output(vector_shape(outputs));
        const Tensor dgamma = r.output(vector_shape(outputs)), dbeta = r.output(vector_shape(outputs));
        const Tensor dx = r.output(x_shape), dw = r.output(w_shape), scaled = r.output(w_shape);
        const Tensor shift = r.output(vector_shape(outputs)), from_x = r.output(vector_shape(x_shape.c));
        const Tensor dgamma_x = r.output(vector_shape(x_shape.c)), dbeta_x = r.output(vector_shape(x_shape.c));
        r.backend().fold_norm(w, before, scaled, shift);
        r.backend().pointwise(x, scaled, {{}, false, mean, var}, y);
        r.backend().pointwise_batch_norm_backward(x, scaled, y, parts_of(dz, 7, 13), {}, n, write, dx, write, dw,
                                                  dgamma, dbeta);
        for (const Tensor& result : {scaled, shift, y, mean, var, dx, dw, dgamma, dbeta}) r.keep(result);
        r.backend().fold_norm_backward(w, scaled, before, x.pixels(), write, dw, dgamma_x, dbeta_x, from_x);
        for (const Tensor& result : {dw, dgamma_x, dbeta_x, from_x}) r.keep(result);
      });
}

TEST(ThreadCount, NormDepthwise) {
  for (int64_t stride : {1, 2})
    expect_same_bits([stride](Recorder& r) {
      const Window window{3, 3, stride, Padding::all(1)};
      const Shape y_shape{kLarge.n, window.out_h(kLarge.h), window.out_w(kLarge.w), kLarge.c};
      const BatchNormState before = random_norm(r, kLarge.c, true);
      const Tensor x = r.input(kLarge), w = r.input({1, 3, 3, kLarge.c}), y = r.output(y_shape), dy = r.input(y_shape);
      const Tensor mean = r.output(vector_shape(kLarge.c)), var = r.output(vector_shape(kLarge.c));
      const Tensor dx = r.output(kLarge), dw = r.output(w.shape()), sums = r.output({1, 1, 2, kLarge.c});
      r.backend().norm_depthwise(x, before, w, window, mean, var, y);
      for (const Tensor& result : {y, mean, var}) r.keep(result);
      for (bool normed : {true, false}) {
        r.backend().norm_depthwise_backward(x, normed ? before : BatchNormState{}, w, window, y, mean, var, dy,
                                            Write::kOverwrite, dx, Write::kAccumulate, dw, normed ? sums : Tensor{});
        for (const Tensor& result : {dx, dw, sums}) r.keep(result);
      }
    });
}

TEST(ThreadCount, Stem) {
  expect_same_bits([](Recorder& r) {
    const Shape input_shape{5, 61, 63, 3}, x_shape = strided(input_shape).with_channels(24);
    const Shape y_shape = strided(x_shape);
    const Tensor input = r.input(input_shape), x = r.output(x_shape), w = r.input({24, 3, 3, 3});
    const BatchNormState n = random_norm(r, 24, true);
    const Tensor mean = r.output(vector_shape(24)), var = r.output(vector_shape(24));
    const Tensor y = r.output(y_shape), dy = r.input(y_shape), winner = r.backend().empty(y_shape, DType::kU8);
    const Tensor dx = r.output(x_shape), dw = r.output(w.shape());
    const Tensor dgamma = r.output(vector_shape(24)), dbeta = r.output(vector_shape(24));
    r.backend().conv2d(input, w, kStride2, 1, {{}, false, mean, var}, x);
    r.backend().batch_norm_max_pool(x, n.mean, n.var, n.gamma, n.beta, n.eps, kStride2, y, winner);
    for (const Tensor& result : {x, mean, var, y, winner}) r.keep(result);
    r.backend().batch_norm_max_pool_backward(x, dy, winner, n.mean, n.var, n.gamma, n.beta, n.eps, kStride2,
                                             Write::kOverwrite, dx, dgamma, dbeta);
    for (const Tensor& result : {dx, dgamma, dbeta}) r.keep(result);
    r.backend().conv2d_norm_max_pool_backward(input, kStride2, x, n, kStride2, dy, winner, Write::kAccumulate, dw,
                                              dgamma, dbeta);
    for (const Tensor& result : {dw, dgamma, dbeta}) r.keep(result);
  });
}

TEST(ThreadCount, ElementwiseAndPooling) {
  expect_same_bits([](Recorder& r) {
    const Tensor x = r.input(kLarge), dy = r.input(kLarge), y = r.output(kLarge), dx = r.output(kLarge);
    r.backend().relu(x, y);
    r.keep(y);
    r.backend().relu_backward(y, dy, dx);
    r.keep(dx);
    r.backend().dropout(x, RandomStream(1, RandomPurpose::kDropout).key(), 0.2, Tensor{}, y);
    r.keep(y);
    const Shape pooled_shape = strided(kLarge);
    const Tensor pooled = r.output(pooled_shape), winner = r.backend().empty(pooled_shape, DType::kU8);
    const Tensor dpooled = r.input(pooled_shape);
    r.backend().max_pool(x, kStride2, pooled, winner);
    r.backend().max_pool_backward(dpooled, winner, kStride2, dx);
    r.keep(pooled);
    r.keep(winner);
    r.keep(dx);
    const Shape mean_shape{kLarge.n, 1, 1, kLarge.c};
    const Tensor mean = r.output(mean_shape), dmean = r.input(mean_shape);
    r.backend().global_average_pool(x, mean);
    r.backend().global_average_pool_backward(dmean, dx);
    r.keep(mean);
    r.keep(dx);
  });
}

TEST(ThreadCount, LossAndMetrics) {
  expect_same_bits([](Recorder& r) {
    const Shape shape{67, 1, 1, 1000};
    const Tensor logits = r.input(shape), labels = r.labels(shape.n, shape.c);
    const Tensor loss = r.output({shape.n, 1, 1, 1}), dlogits = r.output(shape);
    const Tensor rank = r.backend().empty({shape.n, 1, 1, 1}, DType::kI32);
    r.backend().softmax_cross_entropy(logits, labels, 0.1, 1.0 / 67, Tensor{}, loss, dlogits);
    r.backend().label_rank(logits, labels, rank);
    r.keep(loss);
    r.keep(dlogits);
    r.keep(rank);
    r.backend().soft_cross_entropy(logits, r.positive(shape), 1.0 / 67, Tensor{}, loss, dlogits);
    r.keep(loss);
    r.keep(dlogits);
  });
}

TEST(ThreadCount, Updates) {
  expect_same_bits([](Recorder& r) {
    std::vector<ParameterUpdate> updates;
    std::vector<Tensor> weights, averages;
    for (const Shape& shape : {Shape{1000, 1, 1, 1024}, Shape{1, 1, 1, 1}, Shape{24, 3, 3, 3}, Shape{58, 1, 1, 58}}) {
      updates.push_back({r.input(shape), r.input(shape), r.input(shape), 4e-5, 1});
      weights.push_back(updates.back().weight);
      averages.push_back(r.input(shape));
    }
    const Tensor scalars = step_scalars(r.backend(), {0.1, 0.9});
    r.backend().sgd_step(updates, {0.9, true}, scalars);
    r.backend().ema_update(averages, weights, scalars);
    for (const ParameterUpdate& update : updates) r.keep(update.momentum);
    for (const Tensor& weight : weights) r.keep(weight);
    for (const Tensor& average : averages) r.keep(average);
    r.keep(squared_norm(r.backend(), weights));
  });
}

}  // namespace
}  // namespace riffle
