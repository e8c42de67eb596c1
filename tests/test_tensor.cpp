// Tensors: shapes, views and the errors of wrong ones.
#include "core/tensor.h"

#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <vector>

namespace riffle {
namespace {

// Elements numbered in memory order.
Tensor numbered(Shape shape, int64_t ld) {
  const auto count = static_cast<size_t>(shape.pixels() * ld);
  std::shared_ptr<float> storage(new float[count], std::default_delete<float[]>());
  for (size_t i = 0; i < count; ++i) storage.get()[i] = static_cast<float>(i);
  return Tensor(storage, Device{}, DType::kF32, shape, ld);
}

template <class T>
std::string printed(const T& value) {
  std::ostringstream out;
  out << value;
  return out.str();
}

// The message of the Error that `action` throws.
template <class Action>
std::string error_of(const Action& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kRuntime);
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

TEST(Tensor, AnEmptyHandleIsUndefined) {
  const Tensor none;
  EXPECT_FALSE(none.defined());
  EXPECT_TRUE(numbered({1, 1, 1, 1}, 1).defined());
}

TEST(Tensor, KnowsItsGeometry) {
  const Tensor x = numbered({2, 3, 5, 7}, 9);
  EXPECT_EQ(x.shape(), (Shape{2, 3, 5, 7}));
  EXPECT_EQ(x.ld(), 9);
  EXPECT_EQ(x.pixels(), 30);
  EXPECT_EQ(x.channels(), 7);
  EXPECT_EQ(x.elements(), 210);
  EXPECT_FALSE(x.packed());
  EXPECT_TRUE(numbered({2, 3, 5, 7}, 7).packed());
}

TEST(Tensor, PrintsShapesTypesAndDevices) {
  EXPECT_EQ(printed(Shape{2, 7, 7, 58}), "2x7x7x58");
  EXPECT_EQ(printed(DType::kF32) + printed(DType::kF64) + printed(DType::kU8) + printed(DType::kI32), "f32f64u8i32");
  EXPECT_EQ(printed(DType::kBF16) + printed(DType::kF16), "bf16f16");
  EXPECT_EQ(printed(Device{}), "cpu");
  EXPECT_EQ(printed(Device{DeviceKind::kCuda, 1}), "cuda:1");
}

TEST(Tensor, SizesOfTypes) {
  EXPECT_EQ(size_of(DType::kF32), 4u);
  EXPECT_EQ(size_of(DType::kF64), 8u);
  EXPECT_EQ(size_of(DType::kBF16), 2u);
  EXPECT_EQ(size_of(DType::kF16), 2u);
  EXPECT_EQ(size_of(DType::kU8), 1u);
  EXPECT_EQ(size_of(DType::kI32), 4u);
}

TEST(Tensor, ChannelSlicesAreViews) {
  const Tensor x = numbered({2, 3, 5, 8}, 8);
  const Tensor right = x.channel_slice(3, 5);
  EXPECT_EQ(right.shape(), (Shape{2, 3, 5, 5}));
  EXPECT_EQ(right.ld(), 8);
  EXPECT_FALSE(right.packed());
  EXPECT_TRUE(right.shares_storage(x));
  EXPECT_EQ(right.data<float>()[0], 3);
  EXPECT_EQ(right.data<float>()[right.ld()], 11);
  EXPECT_EQ(right.channel_slice(1, 2).data<float>()[0], 4);
  right.data<float>()[0] = -1;
  EXPECT_EQ(x.data<float>()[3], -1);
  EXPECT_FALSE(numbered({1, 1, 1, 1}, 1).shares_storage(x));
}

TEST(Tensor, SampleSlicesAreViews) {
  const Tensor x = numbered({4, 2, 3, 5}, 5);
  const Tensor middle = x.sample_slice(1, 2);
  EXPECT_EQ(middle.shape(), (Shape{2, 2, 3, 5}));
  EXPECT_EQ(middle.data<float>()[0], 30);
  EXPECT_TRUE(middle.packed());
  // Of a channel slice: the pitch counts, not the channels.
  EXPECT_EQ(x.channel_slice(2, 2).sample_slice(3, 1).data<float>()[0], 3 * 30 + 2);
}

TEST(Tensor, ReshapedKeepsTheElements) {
  const Tensor x = numbered({2, 1, 1, 12}, 12);
  const Tensor y = x.reshaped({4, 3, 1, 2});
  EXPECT_EQ(y.shape(), (Shape{4, 3, 1, 2}));
  EXPECT_EQ(y.ld(), 2);
  EXPECT_EQ(y.data<float>(), x.data<float>());
}

TEST(Tensor, AViewKeepsTheStorageAlive) {
  Tensor view;
  {
    const Tensor x = numbered({1, 1, 2, 4}, 4);
    view = x.channel_slice(2, 2);
  }
  EXPECT_EQ(view.data<float>()[view.ld() + 1], 7);
}

TEST(TensorErrors, NameTheShapes) {
  const Tensor x = numbered({2, 3, 5, 8}, 8);
  EXPECT_NE(error_of([&] { x.channel_slice(4, 5); }).find("channels [4, 9) of 2x3x5x8"), std::string::npos);
  EXPECT_NE(error_of([&] { x.sample_slice(1, 2); }).find("images [1, 3) of 2x3x5x8"), std::string::npos);
  EXPECT_NE(error_of([&] { x.reshaped({1, 1, 1, 7}); }).find("2x3x5x8 cannot become 1x1x1x7"), std::string::npos);
  EXPECT_NE(error_of([&] { x.channel_slice(0, 4).reshaped({2, 3, 5, 4}); }).find("row pitch 8"), std::string::npos);
  EXPECT_NE(error_of([&] { numbered({1, 1, 1, 8}, 7); }).find("row pitch 7"), std::string::npos);
  const std::string wrong_type = error_of([&] { x.data<double>(); });
  EXPECT_NE(wrong_type.find("holds f32, asked for f64"), std::string::npos) << wrong_type;
}

TEST(TensorErrors, EmptyAndNegativeRanges) {
  const Tensor x = numbered({2, 1, 1, 8}, 8);
  EXPECT_THROW(x.channel_slice(0, 0), Error);
  EXPECT_THROW(x.channel_slice(-1, 2), Error);
  EXPECT_THROW(x.channel_slice(8, 1), Error);
  EXPECT_THROW(x.sample_slice(0, 0), Error);
  EXPECT_THROW(x.sample_slice(-1, 1), Error);
  EXPECT_THROW(x.sample_slice(2, 1), Error);
}

}  // namespace
}  // namespace riffle
