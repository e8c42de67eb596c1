// Between a Module's tensors and a file's: layouts and channel orders are converted here and nowhere else. Layouts,
// ours -> the outside world's:
// dense (K,R,S,C) -> (K,C,R,S), depthwise (1,R,S,C) -> (C,1,R,S), pointwise (K,1,1,C) -> (K,C,1,1), classifier
// (K,1,1,C) -> (K,C), vector (1,1,1,C) -> (C). Files hold f32 whatever the backend computes in.
#pragma once

#include <string>

#include "core/module.h"
#include "train/checkpoint/host_tensor.h"

namespace riffle {

// What precedes the name of a tensor's moving average, in a checkpoint that holds both.
inline constexpr const char* kAveragePrefix = "ema.";
// And of its momentum, in a checkpoint that training can go on from.
inline constexpr const char* kMomentumPrefix = "optimizer.momentum.";

// One tensor: a parameter, its gradient, momentum or moving average; a buffer is a kVector.
HostTensor export_tensor(Backend& backend, ParameterKind kind, const StoredOrder& order, const Tensor& tensor);
// Throws unless shape and dtype fit; `what` names the tensor.
void import_tensor(Backend& backend, ParameterKind kind, const StoredOrder& order, const HostTensor& source,
                   const Tensor& tensor, const std::string& what);

// Adds all parameters and buffers under their full names.
void export_module(Backend& backend, Module& module, TensorMap& tensors);
// Copies into the module, or throws one error that lists missing, unexpected and unfitting tensors (the first few of
// each, with counts) and leaves the module as it was. Not the module's, and ignored: names that start with "optimizer."
// or "ema.", and PyTorch's "num_batches_tracked". For the message: `path`, and `claim`, what the file says it holds
// (see describe_architecture()) or "".
void import_module(Backend& backend, Module& module, const TensorMap& tensors, const std::string& path,
                   const std::string& claim = "");

}  // namespace riffle
