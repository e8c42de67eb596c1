// The parity harness: runs one primitive on a backend under test and on RefBackend and compares. Inputs are rounded to
// the dtype under test first, so that both sides see the same. Every argument sits in a larger buffer: NaN surrounds
// inputs, so that a stray read shows; a sentinel surrounds outputs, so that a stray write shows. A third run, on absolute
// values, gives the magnitude that rounding errors of sums are measured against.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "core/rng.h"
#include "tests/floating_formats.h"
#include "tests/reference/ref_backend.h"
#include "tests/tensor_values.h"

namespace riffle::parity {

struct BackendUnderTest {
  std::string name;
  std::function<std::unique_ptr<Backend>()> make;
};

// The lists of backends of a test program are of whichever backends_*.cpp it is linked with.
std::vector<BackendUnderTest> backends_under_test();
// Those, and what differs from one of them in products of matrices and convolutions only.
std::vector<BackendUnderTest> backends_under_product_test();

inline std::ostream& operator<<(std::ostream& out, const BackendUnderTest& backend) {
  return out << backend.name;
}

class ParityTest : public ::testing::TestWithParam<BackendUnderTest> {
 protected:
  void SetUp() override { backend_ = GetParam().make(); }
  Backend& backend() { return *backend_; }

 private:
  std::unique_ptr<Backend> backend_;
};

// Runs a suite of TEST_P on every backend.
#define RIFFLE_INSTANTIATE_PARITY_ON(suite, backends)                      \
  INSTANTIATE_TEST_SUITE_P(Backends, suite, ::testing::ValuesIn(backends), \
                           [](const auto& parameter) { return parameter.param.name; })
#define RIFFLE_INSTANTIATE_PARITY(suite) RIFFLE_INSTANTIATE_PARITY_ON(suite, ::riffle::parity::backends_under_test())
#define RIFFLE_INSTANTIATE_PRODUCT_PARITY(suite) \
  RIFFLE_INSTANTIATE_PARITY_ON(suite, ::riffle::parity::backends_under_product_test())

using riffle::host;

// The relative error of one rounding to float, in which every backend computes.
constexpr double kRounding = 1.0 / (1 << 24);

// The relative error of rounding a factor before it is multiplied: 0 except with tf32, which keeps 10 bits behind the
// leading one. Sums and results are of float there, too.
inline double factor_rounding(const Backend& backend) {
  return backend.description().find("tf32 products") == std::string::npos ? 0 : 1.0 / (1 << 11);
}

// Neighbouring channels on the left and right of an argument within its buffer.
struct Layout {
  int64_t left = 0, right = 0;
};
constexpr Layout kPacked{0, 0};
constexpr Layout kSlice{3, 5};
constexpr Layout kFirstPart{0, 8};
constexpr Layout kLastPart{16, 0};

// Small integers make float32 sums exact, so results must be equal; normals need a bound.
enum class Values { kIntegers, kNormals };

enum class Side { kTest, kReference, kMagnitude };

enum class Role { kInput, kOutput, kInPlace };

// Which of a backend's two dtypes an argument has; core/backend.h says which argument is what.
enum class Kind { kActivation, kParameter };

// One argument of a primitive, the same on all sides.
class Argument {
 public:
  const Tensor& operator[](Side side) const { return views_[static_cast<size_t>(side)]; }
  const Shape& shape() const { return (*this)[Side::kReference].shape(); }

 private:
  friend class Case;
  Tensor views_[3];
};

// One tensor in several pieces of memory, each a slice of a buffer of its own.
struct Parts {
  std::vector<Argument> arguments;

  ChannelParts operator[](Side side) const {
    std::vector<Tensor> tensors;
    for (const Argument& argument : arguments) tensors.push_back(argument[side]);
    return ChannelParts(std::move(tensors));
  }
};

// One call of a primitive, with its arguments. Activations unless they say parameter or vector.
class Case {
 public:
  Case(Backend& backend, Values values = Values::kNormals, uint64_t seed = 1)
      : test_(backend), values_(values), random_(seed, RandomPurpose::kTest) {}

  bool exact() const { return values_ == Values::kIntegers; }
  Backend& reference() { return *reference_; }
  DType dtype(Kind kind) const { return kind == Kind::kActivation ? test_.dtype() : test_.parameter_dtype(); }
  // The relative error of an activation that is stored on the way to a result: 0 where that is in float or wider.
  double intermediate_rounding() const {
    return size_of(test_.dtype()) < sizeof(float) ? unit_roundoff(test_.dtype()) : 0;
  }
  // The relative error of a product of two factors.
  double product_rounding() const {
    const double factor = factor_rounding(test_);
    return (1 + factor) * (1 + factor) - 1;
  }
  // The values that an argument holds if it is given these.
  std::vector<float> rounded(std::vector<float> values, Kind kind = Kind::kActivation) const {
    for (float& value : values) value = static_cast<float>(rounded_to(dtype(kind), value));
    return values;
  }

