// A step's scalars on a device (core/backend.h, StepScalar), for tests.
#pragma once

#include "core/backend.h"

namespace riffle {

struct HostStepScalars {
  double lr = 0, ema_decay = 0, loss_scale = 1, grad_scale = 1, apply = 1, step = 0, halted = 0;
};

inline Tensor step_scalars(Backend& backend, const HostStepScalars& s) {
  double values[kStepScalars] = {};
  values[kLearningRate] = s.lr;
  values[kEmaDecay] = s.ema_decay;
  values[kLossScale] = s.loss_scale;
  values[kGradScale] = s.grad_scale;
  values[kApply] = s.apply;
  values[kStep] = s.step;
  values[kHalted] = s.halted;
  const Tensor scalars = backend.empty_parameter(vector_shape(kStepScalars));
  backend.upload(values, DType::kF64, scalars);
  return scalars;
}

inline double squared_norm(Backend& backend, const std::vector<Tensor>& tensors) {
  const Tensor sum = backend.empty(vector_shape(1), DType::kF64);
  backend.squared_norm(tensors, sum);
  double value = 0;
  backend.download(sum, DType::kF64, &value);
  return value;
}

}  // namespace riffle
