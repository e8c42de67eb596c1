// Calls that break a contract of core/backend.h, and the test that every backend and the reference refuse them.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "tests/parity.h"

namespace riffle::parity {

// Makes arguments of a backend by shape. All hold ones, so that nothing but the tested mistake is wrong.
class Maker {
 public:
  explicit Maker(Backend& backend) : backend_(backend) {}
  Tensor operator()(Shape shape) const {
    Tensor tensor = backend_.empty(shape);
    backend_.fill(1, tensor);
    return tensor;
  }
  Tensor parameter(Shape shape) const {
    Tensor tensor = backend_.empty_parameter(shape);
    backend_.fill(1, tensor);
    return tensor;
  }
  Tensor vector(int64_t size) const { return parameter(vector_shape(size)); }
  BatchNormState norm(int64_t channels, bool relu = false) const {
    return {vector(channels), vector(channels), vector(channels), vector(channels), 1e-5, relu};
  }
  Tensor slice(Shape shape) const { return (*this)(shape.with_channels(shape.c + 3)).channel_slice(1, shape.c); }
  Tensor integers(Shape shape, DType dtype = DType::kI32) const {
    Tensor tensor = backend_.empty(shape, dtype);
    const std::vector<int32_t> zeros(static_cast<size_t>(shape.elements()));
    backend_.upload(zeros.data(), dtype, tensor);
    return tensor;
  }

 private:
  Backend& backend_;
};

struct Mistake {
  const char* what;
  std::function<void(Backend& b, const Maker& t)> call;
};

inline const Write kOver = Write::kOverwrite;
inline const Window kWindow{3, 3, 2, Padding::all(1)};
inline const Shape kX{2, 7, 7, 8}, kY{2, 4, 4, 8};

class BackendErrors : public ::testing::TestWithParam<BackendUnderTest> {
 protected:
  static void expect_all_to_throw(const std::vector<Mistake>& mistakes) {
    const std::unique_ptr<Backend> backend = GetParam().make();
    const Maker maker(*backend);
    for (const Mistake& mistake : mistakes)
      EXPECT_THROW(mistake.call(*backend, maker), Error) << mistake.what << " was accepted";
  }
};

inline std::vector<BackendUnderTest> backends_and_reference() {
  std::vector<BackendUnderTest> all = backends_under_test();
  all.push_back({"Reference", make_reference_backend});
  return all;
}

}  // namespace riffle::parity