  Argument input(Shape shape, Layout layout = kPacked) { return input(shape, layout, draw(shape)); }
  Argument input(Shape shape, Layout layout, const std::vector<float>& values) {
    return place<float>(shape, layout, values, Role::kInput);
  }
  Argument bias(int64_t size) { return input(vector_shape(size)); }
  Argument parameter(Shape shape) { return parameter(shape, draw(shape)); }
  Argument parameter(Shape shape, const std::vector<float>& values, Layout layout = kPacked) {
    return place<float>(shape, layout, values, Role::kInput, Kind::kParameter);
  }
  Argument vector(int64_t size) { return parameter(vector_shape(size)); }
  Argument vector(const std::vector<float>& values) {
    return parameter(vector_shape(static_cast<int64_t>(values.size())), values);
  }
  template <class T>
  Argument integer_input(Shape shape, const std::vector<T>& values) {
    return place<T>(shape, kPacked, values, Role::kInput);
  }
  // Holds NaN to be overwritten, or values to be added to.
  Argument output(Shape shape, Layout layout = kPacked, Write write = Write::kOverwrite) {
    if (write == Write::kAccumulate) return in_place(shape, layout, draw(shape));
    return place<float>(shape, layout, unwritten(shape), Role::kOutput);
  }
  Argument parameter_output(Shape shape, Write write = Write::kOverwrite) {
    if (write == Write::kAccumulate) return parameter_in_place(shape, draw(shape));
    return place<float>(shape, kPacked, unwritten(shape), Role::kOutput, Kind::kParameter);
  }
  // Both read and written.
  Argument in_place(Shape shape, Layout layout, const std::vector<float>& values) {
    return place<float>(shape, layout, values, Role::kInPlace);
  }
  Argument parameter_in_place(Shape shape, const std::vector<float>& values) {
    return place<float>(shape, kPacked, values, Role::kInPlace, Kind::kParameter);
  }
  // `count` parts of different sizes, or as many as there are channels. Alone, a part is packed.
  Parts input_parts(Shape shape, size_t count, const std::vector<float>& values) {
    return place_parts(shape, count, values, Role::kInput);
  }
  Parts output_parts(Shape shape, size_t count) { return place_parts(shape, count, unwritten(shape), Role::kOutput); }
  template <class T>
  Argument integer_output(Shape shape) {
    return place<T>(shape, kPacked, std::vector<T>(static_cast<size_t>(shape.elements()), T(0xCD)), Role::kOutput);
  }

  std::vector<float> draw(Shape shape) {
    std::vector<float> values(static_cast<size_t>(shape.elements()));
    for (float& value : values)
      value = static_cast<float>(exact() ? static_cast<double>(random_.below(7) - 3) : random_.normal());
    return values;
  }
  RandomStream& random() { return random_; }

  // call(backend, side) runs the primitive on argument[side]. Afterwards nothing but the outputs may have changed.
  void run(const std::function<void(Backend& backend, Side side)>& call, bool magnitude = true) {
    call(*reference_, Side::kReference);
    if (magnitude) call(*reference_, Side::kMagnitude);
    call(test_, Side::kTest);
    for (const auto& check : untouched_checks_) check();
  }

  std::vector<double> got(const Argument& y) { return download<double>(test_, y[Side::kTest]); }
  std::vector<double> expected(const Argument& y) { return download<double>(*reference_, y[Side::kReference]); }

