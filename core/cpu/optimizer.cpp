// Updates over all parameters at once. Parameters are cut into pieces of equal work: many are tiny, a few are large.
#include <algorithm>
#include <cmath>
#include <vector>

#include "core/contracts.h"
#include "core/cpu/cpu_backend.h"

namespace riffle {
namespace {

struct Piece {
  size_t tensor;
  Range range;
};

constexpr int64_t kPieceElements = 16384;

// `size_of_tensor(i)`: elements of tensor i.
template <class SizeOf>
std::vector<Piece> pieces(size_t tensors, const SizeOf& size_of_tensor) {
  std::vector<Piece> list;
  for (size_t t = 0; t < tensors; ++t) {
    const Chunks chunks{size_of_tensor(t), kPieceElements};
    for (int64_t i = 0; i < chunks.count(); ++i) list.push_back({t, chunks[i]});
  }
  return list;
}

}  // namespace

void CpuBackend::sgd_step(const std::vector<ParameterUpdate>& updates, const SgdRule& rule, const Tensor& scalars) {
  check_updates(updates);
  check_scalars(scalars, "sgd_step");
  for (const ParameterUpdate& u : updates)
    RIFFLE_CHECK(!u.compute_value.defined(), "on the CPU parameters have the activations' dtype; no copy is kept");
  const float* scalar = scalars.data<float>();
  if (scalar[kApply] == 0) return;
  const std::vector<Piece> list = pieces(updates.size(), [&](size_t t) { return updates[t].weight.elements(); });
  parallel_(static_cast<int64_t>(list.size()), [&](int64_t i) {
    const Piece& piece = list[static_cast<size_t>(i)];
    const ParameterUpdate& u = updates[piece.tensor];
    const int64_t at = piece.range.begin;
    simd_.sgd(u.weight.data<float>() + at, u.grad.data<float>() + at, u.momentum.data<float>() + at, piece.range.size(),
              scalar[kLearningRate] * static_cast<float>(u.lr_multiplier), static_cast<float>(rule.momentum),
              static_cast<float>(u.weight_decay), scalar[kGradScale], rule.nesterov);
  });
}

void CpuBackend::squared_norm(const std::vector<Tensor>& tensors, const Tensor& sum) {
  for (const Tensor& t : tensors) RIFFLE_CHECK(t.packed(), "squared_norm needs packed tensors, got ", t.shape());
  check_vectors({&sum}, 1, "squared_norm");
  const std::vector<Piece> list = pieces(tensors.size(), [&](size_t t) { return tensors[t].elements(); });
  std::vector<double> partial(list.size());
  parallel_(static_cast<int64_t>(list.size()), [&](int64_t i) {
    const Piece& piece = list[static_cast<size_t>(i)];
    const float* data = tensors[piece.tensor].data<float>() + piece.range.begin;
    double squares = 0;
    for (int64_t j = 0; j < piece.range.size(); ++j) squares += static_cast<double>(data[j]) * data[j];
    partial[static_cast<size_t>(i)] = squares;
  });
  double total = 0;
  for (double squares : partial) total += squares;
  *sum.data<double>() = total;
}

void CpuBackend::scale_gradients(const Tensor& squared_norm, double max_norm, bool skip_not_finite,
                                 const Tensor& scalars) {
  check_vectors({&squared_norm}, 1, "scale_gradients");
  check_scalars(scalars, "scale_gradients");
  float* scalar = scalars.data<float>();
  const double square = *squared_norm.data<double>();
  const double norm = std::sqrt(square) / scalar[kLossScale];
  const double clip = max_norm > 0 && norm > max_norm ? max_norm / norm : 1.0;
  scalar[kGradScale] = static_cast<float>(clip / scalar[kLossScale]);
  const bool applies = !skip_not_finite || (std::isfinite(square) && scalar[kHalted] == 0);
  scalar[kApply] = applies ? 1.0f : 0.0f;
  scalar[kHalted] = applies ? 0.0f : 1.0f;
}

void CpuBackend::ema_update(const std::vector<Tensor>& averages, const std::vector<Tensor>& values,
                            const Tensor& scalars) {
  check_averages(averages, values);
  check_scalars(scalars, "ema_update");
  const float* scalar = scalars.data<float>();
  if (scalar[kApply] == 0) return;
  const std::vector<Piece> list = pieces(averages.size(), [&](size_t t) { return averages[t].elements(); });
  parallel_(static_cast<int64_t>(list.size()), [&](int64_t i) {
    const Piece& piece = list[static_cast<size_t>(i)];
    simd_.ema(averages[piece.tensor].data<float>() + piece.range.begin,
              values[piece.tensor].data<float>() + piece.range.begin, piece.range.size(), scalar[kEmaDecay]);
  });
}

void CpuBackend::keep_or_restore(const std::vector<Tensor>& values, const std::vector<Tensor>& kept,
                                 const Tensor& scalars) {
  check_averages(kept, values);
  check_scalars(scalars, "keep_or_restore");
  const bool keep = scalars.data<float>()[kApply] != 0;
  const std::vector<Tensor>&from = keep ? values : kept, &to = keep ? kept : values;
  const std::vector<Piece> list = pieces(from.size(), [&](size_t t) { return from[t].elements(); });
  parallel_(static_cast<int64_t>(list.size()), [&](int64_t i) {
    const Piece& piece = list[static_cast<size_t>(i)];
    std::copy_n(from[piece.tensor].data<float>() + piece.range.begin, piece.range.size(),
                to[piece.tensor].data<float>() + piece.range.begin);
  });
}

}  // namespace riffle
