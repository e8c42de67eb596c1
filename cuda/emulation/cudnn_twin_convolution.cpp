// See cudnn_twin_convolution.h.
#include "cuda/emulation/cudnn_twin_convolution.h"

#include <vector>

namespace riffle::emulation {
namespace {

std::vector<float> widened(const StridedTensor& tensor, bool tf32) {
  std::vector<float> values(static_cast<size_t>(tensor.span()));
  for (size_t i = 0; i < values.size(); ++i) {
    const float value = load_element(tensor.data, i, tensor.type);
    values[i] = tf32 ? rounded_to_tf32(value) : value;
  }
  return values;
}

// body(offset in x, offset in w, offset in y) for every product that the convolution adds up.
template <class Body>
void for_each_product(const PlainConvolution& p, const Body& body) {
  const int64_t *y = p.y.dimensions, *w = p.w.dimensions;
  const int64_t group_outputs = y[1] / (p.x.dimensions[1] / w[1]);
  for (int64_t n = 0; n < y[0]; ++n)
    for (int64_t oh = 0; oh < y[2]; ++oh)
      for (int64_t ow = 0; ow < y[3]; ++ow)
        for (int64_t r = 0; r < w[2]; ++r)
          for (int64_t s = 0; s < w[3]; ++s) {
            const int64_t h = oh * p.stride[0] - p.before[0] + r, v = ow * p.stride[1] - p.before[1] + s;
            if (h < 0 || h >= p.x.dimensions[2] || v < 0 || v >= p.x.dimensions[3]) continue;
            for (int64_t k = 0; k < y[1]; ++k)
              for (int64_t c = 0; c < w[1]; ++c)
                body(p.x.offset(n, k / group_outputs * w[1] + c, h, v), p.w.offset(k, c, r, s),
                     p.y.offset(n, k, oh, ow));
          }
}

void store(const std::vector<double>& values, const StridedTensor& tensor) {
  const int64_t* d = tensor.dimensions;
  for (int64_t n = 0; n < d[0]; ++n)
    for (int64_t c = 0; c < d[1]; ++c)
      for (int64_t h = 0; h < d[2]; ++h)
        for (int64_t w = 0; w < d[3]; ++w) {
          const auto i = static_cast<size_t>(tensor.offset(n, c, h, w));
          store_element(static_cast<float>(values[i]), tensor.data, i, tensor.type);
        }
  note_written(tensor.data, static_cast<size_t>(tensor.span()) * bytes_of(tensor.type));
}

}  // namespace

void PlainConvolution::compute() const {
  const StridedTensor& target = unknown == Unknown::kY ? y : unknown == Unknown::kX ? x : w;
  const std::vector<float> first = widened(unknown == Unknown::kX ? y : x, tf32);
  const std::vector<float> second = widened(unknown == Unknown::kW ? y : w, tf32);
  std::vector<double> sums(static_cast<size_t>(target.span()));
  for_each_product(*this, [&](int64_t in_x, int64_t in_w, int64_t in_y) {
    switch (unknown) {
      case Unknown::kY:
        sums[in_y] += static_cast<double>(first[in_x]) * second[in_w];
        return;
      case Unknown::kX:
        sums[in_x] += static_cast<double>(first[in_y]) * second[in_w];
        return;
      case Unknown::kW:
        sums[in_w] += static_cast<double>(first[in_x]) * second[in_y];
    }
  });
  store(sums, target);
}

}  // namespace riffle::emulation
