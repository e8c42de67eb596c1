#include "cuda/emulation/canary.h"

#include <cstdio>
#include <cstdlib>

#include "cuda/emulation/control.h"
#include "cuda/gpu.h"

namespace riffle::emulation {
namespace {

__global__ void race_on_purpose(int* last) {
  *last = static_cast<int>(threadIdx.x);
}

}  // namespace

void run_canary_once() {
  static bool begun = false;
  if (begun) return;
  begun = true;
  const Options before = options();
  options().print = false;
  options().work = WorkOrder::kEager;
  int* last = nullptr;
  cudaStream_t stream = nullptr;
  cudaMalloc(&last, sizeof(int));
  cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  gpu::launch(race_on_purpose, 1, 64, 0, stream, last);
  if (report_count("race") == 0) {
    std::fprintf(stderr, "[emulation] the canary's race was not noticed: the kernels are not instrumented\n");
    std::abort();
  }
  cudaStreamDestroy(stream);
  cudaFree(last);
  clear_reports();
  options() = before;
}

}  // namespace riffle::emulation
