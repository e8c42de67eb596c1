// Results must not depend on the number of threads: every primitive, on shapes large enough to be split, bit for bit.
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "core/cpu/cpu_backend.h"
#include "core/rng.h"

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
    r.backend().normalize(images, Normalisation(), pixels);
    r.keep(pixels);
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

TEST(ThreadCount, ElementwiseAndPooling) {
  expect_same_bits([](Recorder& r) {
    const Tensor x = r.input(kLarge), dy = r.input(kLarge), y = r.output(kLarge), dx = r.output(kLarge);
    r.backend().relu(x, y);
    r.keep(y);
    r.backend().relu_backward(y, dy, dx);
    r.keep(dx);
    r.backend().dropout(x, RandomStream(1, RandomPurpose::kDropout).key(), 0.2, y);
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
    r.backend().softmax_cross_entropy(logits, labels, 0.1, 1.0 / 67, loss, dlogits);
    r.backend().label_rank(logits, labels, rank);
    r.keep(loss);
    r.keep(dlogits);
    r.keep(rank);
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
    r.backend().sgd_step(updates, {0.1, 0.9, 1, true});
    r.backend().ema_update(averages, weights, 0.9);
    for (const ParameterUpdate& update : updates) r.keep(update.momentum);
    for (const Tensor& weight : weights) r.keep(weight);
    for (const Tensor& average : averages) r.keep(average);
    r.keep(r.backend().squared_norm(weights));
  });
}

}  // namespace
}  // namespace riffle
