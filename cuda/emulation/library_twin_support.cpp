// See library_twin_support.h.
#include "cuda/emulation/library_twin_support.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "cuda/emulation/device_memory.h"
#include "cuda/emulation/library_twins.h"
#include "cuda/emulation/shadow.h"

namespace riffle::emulation {
namespace {

std::string& complaint() {
  static std::string text;
  return text;
}

int& misuses() {
  static int count = 0;
  return count;
}

struct Work {
  std::function<void()> run;
  bool is_of_graph = false;
};

void run_work(void* data) {
  auto* work = static_cast<Work*>(data);
  work->run();
  if (!work->is_of_graph) delete work;
}

}  // namespace

TwinOptions& twin_options() {
  static TwinOptions options;
  return options;
}

const std::string& last_complaint() {
  return complaint();
}
int misuse_count() {
  return misuses();
}
void clear_complaints() {
  complaint().clear();
  misuses() = 0;
}
void complain(const std::string& reason, bool is_misuse) {
  complaint() = reason;
  misuses() += is_misuse;
}

size_t bytes_of(Element type) {
  return type == Element::kF32 ? 4 : 2;
}

float load_element(const void* data, size_t index, Element type) {
  switch (type) {
    case Element::kBF16:
      return __bfloat162float(static_cast<const __nv_bfloat16*>(data)[index]);
    case Element::kF16:
      return __half2float(static_cast<const __half*>(data)[index]);
    default:
      return static_cast<const float*>(data)[index];
  }
}

void store_element(float value, void* data, size_t index, Element type) {
  switch (type) {
    case Element::kBF16:
      static_cast<__nv_bfloat16*>(data)[index] = __float2bfloat16_rn(value);
      return;
    case Element::kF16:
      static_cast<__half*>(data)[index] = __float2half_rn(value);
      return;
    default:
      static_cast<float*>(data)[index] = value;
  }
}

float rounded_to_tf32(float x) {
  if (x != x) return x;
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  bits = (bits + 0x0fffu + ((bits >> 13) & 1u)) & ~0x1fffu;
  std::memcpy(&x, &bits, sizeof bits);
  return x;
}

bool in_device_memory(const void* data, size_t bytes) {
  const int device = data ? device_of(data) : -1;
  if (device < 0) return false;
  const char* begin = nullptr;
  const Allocation* allocation = memory_of(device).find(data, &begin);
  return allocation != nullptr && static_cast<const char*>(data) + bytes <= begin + allocation->bytes;
}

void note_written(void* data, size_t bytes) {
  if (kCheckBuild) mark_written(data, bytes);
}

void spoil(void* workspace, size_t bytes) {
  std::memset(workspace, 0xa5, bytes);
  note_written(workspace, bytes);
}

cudaError_t queue_work(cudaStream_t stream, std::function<void()> run) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  const cudaError_t queried = cudaStreamIsCapturing(stream, &status);
  if (queried != cudaSuccess) return queried;
  auto work = std::make_unique<Work>(Work{std::move(run), status != cudaStreamCaptureStatusNone});
  const cudaError_t queued = cudaLaunchHostFunc(stream, run_work, work.get());
  if (queued != cudaSuccess) return queued;
  if (!work->is_of_graph) {
    work.release();  // run_work deletes it
  } else {
    static std::vector<std::unique_ptr<Work>> of_graphs;  // a graph may be launched until the program ends
    of_graphs.push_back(std::move(work));
  }
  return cudaSuccess;
}

}  // namespace riffle::emulation
