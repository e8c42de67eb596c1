// A CUDA graph of everything that one function queued on a stream.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <memory>

#include "core/captured_work.h"
#include "cuda/allocator.h"
#include "cuda/runtime.h"

namespace riffle {

class StepGraph final : public CapturedWork {
 public:
  // Calls work() once; what it queues on `stream` is recorded and not run. What work() asks of the allocator must be
  // cached there: run the same work twice before. Throws an Error that says why CUDA or the allocator refused, or what
  // work() threw; nothing has run then and the stream can be used as before. `stream` must outlive the graph.
  StepGraph(const Stream& stream, const std::shared_ptr<DeviceAllocator>& allocator, const std::function<void()>& work);
  ~StepGraph() override;
  StepGraph(const StepGraph&) = delete;
  StepGraph& operator=(const StepGraph&) = delete;

  void replay() override;

 private:
  const Stream& stream_;
  DeviceAllocator::CapturedMemory memory_;
  cudaGraphExec_t executable_ = nullptr;
};

}  // namespace riffle