  template <class T>
  void expect_equal_integers(const Argument& y) {
    EXPECT_EQ(download<T>(test_, y[Side::kTest]), download<T>(*reference_, y[Side::kReference]));
  }
  // The value nearest to the reference: for operations that only move or select values, and for exact sums.
  void expect_equal(const Argument& y) {
    std::vector<double> nearest = expected(y);
    for (double& value : nearest) value = rounded_to(y[Side::kTest].dtype(), value);
    compare(y, nearest, std::vector<double>(nearest.size(), 0.0));
  }
  // Sums of `terms` products: exact for integers, else within the standard bound terms * u * sum |a||b|.
  void expect_sum(const Argument& y, int64_t terms) { expect_sum_within(y, sum_rounding(terms)); }
  // The same of a matrix product, whose factors may be rounded: small integers stay as they are.
  void expect_product_sum(const Argument& y, int64_t terms) {
    expect_sum_within(y, product_rounding() + (1 + product_rounding()) * sum_rounding(terms));
  }
  // expect_product_sum where a library may store the sums, `stored`, as activations before anything is added to them.
  void expect_stored_sum(const Argument& y, int64_t terms, const std::vector<double>& stored) {
    if (intermediate_rounding() == 0) return expect_product_sum(y, terms);
    std::vector<double> bounds = download<double>(*reference_, y[Side::kMagnitude]);
    for (size_t i = 0; i < bounds.size(); ++i) {
      bounds[i] *= exact() ? 0 : sum_rounding(terms);
      const bool representable = exact() && rounded_to(test_.dtype(), stored[i]) == stored[i];
      if (!representable) bounds[i] += spacing(test_.dtype(), std::abs(stored[i]) + bounds[i]) / 2;
    }
    expect_within(y, bounds);
  }
  // `bounds` are of what is computed in float; storing it rounds once more where y has 16 bits.
  void expect_within(const Argument& y, std::vector<double> bounds) {
    const std::vector<double> wanted = expected(y);
    ASSERT_EQ(wanted.size(), bounds.size());
    const DType stored = y[Side::kTest].dtype();
    if (size_of(stored) < sizeof(float))
      for (size_t i = 0; i < bounds.size(); ++i) bounds[i] += spacing(stored, std::abs(wanted[i]) + bounds[i]) / 2;
    compare(y, wanted, bounds);
  }
  // Bounds of the whole.
  void expect_within(const Parts& y, const std::vector<double>& bounds) {
    const int64_t channels = y[Side::kReference].shape().c;
    int64_t begin = 0;
    for (const Argument& part : y.arguments) {
      expect_within(part, channels_of(bounds, channels, begin, part.shape().c));
      begin += part.shape().c;
    }
  }

 private:
  static double sum_rounding(int64_t terms) { return static_cast<double>(terms + 2) * kRounding; }
  // `bound` is relative to the sum of the terms' magnitudes.
  void expect_sum_within(const Argument& y, double bound) {
    if (exact()) return expect_equal(y);
    std::vector<double> bounds = download<double>(*reference_, y[Side::kMagnitude]);
    for (double& magnitude : bounds) magnitude *= bound;
    expect_within(y, bounds);
  }
  static std::vector<float> unwritten(Shape shape) {
    return std::vector<float>(static_cast<size_t>(shape.elements()), std::numeric_limits<float>::quiet_NaN());
  }
  // Channels begin, begin + 1, ... of each pixel.
  template <class T>
  static std::vector<T> channels_of(const std::vector<T>& values, int64_t channels, int64_t begin, int64_t count) {
    std::vector<T> some;
    for (auto pixel = values.begin(); pixel != values.end(); pixel += channels)
      some.insert(some.end(), pixel + begin, pixel + begin + count);
    return some;
  }
  template <class T>
  static std::vector<T> download(Backend& backend, const Tensor& x) {
    std::vector<T> values(static_cast<size_t>(x.elements()));
    backend.download(x, DTypeOf<T>::value, values.data());
    return values;
  }

  template <class T>
  Argument place(Shape shape, Layout layout, const std::vector<T>& values, Role role, Kind kind = Kind::kActivation);
  Parts place_parts(Shape shape, size_t count, const std::vector<float>& values, Role role);
  template <class T>
  void check_untouched(const Tensor& buffer, const std::vector<T>& before, Shape shape, Layout layout, Role role);
  void compare(const Argument& y, const std::vector<double>& wanted, const std::vector<double>& bounds);

