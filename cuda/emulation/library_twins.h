// Host twins of the functions of cuBLASLt and cuDNN that Riffle calls (cuda/libraries.h), on emulated device memory.
// They hold callers to the libraries' rules (types, shapes, pitches, alignments, workspaces, lifetimes, the order of
// calls) and then compute plainly, in the order of the stream.
#pragma once

#include <string>

#include "cuda/libraries.h"

namespace riffle::emulation {

CublasLt cublas_lt_twin();
Cudnn cudnn_twin();

// What tests may choose. NVIDIA does not say what ReLU does to NaN, nor promise that an algorithm of its heuristics
// runs.
struct TwinOptions {
  bool relu_keeps_nan = true;
  bool first_choice_runs = true;  // false: cuBLASLt's first algorithm and cuDNN's engine 28 are refused when run
};
TwinOptions& twin_options();

// Why the last refused call was refused; empty if none was.
const std::string& last_complaint();
// Calls that broke a rule. A caller that gets by without the refused call would have got away with it here, but not on
// a GPU. What merely is not supported does not count: one cannot know before asking.
int misuse_count();
void clear_complaints();

}  // namespace riffle::emulation
