// Work runs when somebody waits for it, in any order that streams and events allow: what forgets to wait goes wrong.
#include <cstring>

#include "tests/emulation/device_array.h"
#include "tests/emulation/streams.h"

namespace riffle {
namespace {

using emulation::WorkOrder;

class Order : public EmulationTest {
 protected:
  Order() {
    number_.zero();
    cudaDeviceSynchronize();
  }
  int number() const { return number_.values()[0]; }

  DeviceArray<int> number_{1};
  TestStream a_, b_;
  TestEvent event_;
};

// Appends 1 on one stream and 2 on another, with or without the event between them.
int append_on_two_streams(int* number, const TestStream& a, const TestStream& b, cudaEvent_t event) {
  append(a.handle, number, 1);
  if (event != nullptr) {
    EXPECT_EQ(cudaEventRecord(event, a.handle), cudaSuccess);
    EXPECT_EQ(cudaStreamWaitEvent(b.handle, event, 0), cudaSuccess);
  }
  append(b.handle, number, 2);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  int result = 0;
  cudaMemcpy(&result, number, sizeof result, cudaMemcpyDeviceToHost);
  return result;
}

TEST_F(Order, EventsOrderStreamsAlways) {
  for (const WorkOrder order : {WorkOrder::kEager, WorkOrder::kLate, WorkOrder::kReversed, WorkOrder::kRandom}) {
    emulation::options().work = order;
    number_.zero();
    cudaDeviceSynchronize();
    EXPECT_EQ(append_on_two_streams(number_.get(), a_, b_, event_.handle), 12);
  }
}

TEST_F(Order, ForgottenWaitShows) {
  emulation::options().work = WorkOrder::kReversed;
  EXPECT_EQ(append_on_two_streams(number_.get(), a_, b_, nullptr), 21);
  number_.zero();
  cudaDeviceSynchronize();
  emulation::options().work = WorkOrder::kLate;
  EXPECT_EQ(append_on_two_streams(number_.get(), a_, b_, nullptr), 12);
}

TEST_F(Order, RandomFindsBothOrders) {
  emulation::options().work = WorkOrder::kRandom;
  bool seen[2] = {};
  for (int i = 0; i < 32; ++i) {
    number_.zero();
    cudaDeviceSynchronize();
    seen[append_on_two_streams(number_.get(), a_, b_, nullptr) == 12] = true;
  }
  EXPECT_TRUE(seen[0] && seen[1]);
}

TEST_F(Order, SynchronisingRunsNoMoreThanItMust) {
  emulation::options().work = WorkOrder::kLate;
  append(a_.handle, number_.get(), 1);
  append(b_.handle, number_.get(), 2);
  EXPECT_EQ(emulation::pending_operations(), 2u);
  EXPECT_EQ(cudaStreamSynchronize(b_.handle), cudaSuccess);
  EXPECT_EQ(emulation::pending_operations(), 1u);
  EXPECT_EQ(number(), 2);  // through the legacy stream, for which non-blocking streams do not wait
  EXPECT_EQ(cudaStreamSynchronize(a_.handle), cudaSuccess);
  EXPECT_EQ(number(), 21);
}

TEST_F(Order, EagerRunsAtOnce) {
  emulation::options().work = WorkOrder::kEager;
  append(a_.handle, number_.get(), 1);
  EXPECT_EQ(emulation::pending_operations(), 0u);
  EXPECT_EQ(number(), 1);
}

TEST_F(Order, EventWaitsForWhatWasRecordedWhenAsked) {
  append(a_.handle, number_.get(), 1);
  cudaEventRecord(event_.handle, a_.handle);
  cudaStreamWaitEvent(b_.handle, event_.handle, 0);
  append(a_.handle, number_.get(), 2);
  cudaEventRecord(event_.handle, a_.handle);  // does not change what b waits for
  append(b_.handle, number_.get(), 3);
  EXPECT_EQ(cudaStreamSynchronize(b_.handle), cudaSuccess);
  EXPECT_EQ(number(), 13);
}

TEST_F(Order, LegacyStreamWaitsForBlockingStreamsAndTheyForIt) {
  const TestStream blocking(cudaStreamDefault), other(cudaStreamDefault);
  append(blocking.handle, number_.get(), 1);
  append(nullptr, number_.get(), 2);
  append(other.handle, number_.get(), 3);
  EXPECT_EQ(cudaStreamSynchronize(other.handle), cudaSuccess);
  EXPECT_EQ(number(), 123);
}

TEST_F(Order, QueriesMakeProgress) {
  append(a_.handle, number_.get(), 1);
  cudaEventRecord(event_.handle, a_.handle);
  EXPECT_EQ(cudaEventQuery(event_.handle), cudaErrorNotReady);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  int polls = 1;
  while (cudaEventQuery(event_.handle) == cudaErrorNotReady) ASSERT_LT(++polls, 10);
  EXPECT_EQ(cudaStreamQuery(a_.handle), cudaSuccess);
  EXPECT_EQ(number(), 1);
}

TEST_F(Order, ElapsedTimeNeedsFinishedTimedEvents) {
  const TestEvent begin(cudaEventDefault), end(cudaEventDefault);
  float ms = -1;
  EXPECT_EQ(cudaEventElapsedTime(&ms, begin.handle, end.handle), cudaErrorInvalidResourceHandle);
  cudaEventRecord(begin.handle, a_.handle);
  append(a_.handle, number_.get(), 1);
  cudaEventRecord(end.handle, a_.handle);
  EXPECT_EQ(cudaEventElapsedTime(&ms, begin.handle, end.handle), cudaErrorNotReady);
  EXPECT_EQ(cudaEventSynchronize(end.handle), cudaSuccess);
  EXPECT_EQ(cudaEventElapsedTime(&ms, begin.handle, end.handle), cudaSuccess);
  EXPECT_GT(ms, 0);
}

TEST_F(Order, PinnedMemoryIsReadWhenTheCopyRuns) {
  int* pinned = nullptr;
  ASSERT_EQ(cudaMallocHost(&pinned, sizeof *pinned), cudaSuccess);
  *pinned = 5;
  cudaMemcpyAsync(number_.get(), pinned, sizeof *pinned, cudaMemcpyHostToDevice, a_.handle);
  *pinned = 6;  // too early
  cudaStreamSynchronize(a_.handle);
  EXPECT_EQ(number(), 6);
  cudaFreeHost(pinned);
}

TEST_F(Order, PageableMemoryIsReadAtOnce) {
  int pageable = 5;
  cudaMemcpyAsync(number_.get(), &pageable, sizeof pageable, cudaMemcpyHostToDevice, a_.handle);
  pageable = 6;
  cudaStreamSynchronize(a_.handle);
  EXPECT_EQ(number(), 5);
}

TEST_F(Order, CopiesToTheHostArriveAtOnceInPageableMemoryOnly) {
  int pageable = -1, *pinned = nullptr;
  ASSERT_EQ(cudaMallocHost(&pinned, sizeof *pinned), cudaSuccess);
  append(a_.handle, number_.get(), 7);
  *pinned = -1;
  cudaMemcpyAsync(pinned, number_.get(), sizeof *pinned, cudaMemcpyDeviceToHost, a_.handle);
  EXPECT_EQ(*pinned, -1);
  cudaMemcpyAsync(&pageable, number_.get(), sizeof pageable, cudaMemcpyDeviceToHost, a_.handle);
  EXPECT_EQ(pageable, 7);
  EXPECT_EQ(*pinned, 7);
  cudaFreeHost(pinned);
}

struct HostCall {
  const int* pinned;
  int seen = 0;
  cudaError_t status = cudaSuccess;
};

void look(void* data) {
  auto* call = static_cast<HostCall*>(data);
  call->seen = *call->pinned;
  call->status = cudaDeviceSynchronize();
}

TEST_F(Order, HostFunctionsRunInOrderAndMayNotCallCuda) {
  int* pinned = nullptr;
  ASSERT_EQ(cudaMallocHost(&pinned, sizeof *pinned), cudaSuccess);
  HostCall call{pinned};
  append(a_.handle, number_.get(), 4);
  cudaMemcpyAsync(pinned, number_.get(), sizeof *pinned, cudaMemcpyDeviceToHost, a_.handle);
  EXPECT_EQ(cudaLaunchHostFunc(a_.handle, look, &call), cudaSuccess);
  EXPECT_EQ(call.seen, 0);
  EXPECT_EQ(cudaStreamSynchronize(a_.handle), cudaSuccess);
  EXPECT_EQ(call.seen, 4);
  EXPECT_EQ(call.status, cudaErrorNotPermitted);
  cudaGetLastError();
  cudaFreeHost(pinned);
}

TEST_F(Order, DestroyedStreamsFinishTheirWork) {
  cudaStream_t stream = nullptr;
  ASSERT_EQ(cudaStreamCreate(&stream), cudaSuccess);
  append(stream, number_.get(), 8);
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_EQ(number(), 8);
}

TEST_F(Order, FaultsAreToldBySynchronisation) {
  int host = 0;
  EXPECT_EQ(gpu::launch(append_digit, 1, 1, 0, a_.handle, &host, 1, number_.get()), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(a_.handle), cudaErrorLaunchFailure);
  EXPECT_EQ(cudaGetLastError(), cudaErrorLaunchFailure);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

}  // namespace
}  // namespace riffle
