// Updates over all parameters at once. Parameters are cut into pieces of equal work: many are tiny, a few are large.
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

void CpuBackend::sgd_step(const std::vector<ParameterUpdate>& updates, const SgdStep& step) {
  for (const ParameterUpdate& u : updates) {
    check_same_shape(u.weight, u.grad, "sgd_step");
    check_same_shape(u.weight, u.momentum, "sgd_step");
    RIFFLE_CHECK(u.weight.packed() && u.grad.packed() && u.momentum.packed(), "sgd_step needs packed tensors");
  }
  const std::vector<Piece> list = pieces(updates.size(), [&](size_t t) { return updates[t].weight.elements(); });
  parallel_(static_cast<int64_t>(list.size()), [&](int64_t i) {
    const Piece& piece = list[static_cast<size_t>(i)];
    const ParameterUpdate& u = updates[piece.tensor];
    const int64_t at = piece.range.begin;
    simd_.sgd(u.weight.data<float>() + at, u.grad.data<float>() + at, u.momentum.data<float>() + at, piece.range.size(),
              static_cast<float>(step.lr * u.lr_multiplier), static_cast<float>(step.momentum),
              static_cast<float>(u.weight_decay), static_cast<float>(step.grad_scale), step.nesterov);
  });
}

double CpuBackend::squared_norm(const std::vector<Tensor>& tensors) {
  for (const Tensor& t : tensors) RIFFLE_CHECK(t.packed(), "squared_norm needs packed tensors, got ", t.shape());
  const std::vector<Piece> list = pieces(tensors.size(), [&](size_t t) { return tensors[t].elements(); });
  std::vector<double> partial(list.size());
  parallel_(static_cast<int64_t>(list.size()), [&](int64_t i) {
    const Piece& piece = list[static_cast<size_t>(i)];
    const float* data = tensors[piece.tensor].data<float>() + piece.range.begin;
    double sum = 0;
    for (int64_t j = 0; j < piece.range.size(); ++j) sum += static_cast<double>(data[j]) * data[j];
    partial[static_cast<size_t>(i)] = sum;
  });
  double total = 0;
  for (double sum : partial) total += sum;
  return total;
}

void CpuBackend::ema_update(const std::vector<Tensor>& averages, const std::vector<Tensor>& values, double decay) {
  RIFFLE_CHECK(averages.size() == values.size(), averages.size(), " averages for ", values.size(), " values");
  for (size_t t = 0; t < averages.size(); ++t) {
    check_same_shape(averages[t], values[t], "ema_update");
    RIFFLE_CHECK(averages[t].packed() && values[t].packed(), "ema_update needs packed tensors");
  }
  const std::vector<Piece> list = pieces(averages.size(), [&](size_t t) { return averages[t].elements(); });
  parallel_(static_cast<int64_t>(list.size()), [&](int64_t i) {
    const Piece& piece = list[static_cast<size_t>(i)];
    simd_.ema(averages[piece.tensor].data<float>() + piece.range.begin,
              values[piece.tensor].data<float>() + piece.range.begin, piece.range.size(), static_cast<float>(decay));
  });
}

}  // namespace riffle
