// Two emulated devices with 16 MiB each: memory, streams and events belong to one of them, and memory runs out.
#include <cstring>

#include "tests/emulation/device_array.h"
#include "tests/emulation/streams.h"

namespace riffle {
namespace {

constexpr size_t kMiB = size_t{1} << 20, kTotal = 16 * kMiB;

const bool kConfigured = [] {
  emulation::set_device_count(2);
  emulation::set_device_memory(kTotal);
  return true;
}();

class Devices : public EmulationTest {
 protected:
  ~Devices() override { cudaSetDevice(0); }
};

size_t free_bytes() {
  size_t free = 0, total = 0;
  EXPECT_EQ(cudaMemGetInfo(&free, &total), cudaSuccess);
  EXPECT_EQ(total, kTotal);
  return free;
}

TEST_F(Devices, AreCountedAndChosen) {
  ASSERT_TRUE(kConfigured);
  int count = 0, device = -1;
  EXPECT_EQ(cudaGetDeviceCount(&count), cudaSuccess);
  EXPECT_EQ(count, 2);
  EXPECT_EQ(cudaSetDevice(1), cudaSuccess);
  EXPECT_EQ(cudaGetDevice(&device), cudaSuccess);
  EXPECT_EQ(device, 1);
  EXPECT_EQ(cudaSetDevice(2), cudaErrorInvalidDevice);
  EXPECT_EQ(cudaSetDevice(-1), cudaErrorInvalidDevice);
}

TEST_F(Devices, LookLikeAnH100) {
  cudaDeviceProp properties;
  ASSERT_EQ(cudaGetDeviceProperties(&properties, 1), cudaSuccess);
  EXPECT_STREQ(properties.name, "Emulated device");
  EXPECT_EQ(properties.major, 9);
  EXPECT_EQ(properties.multiProcessorCount, 132);
  EXPECT_EQ(properties.totalGlobalMem, kTotal);
  int blocks = 0;
  const auto* kernel = reinterpret_cast<const void*>(append_digit);
  EXPECT_EQ(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, 256, 0), cudaSuccess);
  EXPECT_EQ(blocks, 8);
  EXPECT_EQ(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, 256, 100 << 10), cudaSuccess);
  EXPECT_EQ(blocks, 2);
  EXPECT_EQ(cudaGetDeviceProperties(&properties, 2), cudaErrorInvalidDevice);
}

TEST_F(Devices, DoNotShareMemory) {
  DeviceArray<int> on_0(1);
  on_0.zero();
  cudaSetDevice(1);
  EXPECT_EQ(append(nullptr, on_0.get(), 1), cudaSuccess);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
  EXPECT_GT(emulation::report_count("wrong device"), 0);
  emulation::clear_reports();
  cudaPointerAttributes attributes;
  EXPECT_EQ(cudaPointerGetAttributes(&attributes, on_0.get()), cudaSuccess);
  EXPECT_EQ(attributes.type, cudaMemoryTypeDevice);
  EXPECT_EQ(attributes.device, 0);
}

TEST_F(Devices, DoNotShareStreams) {
  const TestStream on_0;
  const TestEvent event_on_0;
  cudaSetDevice(1);
  DeviceArray<int> on_1(1);
  on_1.zero();
  EXPECT_EQ(append(on_0.handle, on_1.get(), 1), cudaErrorInvalidResourceHandle);
  const TestStream on_1_stream;
  EXPECT_EQ(cudaEventRecord(event_on_0.handle, on_1_stream.handle), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaStreamWaitEvent(on_1_stream.handle, event_on_0.handle, 0), cudaSuccess);  // across devices it may
}

TEST_F(Devices, CopyToOneAnother) {
  const DeviceArray<int> on_0(std::vector<int>{7});
  cudaSetDevice(1);
  const DeviceArray<int> on_1(1);
  EXPECT_EQ(cudaMemcpy(on_1.get(), on_0.get(), sizeof(int), cudaMemcpyDeviceToDevice), cudaSuccess);
  EXPECT_EQ(on_1.values()[0], 7);
}

