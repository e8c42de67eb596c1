// Device work that was recorded once and can be run again without being issued anew: a CUDA graph.
#pragma once

namespace riffle {

class CapturedWork {
 public:
  virtual ~CapturedWork() = default;
  // Queues the work, on the same memory as when it was recorded: the caller keeps its inputs and outputs alive.
  virtual void replay() = 0;
};

}  // namespace riffle
