// A checkpoint: named tensors in host memory, in the outside world's layouts, with metadata. Everything that reads or
// writes one, in one include.
#pragma once

#include "train/checkpoint/host_tensor.h"
#include "train/checkpoint/metadata.h"
#include "train/checkpoint/module_io.h"
#include "train/checkpoint/numpy.h"
#include "train/checkpoint/safetensors.h"
