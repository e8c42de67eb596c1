// The CUDA backend's memory, transfers, movement and graphs on the emulated device, in every order of work that streams
// and events allow. Values are compared with the CPU backend or with loops here.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "core/context.h"
#include "core/cpu/cpu_backend.h"
#include "core/out_of_memory.h"
#include "cuda/cuda_backend.h"
#include "cuda/device_info.h"
#include "cuda/device_types.h"
#include "cuda/emulation/control.h"
#include "cuda/make_cuda_backend.h"
#include "tests/tensor_values.h"

namespace riffle {
namespace {

using emulation::WorkOrder;

constexpr DType kActivationDtypes[] = {DType::kF32, DType::kBF16, DType::kF16};

CudaOptions poisoned(DType dtype = DType::kF32) {
  CudaOptions options;
  options.dtype = dtype;
  options.poison = true;
  return options;
}

std::vector<double> numbers(int64_t count, unsigned seed = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal(0, 3);
  std::vector<double> values(static_cast<size_t>(count));
  for (double& value : values) value = normal(random);
  return values;
}

// `value` as `dtype` stores it, rounded once.
double stored(double value, DType dtype) {
  if (dtype == DType::kBF16) return __bfloat162float(__double2bfloat16(value));
  if (dtype == DType::kF16) return __half2float(__double2half(value));
  return dtype == DType::kF32 ? static_cast<float>(value) : value;
}

std::vector<double> stored(std::vector<double> values, DType dtype) {
  for (double& value : values) value = stored(value, dtype);
  return values;
}

// A tensor of this shape whose rows are `margin` elements apart on each side, inside memory full of -7.
struct Framed {
  Tensor whole, view;
  Framed(Backend& backend, Shape shape, DType dtype, int64_t margin)
      : whole(backend.empty(shape.with_channels(shape.c + 2 * margin), dtype)),
        view(whole.channel_slice(margin, shape.c)) {
    backend.fill(-7, whole);
    if (margin == 0) view = whole;
  }
  void expect_frame_kept(Backend& backend) const {
    const std::vector<double> all = host(backend, whole);
    const size_t pitch = static_cast<size_t>(whole.channels());
    const size_t margin = (pitch - static_cast<size_t>(view.channels())) / 2;
    for (size_t i = 0; i < all.size(); ++i)
      if (i % pitch < margin || i % pitch >= pitch - margin) {
        ASSERT_EQ(all[i], -7) << "at " << i;
      }
  }
};

class CudaRuntime : public ::testing::TestWithParam<WorkOrder> {
 protected:
  void SetUp() override { emulation::options().work = GetParam(); }
  void TearDown() override {
    EXPECT_EQ(emulation::report_count(), 0);
    emulation::clear_reports();
  }
};
INSTANTIATE_TEST_SUITE_P(Orders, CudaRuntime,
                         ::testing::Values(WorkOrder::kEager, WorkOrder::kLate, WorkOrder::kReversed,
                                           WorkOrder::kRandom));

TEST_P(CudaRuntime, TransfersConvertAndKeepNeighbours) {
  for (DType dtype : {DType::kF32, DType::kBF16, DType::kF16, DType::kF64})
    for (int64_t channels : {1, 3, 24, 29, 58, 116})
      for (int64_t margin : {0, 3}) {
        SCOPED_TRACE(join(dtype, " ", channels, " margin ", margin));
        CudaBackend backend(poisoned());
        const Shape shape{2, 3, 5, channels};
        const std::vector<double> values = numbers(shape.elements());
        const Framed y(backend, shape, dtype, margin);
        backend.upload(values.data(), DType::kF64, y.view);
        EXPECT_EQ(host(backend, y.view), stored(values, dtype));
        const std::vector<float> narrow(values.begin(), values.end());
        backend.upload(narrow.data(), DType::kF32, y.view);
        EXPECT_EQ(host(backend, y.view), stored(std::vector<double>(narrow.begin(), narrow.end()), dtype));
        y.expect_frame_kept(backend);
      }
}

// By way of f32 these would become ties, and 1.
TEST_P(CudaRuntime, UploadsRoundOnce) {
  CudaBackend backend(poisoned());
  const Tensor y = backend.empty(vector_shape(1), DType::kBF16), z = backend.empty(vector_shape(1), DType::kF16);
  const double above_half_bf16 = 1 + std::ldexp(1, -8) + std::ldexp(1, -30);
  const double above_half_f16 = 1 + std::ldexp(1, -11) + std::ldexp(1, -30);
  backend.upload(&above_half_bf16, DType::kF64, y);
  backend.upload(&above_half_f16, DType::kF64, z);
  EXPECT_EQ(host(backend, y).front(), 1 + std::ldexp(1, -7));
  EXPECT_EQ(host(backend, z).front(), 1 + std::ldexp(1, -10));
}

TEST_P(CudaRuntime, TransfersLargerThanTheStagingRing) {
  CudaBackend backend(poisoned());
  const size_t count = PinnedStaging::kSlotBytes * (PinnedStaging::kSlots + 1) + 17;
  std::vector<uint8_t> bytes(count), back(count);
  for (size_t i = 0; i < count; ++i) bytes[i] = static_cast<uint8_t>(i * 2654435761u >> 24);
  const Tensor y = backend.empty(vector_shape(static_cast<int64_t>(count)), DType::kU8);
  std::vector<uint8_t> given = bytes;
  backend.upload(given.data(), DType::kU8, y);
  std::fill(given.begin(), given.end(), uint8_t{0});  // the caller's memory is free again
  backend.download(y, DType::kU8, back.data());
  EXPECT_EQ(back, bytes);
}

// Uploads go around the compute stream's back; each must wait for what was queued on it.
TEST_P(CudaRuntime, UploadsKeepTheOrderOfCalls) {
  CudaBackend backend(poisoned());
  const Tensor x = backend.empty(vector_shape(1000)), sum = backend.empty(vector_shape(1000));
  backend.fill(0, sum);
  double expected = 0;
  for (int i = 1; i <= 9; ++i) {
    const std::vector<float> values(1000, static_cast<float>(i));
    backend.upload(values.data(), DType::kF32, x);
    backend.copy(x, Write::kAccumulate, sum);
    expected += i;
    const Tensor passing = backend.empty(vector_shape(1000 * i));  // takes and gives back blocks of other sizes
    backend.fill(i, passing);
  }
  EXPECT_EQ(host(backend, sum), std::vector<double>(1000, expected));
}

TEST_P(CudaRuntime, FillsEveryDtype) {
  CudaBackend backend(poisoned());
  for (DType dtype : {DType::kF32, DType::kBF16, DType::kF16, DType::kF64})
    for (int64_t margin : {0, 1, 8}) {
      const Framed y(backend, {2, 3, 3, 29}, dtype, margin);
      backend.fill(-1.5, y.view);
      EXPECT_EQ(host(backend, y.view), std::vector<double>(2 * 9 * 29, -1.5));
      y.expect_frame_kept(backend);
    }
  const Tensor labels = backend.empty(vector_shape(7), DType::kI32);
  backend.fill(-5, labels);
  std::vector<int32_t> back(7);
  backend.download(labels, DType::kI32, back.data());
  EXPECT_EQ(back, std::vector<int32_t>(7, -5));
  EXPECT_THROW(backend.fill(1.5, labels), Error);
}

TEST_P(CudaRuntime, CopiesAddAndConvert) {
  for (DType from : kActivationDtypes)
    for (DType to : kActivationDtypes) {
      if (from != to && from != DType::kF32 && to != DType::kF32) continue;
      for (int64_t channels : {1, 24, 29, 58})
        for (int64_t margin : {0, 3, 8}) {
          SCOPED_TRACE(join(from, " to ", to, ", ", channels, " channels, margin ", margin));
          CudaBackend backend(poisoned());
          const Shape shape{2, 4, 3, channels};
          const std::vector<double> a = numbers(shape.elements(), 1), b = numbers(shape.elements(), 2);
          const Framed x(backend, shape, from, margin), y(backend, shape, to, margin / 3);
          backend.upload(a.data(), DType::kF64, x.view);
          backend.copy(x.view, Write::kOverwrite, y.view);
          const std::vector<double> overwritten = stored(stored(a, from), to);
          EXPECT_EQ(host(backend, y.view), overwritten);
          backend.upload(b.data(), DType::kF64, x.view);
          backend.copy(x.view, Write::kAccumulate, y.view);
          std::vector<double> added = stored(b, from);
          for (size_t i = 0; i < added.size(); ++i)
            added[i] = stored(static_cast<float>(added[i] + overwritten[i]), to);
          EXPECT_EQ(host(backend, y.view), added);
          x.expect_frame_kept(backend);
          y.expect_frame_kept(backend);
        }
    }
}

TEST_P(CudaRuntime, NormalizesAsTheCpuDoes) {
  const std::unique_ptr<Backend> cpu = make_cpu_backend(1, true);
  Normalisation grey;
  grey.mean = {0.2860};
  grey.std = {0.3530};
  Normalisation reversed;
  reversed.reverse_channels = true;
  for (const Normalisation& normalisation : {Normalisation(), reversed, grey})
    for (DType dtype : kActivationDtypes)
      for (int64_t width : {7, 16})
        for (int64_t margin : {0, 2}) {
          const Shape shape{3, 16, width, static_cast<int64_t>(normalisation.mean.size())};
          CudaBackend backend(poisoned(dtype));
          std::vector<uint8_t> bytes(static_cast<size_t>(shape.elements()));
          for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i * 37 % 256);
          const Tensor images = backend.empty(shape, DType::kU8), cpu_images = cpu->empty(shape, DType::kU8);
          const Tensor expected = cpu->empty(shape);
          const Tensor flips = backend.empty({3, 1, 1, 1}, DType::kU8),
                       cpu_flips = cpu->empty(flips.shape(), DType::kU8);
          backend.upload(bytes.data(), DType::kU8, images);
          cpu->upload(bytes.data(), DType::kU8, cpu_images);
          backend.upload(bytes.data(), DType::kU8, flips);
          cpu->upload(bytes.data(), DType::kU8, cpu_flips);
          const Framed y(backend, shape, dtype, margin);
          backend.normalize(images, flips, normalisation, y.view);
          cpu->normalize(cpu_images, cpu_flips, normalisation, expected);
          EXPECT_EQ(host(backend, y.view), stored(host(*cpu, expected), dtype));
          y.expect_frame_kept(backend);
        }
}

TEST_P(CudaRuntime, RefusesOtherDtypesAndOtherDevices) {
  CudaBackend backend(poisoned());
  const Tensor bf16 = backend.empty(vector_shape(4), DType::kBF16), f16 = backend.empty(vector_shape(4), DType::kF16);
  const int32_t integers[4] = {};
  EXPECT_THROW(backend.upload(integers, DType::kI32, bf16), Error);
  EXPECT_THROW(backend.copy(bf16, Write::kOverwrite, f16), Error);
  const Tensor on_cpu = make_cpu_backend(1)->empty(vector_shape(4), DType::kF32);
  EXPECT_THROW(backend.fill(0, on_cpu), Error);
  EXPECT_THROW(CudaBackend(poisoned(DType::kI32)), Error);
}

TEST_P(CudaRuntime, MemoryIsReusedPoisonedAndCounted) {
  CudaBackend backend(poisoned());
  Tensor x = backend.empty(vector_shape(1000));
  for (double value : host(backend, x)) ASSERT_TRUE(std::isnan(value));
  const void* const first = x.raw();
  EXPECT_EQ(reinterpret_cast<uintptr_t>(first) % 256, 0u);
  backend.fill(1, x);
  x = Tensor{};
  const int64_t allocations = backend.memory().system_allocations;
  x = backend.empty(vector_shape(1001));
  EXPECT_EQ(x.raw(), first);
  for (double value : host(backend, x)) ASSERT_TRUE(std::isnan(value));
  EXPECT_EQ(backend.memory().system_allocations, allocations);
  EXPECT_EQ(backend.memory().bytes_in_use, 4096);
  EXPECT_EQ(backend.memory().bytes_held, 4096);
  EXPECT_EQ(backend.memory().peak_bytes, 4096);
}

TEST_P(CudaRuntime, TensorsOutliveTheBackend) {
  auto backend = std::make_unique<CudaBackend>(poisoned());
  const Tensor x = backend->empty(vector_shape(1000));
  backend->fill(1, x);
  backend = nullptr;
  EXPECT_TRUE(x.defined());
}

TEST_P(CudaRuntime, OutOfMemoryFirstGivesUpTheCache) {
  emulation::set_device_memory(size_t{64} << 20);
  {
    CudaBackend backend({});
    const Tensor kept = backend.empty(vector_shape(10 << 20), DType::kU8);
    { const Tensor gone = backend.empty(vector_shape(40 << 20), DType::kU8); }
    EXPECT_EQ(backend.memory().bytes_held, 50 << 20);
    const Tensor other = backend.empty(vector_shape(44 << 20), DType::kU8);
    EXPECT_EQ(backend.memory().bytes_held, 54 << 20);
    try {
      backend.empty(vector_shape(20 << 20), DType::kU8);
      FAIL() << "20 MiB too many";
    } catch (const OutOfMemory& error) {
      EXPECT_EQ(error.bytes().asked, 20 << 20);
      EXPECT_EQ(error.bytes().in_use, 54 << 20);
      EXPECT_LE(error.bytes().obtainable, 64 << 20);
      EXPECT_GE(error.bytes().obtainable, 60 << 20);
      const std::string text = error.what();
      for (const char* part : {"cuda:0", "20 MiB asked", "tensors use 54 MiB", "of 64 MiB", "smaller batch"})
        EXPECT_NE(text.find(part), std::string::npos) << part << " in: " << text;
    }
    const Tensor still_works = backend.empty(vector_shape(1 << 20), DType::kU8);
  }
  emulation::set_device_memory(size_t{2048} << 20);
}

TEST(OutOfMemoryNumbers, LargestBatch) {
  // 100 bytes fixed, 50 were needed for half of a batch of 10 when 130 turned out to be all.
  EXPECT_EQ(OutOfMemory("", {20, 130, 130}).largest_batch(10, 100), 6);
  EXPECT_EQ(OutOfMemory("", {1, 130, 130}).largest_batch(10, 100), 9);
  EXPECT_EQ(OutOfMemory("", {20, 130, 130}).largest_batch(10, 130), 0);
}

// x += 1, through a temporary.
void increment(CudaBackend& backend, const Tensor& x) {
  const Tensor one = backend.empty(x.shape());
  backend.fill(1, one);
  backend.copy(one, Write::kAccumulate, x);
}

TEST_P(CudaRuntime, CapturedWorkRunsAtReplayOnly) {
  CudaBackend backend(poisoned());
  const Tensor x = backend.empty(vector_shape(1000));
  backend.fill(0, x);
  increment(backend, x);
  const int64_t allocations = backend.memory().system_allocations;
  const std::unique_ptr<CapturedWork> work = backend.capture([&] { increment(backend, x); });
  EXPECT_EQ(host(backend, x).front(), 1);
  for (int i = 0; i < 3; ++i) work->replay();
  EXPECT_EQ(host(backend, x), std::vector<double>(1000, 4));
  const std::vector<float> tens(1000, 10);
  backend.upload(tens.data(), DType::kF32, x);
  work->replay();
  EXPECT_EQ(host(backend, x), std::vector<double>(1000, 11));
  EXPECT_EQ(backend.memory().system_allocations, allocations + 1);  // what the upload arrived in
}

TEST_P(CudaRuntime, GraphsKeepTheirMemoryWhileTheyLive) {
  CudaBackend backend(poisoned());
  const Tensor x = backend.empty(vector_shape(1000));
  backend.fill(0, x);
  increment(backend, x);
  const void* temporary = nullptr;
  std::unique_ptr<CapturedWork> work = backend.capture([&] {
    temporary = backend.empty(x.shape()).raw();
    increment(backend, x);
  });
  {
    const Tensor other = backend.empty(x.shape());
    EXPECT_NE(other.raw(), temporary);
    backend.fill(5, other);
    work->replay();
    EXPECT_EQ(host(backend, other).front(), 5);
    EXPECT_EQ(host(backend, x).front(), 2);
  }
  const int64_t allocations = backend.memory().system_allocations;
  work = nullptr;
  const Tensor a = backend.empty(x.shape()), b = backend.empty(x.shape());
  EXPECT_TRUE(a.raw() == temporary || b.raw() == temporary);
  EXPECT_EQ(backend.memory().system_allocations, allocations);
}

TEST_P(CudaRuntime, RefusedCapturesLeaveTheBackendUsable) {
  CudaBackend backend(poisoned());
  const Tensor x = backend.empty(vector_shape(1000));
  backend.fill(3, x);
  const float values[1000] = {};
  float back[1000];
  const auto message = [&](const std::function<void()>& work) -> std::string {
    try {
      backend.capture([&] {
        backend.fill(9, x);
        work();
      });
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_NE(message([&] { backend.empty(vector_shape(1 << 20)); }).find("more memory"), std::string::npos);
  EXPECT_NE(message([&] { backend.upload(values, DType::kF32, x); }).find("upload"), std::string::npos);
  EXPECT_NE(message([&] { backend.download(x, DType::kF32, back); }).find("download"), std::string::npos);
  EXPECT_NE(message([&] { backend.synchronize(); }).find("synchronize"), std::string::npos);
  EXPECT_NE(message([&] { fail("of the work"); }).find("of the work"), std::string::npos);
  EXPECT_EQ(host(backend, x), std::vector<double>(1000, 3));
  increment(backend, x);
  EXPECT_EQ(host(backend, x), std::vector<double>(1000, 4));
}

// Events around them; what lies within another range is part of it.
TEST_P(CudaRuntime, RangesAreTimed) {
  CudaBackend backend(poisoned());
  const Tensor x = backend.empty(vector_shape(1000));
  const auto work = [&] { backend.fill(1, x); };
  for (int time = 0; time < 3; ++time) {
    backend.time_ranges();
    EXPECT_THROW(backend.capture(work), Error);
    for (int i = 0; i <= time; ++i) {
      const ProfileRange outer(backend, "outer");
      const ProfileRange inner(backend, "inner");
      work();
    }
    { const ProfileRange last(backend, "last"); }
    const std::vector<RangeTime> ranges = backend.range_times();
    ASSERT_EQ(ranges.size(), static_cast<size_t>(time) + 2);
    for (const RangeTime& range : ranges) {
      EXPECT_EQ(range.name, &range == &ranges.back() ? "last" : "outer");
      EXPECT_GE(range.milliseconds, 0);
    }
    EXPECT_GT(ranges.front().milliseconds, 0);
  }
  { const ProfileRange after(backend, "after"); }
  EXPECT_TRUE(backend.range_times().empty());
}

TEST(CudaDevices, AreNamedAndChecked) {
  std::string why_not;
  EXPECT_TRUE(cuda_available(&why_not)) << why_not;
  const CudaInfo info = cuda_info();
  ASSERT_EQ(info.gpus.size(), 2u);
  EXPECT_EQ(info.gpus[0].why_not_used, "");
  EXPECT_GT(info.gpus[0].memory_bytes, 0);
  CudaOptions options = poisoned();
  options.device = 2;
  try {
    CudaBackend backend(options);
    FAIL() << "there is no device 2";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("no CUDA device 2; 2 are visible"), std::string::npos) << error.what();
  }
}

TEST(CudaDevices, TheSecondOneWorksToo) {
  CudaOptions options = poisoned();
  options.device = 1;
  CudaBackend backend(options);
  const Tensor x = backend.empty(vector_shape(100));
  EXPECT_EQ(x.device(), (Device{DeviceKind::kCuda, 1}));
  const std::vector<double> values = numbers(100);
  backend.upload(values.data(), DType::kF64, x);
  increment(backend, x);
  EXPECT_EQ(host(backend, x)[7], static_cast<float>(values[7]) + 1.0f);
  EXPECT_NE(backend.description().find("cuda:1"), std::string::npos);
}

}  // namespace
}  // namespace riffle

int main(int argc, char** argv) {
  riffle::emulation::set_device_count(2);
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
