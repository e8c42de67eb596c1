// The order in which a parameter's channels are stored. A network that routes channels instead of shuffling them
// (layers/routed_stage.h) stores some of them in another order than their published one; who reads or writes values from
// outside (checkpoints, initialisation) converts.
#pragma once

#include <cstdint>
#include <vector>

#include "core/tensor.h"

namespace riffle {

// Stored channel i is channel order[i]; empty: i.
using Permutation = std::vector<int64_t>;

// Of the first and the last axis of a tensor (N,H,W,C): a pointwise filter's outputs and inputs; of vectors and depthwise
// filters only `c` is used.
struct StoredOrder {
  Permutation n, c;
};

// Values of a packed tensor of `shape`, as stored, in the published order; and back.
template <class T>
std::vector<T> to_published_order(const std::vector<T>& stored, const Shape& shape, const StoredOrder& order);
template <class T>
std::vector<T> to_stored_order(const std::vector<T>& published, const Shape& shape, const StoredOrder& order);

namespace detail {

// visit(index as stored, index as published) of every element.
template <class Visit>
void for_each_element(const Shape& shape, const StoredOrder& order, const Visit& visit) {
  const auto fits = [](const Permutation& p, int64_t size) {
    return p.empty() || static_cast<int64_t>(p.size()) == size;
  };
  RIFFLE_CHECK(fits(order.n, shape.n) && fits(order.c, shape.c), "an order of ", order.n.size(), " and ",
               order.c.size(), " channels for ", shape);
  const auto at = [](const Permutation& p, int64_t i) { return p.empty() ? i : p[static_cast<size_t>(i)]; };
  const int64_t middle = shape.h * shape.w;
  size_t stored = 0;
  for (int64_t n = 0; n < shape.n; ++n)
    for (int64_t m = 0; m < middle; ++m)
      for (int64_t c = 0; c < shape.c; ++c)
        visit(stored++, static_cast<size_t>((at(order.n, n) * middle + m) * shape.c + at(order.c, c)));
}

}  // namespace detail

template <class T>
std::vector<T> to_published_order(const std::vector<T>& stored, const Shape& shape, const StoredOrder& order) {
  if (order.n.empty() && order.c.empty()) return stored;
  std::vector<T> published(stored.size());
  detail::for_each_element(shape, order, [&](size_t s, size_t p) { published[p] = stored[s]; });
  return published;
}

template <class T>
std::vector<T> to_stored_order(const std::vector<T>& published, const Shape& shape, const StoredOrder& order) {
  if (order.n.empty() && order.c.empty()) return published;
  std::vector<T> stored(published.size());
  detail::for_each_element(shape, order, [&](size_t s, size_t p) { stored[s] = published[p]; });
  return stored;
}

}  // namespace riffle