TEST_F(Devices, SayWhenMemoryRunsOut) {
  const size_t before = free_bytes();
  EXPECT_EQ(before, kTotal);
  void *first = nullptr, *second = nullptr;
  ASSERT_EQ(cudaMalloc(&first, 10 * kMiB), cudaSuccess);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(first) % 256, 0u);
  EXPECT_EQ(free_bytes(), kTotal - 10 * kMiB);
  EXPECT_EQ(cudaMalloc(&second, 7 * kMiB), cudaErrorMemoryAllocation);
  EXPECT_EQ(second, nullptr);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  cudaSetDevice(1);
  EXPECT_EQ(cudaMalloc(&second, 7 * kMiB), cudaSuccess);
  EXPECT_EQ(cudaFree(second), cudaSuccess);
  EXPECT_EQ(cudaFree(second), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFree(first), cudaSuccess);
  cudaSetDevice(0);
  EXPECT_EQ(free_bytes(), kTotal);
}

TEST_F(Devices, ReuseWhatWasFreedInStreamOrder) {
  const TestStream stream;
  for (int i = 0; i < 10; ++i) {  // 100 MiB in all, and nobody synchronises
    int* pointer = nullptr;
    ASSERT_EQ(cudaMallocAsync(&pointer, 10 * kMiB, stream.handle), cudaSuccess);
    EXPECT_EQ(cudaMemsetAsync(pointer, 0, 10 * kMiB, stream.handle), cudaSuccess);
    EXPECT_EQ(append(stream.handle, pointer, 1), cudaSuccess);
    EXPECT_EQ(cudaFreeAsync(pointer, stream.handle), cudaSuccess);
    EXPECT_EQ(cudaFreeAsync(pointer, stream.handle), cudaErrorInvalidValue);
  }
  EXPECT_EQ(cudaStreamSynchronize(stream.handle), cudaSuccess);
  EXPECT_EQ(emulation::report_count(), 0);
  EXPECT_EQ(free_bytes(), kTotal);
}

TEST_F(Devices, NoticeUseOutsideTheStreamsOrder) {
  const TestStream owner, other;
  emulation::options().work = emulation::WorkOrder::kReversed;
  int* pointer = nullptr;
  ASSERT_EQ(cudaMallocAsync(&pointer, sizeof(int), owner.handle), cudaSuccess);
  cudaMemsetAsync(pointer, 0, sizeof(int), owner.handle);
  append(other.handle, pointer, 1);  // does not wait for the allocation
  cudaFreeAsync(pointer, owner.handle);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
  EXPECT_GT(emulation::report_count("out of bounds"), 0);
}

TEST_F(Devices, NoticeWritesAroundAllocations) {
  char* pointer = nullptr;
  ASSERT_EQ(cudaMalloc(&pointer, 100), cudaSuccess);
  EXPECT_EQ(cudaMemset(pointer, 0, 101), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemset(pointer, 0, 100), cudaSuccess);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  std::memset(pointer + 100, 0, 1);  // not through CUDA: its copies would be refused
  EXPECT_EQ(cudaFree(pointer), cudaErrorLaunchFailure);
  EXPECT_EQ(emulation::report_count("out of bounds"), 1);
}

TEST_F(Devices, CopiesCheckDirectionAndSize) {
  int host = 0;
  const DeviceArray<int> device(1);
  EXPECT_EQ(cudaMemcpy(device.get(), &host, sizeof host, cudaMemcpyDeviceToHost), cudaErrorInvalidMemcpyDirection);
  EXPECT_EQ(cudaMemcpy(device.get(), &host, sizeof host, cudaMemcpyDeviceToDevice), cudaErrorInvalidMemcpyDirection);
  EXPECT_EQ(cudaMemcpy(device.get(), &host, sizeof host + 1, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy(device.get(), &host, sizeof host, cudaMemcpyDefault), cudaSuccess);
}

TEST_F(Devices, CopyRowsWithAPitch) {
  const std::vector<int> host{1, 2, 3, 4, 5, 6};  // two rows of three
  const DeviceArray<int> device(std::vector<int>(8, 0));
  EXPECT_EQ(cudaMemcpy2D(device.get(), 4 * sizeof(int), host.data() + 1, 3 * sizeof(int), 2 * sizeof(int), 2,
                         cudaMemcpyHostToDevice),
            cudaSuccess);
  EXPECT_EQ(device.values(), (std::vector<int>{2, 3, 0, 0, 5, 6, 0, 0}));
  EXPECT_EQ(cudaMemset2D(device.get() + 1, 4 * sizeof(int), 0, sizeof(int), 2), cudaSuccess);
  EXPECT_EQ(device.values(), (std::vector<int>{2, 0, 0, 0, 5, 0, 0, 0}));
}

}  // namespace
}  // namespace riffle
