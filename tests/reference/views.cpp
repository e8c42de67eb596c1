// Aliasing and window checks of the reference.
#include "tests/reference/views.h"

#include <algorithm>

namespace riffle::reference {
namespace {

int64_t floor_divide(int64_t a, int64_t b) {
  return a / b - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0);
}

bool same_view(const Tensor& a, const Tensor& b) {
  return a.raw() == b.raw() && a.ld() == b.ld() && a.shape() == b.shape();
}

}  // namespace

bool overlap(const Tensor& a, const Tensor& b) {
  if (!a.defined() || !b.defined() || !a.shares_storage(b)) return false;
  const auto size = static_cast<int64_t>(size_of(a.dtype()));
  const int64_t distance = (static_cast<const char*>(b.raw()) - static_cast<const char*>(a.raw())) / size;
  const int64_t span_a = (a.pixels() - 1) * a.ld() + a.channels(), span_b = (b.pixels() - 1) * b.ld() + b.channels();
  if (distance >= span_a || -distance >= span_b) return false;
  if (a.ld() != b.ld() || a.dtype() != b.dtype()) return true;  // no layer needs more than this
  // Equal pitches: b's rows begin `shift` channels after a's rows, modulo the pitch. Because a row of either fits into
  // one pitch, only the two nearest rows can meet.
  const int64_t shift = distance - floor_divide(distance, a.ld()) * a.ld();
  return shift < a.channels() || shift + b.channels() > a.ld();
}

void check_disjoint(const char* name, const Tensor& output, std::initializer_list<Tensor> inputs) {
  for (const Tensor& input : inputs)
    RIFFLE_CHECK(!overlap(output, input), name, " ", output.shape(), " overlaps another argument, ", input.shape());
}

void check_same_or_disjoint(const char* name, const Tensor& output, const Tensor& twin) {
  RIFFLE_CHECK(same_view(output, twin) || !overlap(output, twin), name, " ", output.shape(),
               " overlaps another argument without being it");
}

void check_window(const Window& window, const Shape& x) {
  const Padding& pad = window.padding;
  RIFFLE_CHECK(window.kernel_h > 0 && window.kernel_w > 0 && window.stride > 0, "window ", window.kernel_h, "x",
               window.kernel_w, ", stride ", window.stride);
  RIFFLE_CHECK(std::min({pad.top, pad.bottom, pad.left, pad.right}) >= 0 &&
                   std::max(pad.top, pad.bottom) < window.kernel_h && std::max(pad.left, pad.right) < window.kernel_w,
               "padding must be at least 0 and less than the kernel");
  RIFFLE_CHECK(x.h + pad.top + pad.bottom >= window.kernel_h && x.w + pad.left + pad.right >= window.kernel_w, "input ",
               x, " is smaller than its ", window.kernel_h, "x", window.kernel_w, " window");
}

}  // namespace riffle::reference
