// OS threads take turns on the emulated device: each has its own current device, shared arrays and capture rules.
#include <thread>

#include "tests/emulation/device_array.h"
#include "tests/emulation/sample_kernels.h"
#include "tests/emulation/streams.h"

namespace riffle {
namespace {

void run_swap() {
  const DeviceArray<float> y(32);
  const TestStream stream;
  gpu::launch(swap_neighbours<0>, 1, 32, 0, stream.handle, y.get());
  EXPECT_EQ(cudaStreamSynchronize(stream.handle), cudaSuccess);
  EXPECT_EQ(y.values()[4], 5.0f);
}

TEST_F(EmulationTest, KernelsRunInAnyThread) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([] {
      for (int j = 0; j < 20; ++j) run_swap();
    });
  run_swap();
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(emulation::report_count(), 0);
}

TEST_F(EmulationTest, FaultsAreCaughtInAnyThread) {
  std::thread([] {
    const DeviceArray<float> y(1);
    gpu::launch(deep_stack, 1, 1, 0, nullptr, y.get(), 5);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
  }).join();
  EXPECT_EQ(emulation::report_count("stack overflow"), 1);
}

TEST_F(EmulationTest, CaptureConcernsOtherThreadsOnlyInGlobalMode) {
  const TestStream stream;
  for (const auto mode : {cudaStreamCaptureModeGlobal, cudaStreamCaptureModeThreadLocal}) {
    ASSERT_EQ(cudaStreamBeginCapture(stream.handle, mode), cudaSuccess);
    cudaError_t status = cudaSuccess, ended = cudaSuccess;
    cudaGraph_t graph = nullptr;
    std::thread([&] {
      int* pointer = nullptr;
      status = cudaMalloc(&pointer, 4);
      if (status == cudaSuccess) cudaFree(pointer);
    }).join();
    EXPECT_EQ(status, mode == cudaStreamCaptureModeGlobal ? cudaErrorStreamCaptureUnsupported : cudaSuccess);
    EXPECT_EQ(cudaStreamEndCapture(stream.handle, &graph),
              mode == cudaStreamCaptureModeGlobal ? cudaErrorStreamCaptureInvalidated : cudaSuccess);
    cudaGraphDestroy(graph);

    ASSERT_EQ(cudaStreamBeginCapture(stream.handle, mode), cudaSuccess);
    std::thread([&] { ended = cudaStreamEndCapture(stream.handle, &graph); }).join();
    EXPECT_EQ(ended, cudaErrorStreamCaptureWrongThread);
    EXPECT_EQ(cudaStreamEndCapture(stream.handle, &graph), cudaErrorStreamCaptureInvalidated);
  }
}

}  // namespace
}  // namespace riffle
