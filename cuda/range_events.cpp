// RangeEvents.
#include "cuda/range_events.h"

#include "cuda/status.h"

namespace riffle {

void RangeEvents::start() {
  running_ = true;
  depth_ = 0;
  names_.clear();
  first_error_ = cudaSuccess;
}

void RangeEvents::begin(const std::string& name, cudaStream_t stream) {
  if (!running_ || depth_++ > 0) return;
  if (pairs_.size() == names_.size()) pairs_.push_back(std::make_unique<Pair>());
  names_.push_back(name);
  pairs_[names_.size() - 1]->begin.record(stream);
}

void RangeEvents::end(cudaStream_t stream) {
  if (!running_ || depth_ == 0 || --depth_ > 0) return;  // depth 0: it began before start()
  const cudaError_t status = cudaEventRecord(pairs_[names_.size() - 1]->end.get(), stream);
  if (first_error_ == cudaSuccess) first_error_ = status;
}

std::vector<RangeTime> RangeEvents::stop() {
  running_ = false;
  check_cuda(first_error_, "cudaEventRecord at the end of a range", __FILE__, __LINE__);
  std::vector<RangeTime> times;
  times.reserve(names_.size());
  for (size_t i = 0; i < names_.size(); ++i) {
    pairs_[i]->end.wait();
    times.push_back({names_[i], double{pairs_[i]->end.milliseconds_since(pairs_[i]->begin)}});
  }
  names_.clear();
  return times;
}

}  // namespace riffle
