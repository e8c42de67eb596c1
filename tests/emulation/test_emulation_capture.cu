// Stream capture: what it records, and everything that it refuses as the real one does.
#include <functional>

#include "tests/emulation/device_array.h"
#include "tests/emulation/streams.h"

namespace riffle {
namespace {

using emulation::WorkOrder;

class Capture : public EmulationTest {
 protected:
  Capture() {
    number_.zero();
    cudaDeviceSynchronize();
  }
  ~Capture() override {
    if (executable_ != nullptr) cudaGraphExecDestroy(executable_);
    cudaGraphDestroy(graph_);
  }
  void begin(cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal) {
    ASSERT_EQ(cudaStreamBeginCapture(a_.handle, mode), cudaSuccess);
  }
  cudaError_t end() {
    cudaGraphDestroy(graph_);
    return cudaStreamEndCapture(a_.handle, &graph_);
  }
  void end_and_instantiate() {
    ASSERT_EQ(end(), cudaSuccess);
    ASSERT_EQ(cudaGraphInstantiate(&executable_, graph_, 0), cudaSuccess);
  }
  // What work on stream `to` waits for from now on.
  void order(const TestStream& from, const TestStream& to) {
    EXPECT_EQ(cudaEventRecord(event_.handle, from.handle), cudaSuccess);
    EXPECT_EQ(cudaStreamWaitEvent(to.handle, event_.handle, 0), cudaSuccess);
  }
  cudaStreamCaptureStatus status(const TestStream& stream) const {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    EXPECT_EQ(cudaStreamIsCapturing(stream.handle, &status), cudaSuccess);
    return status;
  }
  int number() const { return number_.values()[0]; }

