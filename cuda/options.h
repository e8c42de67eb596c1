// What a CUDA backend is made with. No CUDA header: the command line includes this.
#pragma once

#include "core/tensor.h"

namespace riffle {

struct CudaOptions {
  int device = 0;              // as CUDA counts the GPUs that CUDA_VISIBLE_DEVICES leaves
  DType dtype = DType::kF32;   // of activations: f32, bf16 or f16
  bool tf32 = false;           // f32 convolutions and matrix products may round their inputs to TF32 (10-bit mantissas)
  bool deterministic = false;  // the same bits in every run; libraries may then be slower
  bool cudnn_depthwise = false;  // depthwise convolutions by cuDNN instead of kernels of ours, to compare them
  bool poison = false;           // new memory is filled with NaN, so that a read of what nobody wrote shows; for tests
};

}  // namespace riffle