  Backend& test_;
  std::unique_ptr<Backend> reference_ = make_reference_backend();
  Values values_;
  RandomStream random_;
  std::list<std::function<void()>> untouched_checks_;
};

// Index of element i of `shape` within its buffer, which has one more image before and after it.
inline size_t buffer_index(int64_t i, Shape shape, Layout layout) {
  const int64_t ld = layout.left + shape.c + layout.right;
  return static_cast<size_t>((shape.h * shape.w + i / shape.c) * ld + layout.left + i % shape.c);
}

// Equality that holds for a NaN and another.
template <class T>
bool same_value(T a, T b) {
  return a == b || (a != a && b != b);
}

template <class T>
T guard_of(Role role) {
  if (std::is_same<T, float>::value && role == Role::kInput) return std::numeric_limits<T>::quiet_NaN();
  return static_cast<T>(101);
}

template <class T>
Argument Case::place(Shape shape, Layout layout, const std::vector<T>& values, Role role, Kind kind) {
  constexpr bool kIsFloat = std::is_same<T, float>::value;
  const Shape padded{shape.n + 2, shape.h, shape.w, layout.left + shape.c + layout.right};
  std::vector<T> image(static_cast<size_t>(padded.elements()), guard_of<T>(role));
  std::vector<T> magnitude = image;
  for (int64_t i = 0; i < shape.elements(); ++i) {
    T value = values[static_cast<size_t>(i)];
    if constexpr (kIsFloat) value = static_cast<float>(rounded_to(dtype(kind), value));
    image[buffer_index(i, shape, layout)] = value;
    magnitude[buffer_index(i, shape, layout)] = value < T(0) ? static_cast<T>(-value) : value;
  }
  const DType host_dtype = DTypeOf<T>::value;
  const auto upload = [&](Backend& backend, const std::vector<T>& host) {
    const DType floating = kind == Kind::kActivation ? backend.dtype() : backend.parameter_dtype();
    Tensor buffer = backend.empty(padded, kIsFloat ? floating : host_dtype);
    backend.upload(host.data(), host_dtype, buffer);
    return buffer;
  };
  const auto view = [&](const Tensor& buffer) {
    return buffer.sample_slice(1, shape.n).channel_slice(layout.left, shape.c);
  };
  const Tensor test_buffer = upload(test_, image);
  Argument argument;
  argument.views_[static_cast<size_t>(Side::kTest)] = view(test_buffer);
  argument.views_[static_cast<size_t>(Side::kReference)] = view(upload(*reference_, image));
  argument.views_[static_cast<size_t>(Side::kMagnitude)] = view(upload(*reference_, magnitude));
  untouched_checks_.push_back([=] { check_untouched<T>(test_buffer, image, shape, layout, role); });
  return argument;
}

inline Parts Case::place_parts(Shape shape, size_t count, const std::vector<float>& values, Role role) {
  const Layout layouts[] = {kSlice, kLastPart, kPacked, kFirstPart};
  Parts parts;
  int64_t begin = 0;
  for (size_t left = count; begin < shape.c; --left) {
    const int64_t rest = shape.c - begin, share = std::max<int64_t>(left % 2 == 0 ? rest / 2 : rest / 3, 1);
    const int64_t size = left <= 1 ? rest : share;
    const Layout layout = count == 1 ? kPacked : layouts[left % 4];
    parts.arguments.push_back(
        place(shape.with_channels(size), layout, channels_of(values, shape.c, begin, size), role));
    begin += size;
  }
  return parts;
}

template <class T>
void Case::check_untouched(const Tensor& buffer, const std::vector<T>& before, Shape shape, Layout layout, Role role) {
  const std::vector<T> after = download<T>(test_, buffer);
  std::vector<bool> writable(before.size(), false);
  if (role != Role::kInput)
    for (int64_t i = 0; i < shape.elements(); ++i) writable[buffer_index(i, shape, layout)] = true;
  const auto ld = static_cast<size_t>(layout.left + shape.c + layout.right);
  for (size_t i = 0; i < before.size(); ++i) {
    if (writable[i] || same_value(before[i], after[i])) continue;
    ADD_FAILURE() << (role == Role::kInput ? "an input" : "memory around an output") << " of shape " << shape
                  << " was changed: row " << static_cast<int64_t>(i / ld) - shape.h * shape.w << ", channel "
                  << static_cast<int64_t>(i % ld) - layout.left << " from " << +before[i] << " to " << +after[i];
    return;
  }
}

inline void Case::compare(const Argument& y, const std::vector<double>& wanted, const std::vector<double>& bounds) {
  ASSERT_EQ(wanted.size(), bounds.size());
  const std::vector<double> values = got(y);
  const Shape shape = y.shape();
  int64_t wrong = 0;
  std::string first;
  for (size_t i = 0; i < values.size(); ++i) {
    const bool both_nan = std::isnan(values[i]) && std::isnan(wanted[i]);
    if (both_nan || values[i] == wanted[i] || std::abs(values[i] - wanted[i]) <= bounds[i]) continue;
    if (wrong++ > 0) continue;
    const auto pixel = static_cast<int64_t>(i) / shape.c;
    first = join("image ", pixel / (shape.h * shape.w), ", row ", pixel / shape.w % shape.h, ", column ",
                 pixel % shape.w, ", channel ", static_cast<int64_t>(i) % shape.c, ": got ", values[i], ", expected ",
                 wanted[i], ", off by ", std::abs(values[i] - wanted[i]), ", bound ", bounds[i]);
  }
  if (wrong > 0) ADD_FAILURE() << wrong << " of " << values.size() << " elements of " << shape << " differ; " << first;
}

}  // namespace riffle::parity