  DeviceArray<int> number_{1};
  TestStream a_, b_;
  TestEvent event_;
  cudaGraph_t graph_ = nullptr;
  cudaGraphExec_t executable_ = nullptr;
};

TEST_F(Capture, RecordsAndReplays) {
  begin();
  append(a_.handle, number_.get(), 1);
  append(a_.handle, number_.get(), 2);
  EXPECT_EQ(status(a_), cudaStreamCaptureStatusActive);
  end_and_instantiate();
  EXPECT_EQ(status(a_), cudaStreamCaptureStatusNone);
  size_t nodes = 0;
  EXPECT_EQ(cudaGraphGetNodes(graph_, nullptr, &nodes), cudaSuccess);
  EXPECT_EQ(nodes, 2u);
  EXPECT_EQ(number(), 0);  // nothing ran
  for (int i = 0; i < 2; ++i) EXPECT_EQ(cudaGraphLaunch(executable_, a_.handle), cudaSuccess);
  append(a_.handle, number_.get(), 3);
  EXPECT_EQ(cudaStreamSynchronize(a_.handle), cudaSuccess);
  EXPECT_EQ(number(), 12123);
}

TEST_F(Capture, KeepsForksInOrder) {
  for (const WorkOrder work : {WorkOrder::kEager, WorkOrder::kLate, WorkOrder::kReversed, WorkOrder::kRandom}) {
    emulation::options().work = work;
    begin();
    append(a_.handle, number_.get(), 1);
    order(a_, b_);
    EXPECT_EQ(status(b_), cudaStreamCaptureStatusActive);
    append(b_.handle, number_.get(), 2);
    order(b_, a_);
    append(a_.handle, number_.get(), 3);
    end_and_instantiate();
    EXPECT_EQ(status(b_), cudaStreamCaptureStatusNone);
    number_.zero();
    cudaDeviceSynchronize();
    EXPECT_EQ(cudaGraphLaunch(executable_, a_.handle), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(a_.handle), cudaSuccess);
    EXPECT_EQ(number(), 123);
    cudaGraphExecDestroy(executable_);
    executable_ = nullptr;
  }
}

TEST_F(Capture, ForkWithoutOrderShows) {
  begin();
  order(a_, b_);
  append(a_.handle, number_.get(), 1);
  append(b_.handle, number_.get(), 2);
  order(b_, a_);
  end_and_instantiate();
  emulation::options().work = WorkOrder::kReversed;
  cudaGraphLaunch(executable_, a_.handle);
  EXPECT_EQ(cudaStreamSynchronize(a_.handle), cudaSuccess);
  EXPECT_EQ(number(), 21);
}

TEST_F(Capture, TakesCopiesFillsAndHostFunctions) {
  int* pinned = nullptr;
  ASSERT_EQ(cudaMallocHost(&pinned, sizeof *pinned), cudaSuccess);
  begin();
  EXPECT_EQ(cudaMemsetAsync(number_.get(), 0, sizeof(int), a_.handle), cudaSuccess);
  append(a_.handle, number_.get(), 9);
  EXPECT_EQ(cudaMemcpyAsync(pinned, number_.get(), sizeof *pinned, cudaMemcpyDeviceToHost, a_.handle), cudaSuccess);
  EXPECT_EQ(cudaLaunchHostFunc(
                a_.handle, [](void* data) { ++*static_cast<int*>(data); }, pinned),
            cudaSuccess);
  end_and_instantiate();
  for (int i = 0; i < 2; ++i) {
    cudaGraphLaunch(executable_, a_.handle);
    EXPECT_EQ(cudaStreamSynchronize(a_.handle), cudaSuccess);
    EXPECT_EQ(*pinned, 10);
  }
  cudaFreeHost(pinned);
}

TEST_F(Capture, RefusesAndBecomesInvalid) {
  int host = 0;
  int* pointer = nullptr;
  cudaStreamCaptureStatus unused;
  const TestEvent recorded_before;
  cudaEventRecord(recorded_before.handle, b_.handle);
  struct Refusal {
    const char* call;
    std::function<cudaError_t()> make;
    cudaError_t status;
  };
  const Refusal refusals[] = {
      {"cudaStreamSynchronize", [&] { return cudaStreamSynchronize(a_.handle); }, cudaErrorStreamCaptureUnsupported},
      {"cudaStreamQuery", [&] { return cudaStreamQuery(a_.handle); }, cudaErrorStreamCaptureUnsupported},
      {"cudaDeviceSynchronize", [] { return cudaDeviceSynchronize(); }, cudaErrorStreamCaptureUnsupported},
      {"cudaEventSynchronize", [&] { return cudaEventSynchronize(event_.handle); }, cudaErrorCapturedEvent},
      {"cudaEventQuery", [&] { return cudaEventQuery(recorded_before.handle); }, cudaErrorStreamCaptureUnsupported},
      {"cudaMalloc", [&] { return cudaMalloc(&pointer, 4); }, cudaErrorStreamCaptureUnsupported},
      {"cudaMallocHost", [&] { return cudaMallocHost(&pointer, 4); }, cudaErrorStreamCaptureUnsupported},
      {"cudaFree", [&] { return cudaFree(number_.get()); }, cudaErrorStreamCaptureUnsupported},
      {"cudaMallocAsync", [&] { return cudaMallocAsync(&pointer, 4, a_.handle); }, cudaErrorStreamCaptureUnsupported},
      {"cudaMemcpy", [&] { return cudaMemcpy(&host, number_.get(), 4, cudaMemcpyDeviceToHost); },
       cudaErrorStreamCaptureImplicit},
      {"pageable cudaMemcpyAsync",
       [&] { return cudaMemcpyAsync(number_.get(), &host, 4, cudaMemcpyHostToDevice, a_.handle); },
       cudaErrorStreamCaptureUnsupported},
      {"launch on the legacy stream", [&] { return append(nullptr, number_.get(), 1); },
       cudaErrorStreamCaptureImplicit},
      {"event on the legacy stream", [&] { return cudaEventRecord(recorded_before.handle, nullptr); },
       cudaErrorStreamCaptureImplicit},
      {"legacy stream joins", [&] { return cudaStreamWaitEvent(nullptr, event_.handle, 0); },
       cudaErrorStreamCaptureImplicit},
      {"wait for an event from outside", [&] { return cudaStreamWaitEvent(a_.handle, recorded_before.handle, 0); },
       cudaErrorStreamCaptureIsolation},
      {"end in another stream",
       [&] {
         order(a_, b_);
         return cudaStreamEndCapture(b_.handle, &graph_);
       },
       cudaErrorStreamCaptureUnmatched},
      {"legacy stream's status", [&] { return cudaStreamIsCapturing(nullptr, &unused); },
       cudaErrorStreamCaptureImplicit},
  };
  for (const Refusal& refusal : refusals) {
    SCOPED_TRACE(refusal.call);
    begin();
    append(a_.handle, number_.get(), 1);
    ASSERT_EQ(cudaEventRecord(event_.handle, a_.handle), cudaSuccess);
    EXPECT_EQ(refusal.make(), refusal.status);
    EXPECT_EQ(status(a_), cudaStreamCaptureStatusInvalidated);
    EXPECT_EQ(append(a_.handle, number_.get(), 2), cudaErrorStreamCaptureInvalidated);
    EXPECT_EQ(end(), cudaErrorStreamCaptureInvalidated);
    EXPECT_EQ(graph_, nullptr);
    EXPECT_EQ(status(a_), cudaStreamCaptureStatusNone);
    EXPECT_EQ(status(b_), cudaStreamCaptureStatusNone);
    cudaGetLastError();
  }
  EXPECT_EQ(number(), 0);
}

TEST_F(Capture, RefusesUnjoinedForks) {
  begin();
  append(a_.handle, number_.get(), 1);
  order(a_, b_);
  append(b_.handle, number_.get(), 2);
  EXPECT_EQ(end(), cudaErrorStreamCaptureUnjoined);
  EXPECT_EQ(graph_, nullptr);
}

TEST_F(Capture, RefusesToMerge) {
  begin();
  append(a_.handle, number_.get(), 1);
  EXPECT_EQ(cudaEventRecord(event_.handle, a_.handle), cudaSuccess);
  EXPECT_EQ(cudaStreamBeginCapture(b_.handle, cudaStreamCaptureModeGlobal), cudaSuccess);
  EXPECT_EQ(cudaStreamWaitEvent(b_.handle, event_.handle, 0), cudaErrorStreamCaptureMerge);
  EXPECT_EQ(end(), cudaErrorStreamCaptureInvalidated);
  EXPECT_EQ(cudaStreamEndCapture(b_.handle, &graph_), cudaErrorStreamCaptureInvalidated);
}

TEST_F(Capture, BeginsAndEndsOnlyWhereItCan) {
  EXPECT_EQ(cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeGlobal), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(end(), cudaErrorIllegalState);
  begin();
  EXPECT_EQ(cudaStreamBeginCapture(a_.handle, cudaStreamCaptureModeGlobal), cudaErrorIllegalState);
  EXPECT_EQ(end(), cudaSuccess);
}

TEST_F(Capture, RelaxedModeAllowsUnsafeCalls) {
  int* pointer = nullptr;
  begin(cudaStreamCaptureModeRelaxed);
  EXPECT_EQ(cudaMalloc(&pointer, 4), cudaSuccess);
  EXPECT_EQ(end(), cudaSuccess);
  cudaFree(pointer);

  begin();
  auto mode = cudaStreamCaptureModeRelaxed;
  cudaThreadExchangeStreamCaptureMode(&mode);
  EXPECT_EQ(cudaMalloc(&pointer, 4), cudaSuccess);
  cudaThreadExchangeStreamCaptureMode(&mode);
  EXPECT_EQ(cudaFree(pointer), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(end(), cudaErrorStreamCaptureInvalidated);
  cudaFree(pointer);
}

TEST_F(Capture, WorkOnOtherStreamsGoesOn) {
  begin();
  append(a_.handle, number_.get(), 1);
  append(b_.handle, number_.get(), 2);
  EXPECT_EQ(cudaStreamSynchronize(b_.handle), cudaSuccess);
  EXPECT_EQ(end(), cudaSuccess);
  EXPECT_EQ(number(), 2);
}

}  // namespace
}  // namespace riffle
