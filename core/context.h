// Context: everything a forward pass depends on besides its inputs. Passed to every `forward`; there is no hidden
// state.
#pragma once

#include <cstdint>

#include "core/backend.h"
#include "core/tape.h"

namespace riffle {

struct Context {
  Backend& backend;
  Tape* tape = nullptr;   // null: inference, nothing is recorded
  bool training = false;  // batch statistics and dropout
  uint64_t seed = 0;      // of the run
  uint64_t batch = 0;     // within the step, where it accumulates gradients of several
  Tensor scalars = {};    // of the step, see StepScalar; undefined outside of training

  // Whether an operation without parameters has anything to record; core/module.h has the same for those with some.
  bool records(const Variable& x) const { return tape != nullptr && x.requires_grad(); }
};

// Brackets a scope's work in profiles of the device (Backend::begin_range).
class ProfileRange {
 public:
  ProfileRange(Backend& backend, const std::string& name) : backend_(backend) { backend.begin_range(name); }
  ~ProfileRange() { backend_.end_range(); }
  ProfileRange(const ProfileRange&) = delete;
  ProfileRange& operator=(const ProfileRange&) = delete;

 private:
  Backend& backend_;
};

}  // namespace riffle
