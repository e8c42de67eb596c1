// Updates over all parameters in one launch each. The list of tensors travels as a kernel argument, so nothing is
// allocated, copied or cached, and a captured launch keeps its list. Tensors are cut into pieces of one block's work:
// many are tiny, a few are large.
#include <algorithm>
#include <cmath>

#include "core/contracts.h"
#include "cuda/cuda_backend.h"
#include "cuda/device_types.h"

namespace riffle {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kPieceElements = 4096;
// A ShuffleNetV2 has 170 parameters. Up to 32764 bytes of arguments may be passed to a kernel.
constexpr int kTensorsPerLaunch = 320;

struct SgdItem {
  float *weight, *momentum;
  const float* grad;
  void* compute_value;  // null, or of dtype()
  int64_t elements;
  float lr_multiplier, weight_decay;
};

struct AverageItem {
  float* average;
  const float* value;
  int64_t elements;
};

struct KeptItem {
  float *value, *kept;
  int64_t elements;
};

struct SquaresItem {
  const float* data;
  int64_t elements;
};

template <class Item>
struct TensorTable {
  int tensors = 0;
  int first_piece[kTensorsPerLaunch + 1] = {};  // of each tensor, and the number of all pieces after them
  Item items[kTensorsPerLaunch] = {};
};
static_assert(sizeof(TensorTable<SgdItem>) <= 30000, "room for the other arguments must be left");

// Calls launch_table(table, pieces of the tables before it) until every item was in one.
template <class Item, class LaunchTable>
void for_each_table(const std::vector<Item>& items, const LaunchTable& launch_table) {
  int64_t pieces_before = 0;
  for (size_t begin = 0; begin < items.size(); begin += kTensorsPerLaunch) {
    TensorTable<Item> table;
    table.tensors = static_cast<int>(std::min<size_t>(items.size() - begin, kTensorsPerLaunch));
    for (int t = 0; t < table.tensors; ++t) {
      table.items[t] = items[begin + static_cast<size_t>(t)];
      const int64_t pieces = (table.items[t].elements + kPieceElements - 1) / kPieceElements;
      table.first_piece[t + 1] = table.first_piece[t] + static_cast<int>(pieces);
    }
    launch_table(table, pieces_before);
    pieces_before += table.first_piece[table.tensors];
  }
}

template <class Item>
dim3 grid_of(const TensorTable<Item>& table) {
  return dim3(static_cast<unsigned>(table.first_piece[table.tensors]));
}

// body(item, index) for this thread's share of the block's piece.
template <class Item, class Body>
__device__ void for_each_element(const TensorTable<Item>& table, const Body& body) {
  const int piece = static_cast<int>(blockIdx.x);
  int tensor = 0, end = table.tensors;  // the tensor that the piece is of lies in tensor .. end - 1
  while (end - tensor > 1) {
    const int middle = (tensor + end) / 2;
    if (piece < table.first_piece[middle]) {
      end = middle;
    } else {
      tensor = middle;
    }
  }
  const Item item = table.items[tensor];
  const int64_t first = (piece - table.first_piece[tensor]) * kPieceElements;
  const int64_t last = min(first + kPieceElements, item.elements);
  for (int64_t i = first + threadIdx.x; i < last; i += kThreads) body(item, i);
}

// 20 bytes an element, and 2 more for the copy in bf16 or f16.
template <class T>
__global__ void sgd_step_kernel(const __grid_constant__ TensorTable<SgdItem> table, float momentum, bool nesterov,
                                const float* scalars) {
  if (scalars[kApply] == 0) return;
  const float learning_rate = scalars[kLearningRate], grad_scale = scalars[kGradScale];
  for_each_element(table, [&](const SgdItem& item, int64_t i) {
    const float w = item.weight[i], g = item.grad[i] * grad_scale + item.weight_decay * w;
    const float v = momentum * item.momentum[i] + g;
    const float updated = w - learning_rate * item.lr_multiplier * (nesterov ? g + momentum * v : v);
    item.momentum[i] = v;
    item.weight[i] = updated;
    if (item.compute_value != nullptr) static_cast<T*>(item.compute_value)[i] = from_float<T>(updated);
  });
}

// 12 bytes an element.
__global__ void ema_update_kernel(const __grid_constant__ TensorTable<AverageItem> table, const float* scalars) {
  if (scalars[kApply] == 0) return;
  const float decay = scalars[kEmaDecay];
  for_each_element(table, [&](const AverageItem& item, int64_t i) {
    item.average[i] = decay * item.average[i] + (1 - decay) * item.value[i];
  });
}

// 8 bytes an element.
__global__ void keep_or_restore_kernel(const __grid_constant__ TensorTable<KeptItem> table, const float* scalars) {
  const bool keep = scalars[kApply] != 0;
  for_each_element(table, [&](const KeptItem& item, int64_t i) {
    if (keep) {
      item.kept[i] = item.value[i];
    } else {
      item.value[i] = item.kept[i];
    }
  });
}

// *sum = the sum of all threads' values, in an order that is always the same.
__device__ void store_block_sum(double value, double* sum) {
  __shared__ double values[kThreads];
  const int thread = static_cast<int>(threadIdx.x);
  values[thread] = value;
  for (int half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (thread < half) values[thread] += values[thread + half];
  }
  if (thread == 0) *sum = values[0];
}

// partial[b]: the sum over block b's piece. 4 bytes an element.
__global__ void squared_norm_kernel(const __grid_constant__ TensorTable<SquaresItem> table, double* partial) {
  double squares = 0;
  for_each_element(table, [&](const SquaresItem& item, int64_t i) {
    const double value = item.data[i];
    squares += value * value;
  });
  store_block_sum(squares, partial + blockIdx.x);
}

__global__ void sum_kernel(const double* partial, int64_t count, double* sum) {
  double mine = 0;
  for (int64_t i = threadIdx.x; i < count; i += kThreads) mine += partial[i];
  store_block_sum(mine, sum);
}

__global__ void scale_gradients_kernel(const double* squared_norm, double max_norm, bool skip_not_finite,
                                       float* scalars) {
  const double square = *squared_norm, loss_scale = scalars[kLossScale], norm = sqrt(square) / loss_scale;
  const double clip = max_norm > 0 && norm > max_norm ? max_norm / norm : 1.0;
  const bool finite = square < INFINITY;  // false for NaN, too
  const bool applies = !skip_not_finite || (finite && scalars[kHalted] == 0);
  scalars[kGradScale] = static_cast<float>(clip / loss_scale);
  scalars[kApply] = applies ? 1.0f : 0.0f;
  scalars[kHalted] = applies ? 0.0f : 1.0f;
}

}  // namespace

void CudaBackend::sgd_step(const std::vector<ParameterUpdate>& updates, const SgdRule& rule, const Tensor& scalars) {
  check_updates(updates);
  check_scalars(scalars, "sgd_step");
  dispatch_dtype(dtype(), [&](auto sample) {
    using T = decltype(sample);
    std::vector<SgdItem> items;
    items.reserve(updates.size());
    for (const ParameterUpdate& u : updates)
      items.push_back({u.weight.data<float>(), u.momentum.data<float>(), u.grad.data<float>(),
                       u.compute_value.defined() ? u.compute_value.data<T>() : nullptr, u.weight.elements(),
                       static_cast<float>(u.lr_multiplier), static_cast<float>(u.weight_decay)});
    for_each_table(items, [&](const TensorTable<SgdItem>& table, int64_t) {
      launch("sgd_step", sgd_step_kernel<T>, grid_of(table), dim3(kThreads), 0, table, rule.momentum, rule.nesterov,
             scalars.data<float>());
    });
  });
}

void CudaBackend::squared_norm(const std::vector<Tensor>& tensors, const Tensor& sum) {
  check_vectors({&sum}, 1, "squared_norm");
  std::vector<SquaresItem> items;
  items.reserve(tensors.size());
  int64_t pieces = 0;
  for (const Tensor& t : tensors) {
    RIFFLE_CHECK(t.packed(), "squared_norm needs packed tensors, got ", t.shape());
    items.push_back({t.data<float>(), t.elements()});
    pieces += (t.elements() + kPieceElements - 1) / kPieceElements;
  }
  const Tensor partial = empty(vector_shape(std::max<int64_t>(pieces, 1)), DType::kF64);
  for_each_table(items, [&](const TensorTable<SquaresItem>& table, int64_t pieces_before) {
    launch("squared_norm", squared_norm_kernel, grid_of(table), dim3(kThreads), 0, table,
           partial.data<double>() + pieces_before);
  });
  launch("squared_norm's sum", sum_kernel, dim3(1), dim3(kThreads), 0, partial.data<double>(), pieces,
         sum.data<double>());
}

void CudaBackend::scale_gradients(const Tensor& squared_norm, double max_norm, bool skip_not_finite,
                                  const Tensor& scalars) {
  check_vectors({&squared_norm}, 1, "scale_gradients");
  check_scalars(scalars, "scale_gradients");
  launch("scale_gradients", scale_gradients_kernel, dim3(1), dim3(1), 0, squared_norm.data<double>(), max_norm,
         skip_not_finite, scalars.data<float>());
}

void CudaBackend::ema_update(const std::vector<Tensor>& averages, const std::vector<Tensor>& values,
                             const Tensor& scalars) {
  check_averages(averages, values);
  check_scalars(scalars, "ema_update");
  std::vector<AverageItem> items;
  items.reserve(averages.size());
  for (size_t t = 0; t < averages.size(); ++t)
    items.push_back({averages[t].data<float>(), values[t].data<float>(), averages[t].elements()});
  for_each_table(items, [&](const TensorTable<AverageItem>& table, int64_t) {
    launch("ema_update", ema_update_kernel, grid_of(table), dim3(kThreads), 0, table, scalars.data<float>());
  });
}

void CudaBackend::keep_or_restore(const std::vector<Tensor>& values, const std::vector<Tensor>& kept,
                                  const Tensor& scalars) {
  check_averages(kept, values);
  check_scalars(scalars, "keep_or_restore");
  std::vector<KeptItem> items;
  items.reserve(values.size());
  for (size_t t = 0; t < values.size(); ++t)
    items.push_back({values[t].data<float>(), kept[t].data<float>(), values[t].elements()});
  for_each_table(items, [&](const TensorTable<KeptItem>& table, int64_t) {
    launch("keep_or_restore", keep_or_restore_kernel, grid_of(table), dim3(kThreads), 0, table, scalars.data<float>());
  });
}

}  // namespace riffle
