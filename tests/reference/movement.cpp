// The reference: allocation, movement of data, and channel permutations.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <new>

#include "tests/reference/declarations.h"
#include "tests/reference/ref_backend.h"
#include "tests/reference/views.h"

namespace riffle {

std::unique_ptr<Backend> make_reference_backend() {
  return std::make_unique<reference::RefBackend>();
}

namespace reference {
namespace {

constexpr std::align_val_t kAlignment{64};

// Garbage that shows: NaN where the dtype has one, 0xCD bytes elsewhere.
void poison(void* data, int64_t elements, DType dtype) {
  if (dtype == DType::kF64) {
    std::fill_n(static_cast<double*>(data), elements, std::numeric_limits<double>::quiet_NaN());
  } else if (dtype == DType::kF32) {
    std::fill_n(static_cast<float*>(data), elements, std::numeric_limits<float>::quiet_NaN());
  } else {
    std::memset(data, 0xCD, static_cast<size_t>(elements) * size_of(dtype));
  }
}

// Calls visit(pixel, channel, packed index) for every element.
template <class Visit>
void for_each_element(const Shape& shape, const Visit& visit) {
  for (int64_t p = 0; p < shape.pixels(); ++p)
    for (int64_t c = 0; c < shape.c; ++c) visit(p, c, p * shape.c + c);
}

template <class Host, class Value>
void upload_as(const void* host, const Tensor& y) {
  const View<Value> to("y", y);
  const auto* from = static_cast<const Host*>(host);
  for_each_element(y.shape(), [&](int64_t p, int64_t c, int64_t i) { to(p, c) = static_cast<Value>(from[i]); });
}

template <class Host, class Value>
void download_as(const Tensor& x, void* host) {
  const View<Value> from("x", x);
  auto* to = static_cast<Host*>(host);
  for_each_element(x.shape(), [&](int64_t p, int64_t c, int64_t i) { to[i] = static_cast<Host>(from(p, c)); });
}

template <class T>
void copy_as(const Tensor& x, const Tensor& y) {
  const View<T> from("x", x), to("y", y, x.shape());
  for_each_element(x.shape(), [&](int64_t p, int64_t c, int64_t) { to(p, c) = from(p, c); });
}

}  // namespace

Tensor RefBackend::empty(Shape shape, DType dtype) {
  RIFFLE_CHECK(std::min({shape.n, shape.h, shape.w, shape.c}) > 0, "cannot allocate ", shape);
  const auto bytes = static_cast<size_t>(shape.elements()) * size_of(dtype);
  const auto size = static_cast<int64_t>(bytes);
  auto memory = memory_;
  std::shared_ptr<void> storage(::operator new(bytes, kAlignment), [memory, size](void* data) {
    memory->bytes_in_use -= size;
    memory->bytes_held -= size;
    ::operator delete(data, kAlignment);
  });
  memory->bytes_in_use += size;
  memory->bytes_held += size;
  memory->peak_bytes = std::max(memory->peak_bytes, memory->bytes_in_use);
  ++memory->system_allocations;
  poison(storage.get(), shape.elements(), dtype);
  return Tensor(std::move(storage), device(), dtype, shape, shape.c);
}

void RefBackend::upload(const void* host, DType host_dtype, const Tensor& y) {
  const DType dtype = y.dtype();
  if (host_dtype == DType::kF64 && dtype == DType::kF64) return upload_as<double, double>(host, y);
  if (host_dtype == DType::kF32 && dtype == DType::kF64) return upload_as<float, double>(host, y);
  if (host_dtype == DType::kF64 && dtype == DType::kF32) return upload_as<double, float>(host, y);
  if (host_dtype == DType::kF32 && dtype == DType::kF32) return upload_as<float, float>(host, y);
  if (host_dtype == DType::kU8 && dtype == DType::kU8) return upload_as<uint8_t, uint8_t>(host, y);
  if (host_dtype == DType::kI32 && dtype == DType::kI32) return upload_as<int32_t, int32_t>(host, y);
  fail("cannot upload ", host_dtype, " into a tensor of ", dtype);
}

void RefBackend::download(const Tensor& x, DType host_dtype, void* host) {
  const DType dtype = x.dtype();
  if (dtype == DType::kF64 && host_dtype == DType::kF64) return download_as<double, double>(x, host);
  if (dtype == DType::kF64 && host_dtype == DType::kF32) return download_as<float, double>(x, host);
  if (dtype == DType::kF32 && host_dtype == DType::kF64) return download_as<double, float>(x, host);
  if (dtype == DType::kF32 && host_dtype == DType::kF32) return download_as<float, float>(x, host);
  if (dtype == DType::kU8 && host_dtype == DType::kU8) return download_as<uint8_t, uint8_t>(x, host);
  if (dtype == DType::kI32 && host_dtype == DType::kI32) return download_as<int32_t, int32_t>(x, host);
  fail("cannot download a tensor of ", dtype, " as ", host_dtype);
}

void RefBackend::fill(double value, const Tensor& y) {
  const Elements to("y", y);
  for_each_element(y.shape(), [&](int64_t p, int64_t c, int64_t) { to(p, c) = value; });
}

void RefBackend::copy(const Tensor& x, Write write, const Tensor& y) {
  check_disjoint("y", y, {x});
  if (write == Write::kOverwrite && x.dtype() == DType::kU8) return copy_as<uint8_t>(x, y);
  if (write == Write::kOverwrite && x.dtype() == DType::kI32) return copy_as<int32_t>(x, y);
  const Elements from("x", x), to("y", y, x.shape());
  for_each_element(x.shape(), [&](int64_t p, int64_t c, int64_t) { store(to(p, c), from(p, c), write); });
}

void RefBackend::normalize(const Tensor& images, const Tensor& flips, const Normalisation& normalisation,
                           const Tensor& y) {
  const auto bytes = packed_view<uint8_t>("images", images, images.shape());
  const Elements to("y", y, images.shape());
  const auto channels = static_cast<size_t>(images.channels());
  RIFFLE_CHECK(normalisation.mean.size() == channels && normalisation.std.size() == channels, channels,
               " channels, but ", normalisation.mean.size(), " means and ", normalisation.std.size(), " deviations");
  const Shape shape = images.shape();
  std::vector<bool> mirrored(static_cast<size_t>(shape.n), false);
  if (flips.defined()) {
    const auto flip = packed_view<uint8_t>("flips", flips, {shape.n, 1, 1, 1});
    for (int64_t n = 0; n < shape.n; ++n) mirrored[static_cast<size_t>(n)] = flip[n] != 0;
  }
  for_each_element(shape, [&](int64_t p, int64_t c, int64_t) {
    const int64_t column = p % shape.w, opposite = shape.w - 1 - column;
    const bool flip = mirrored[static_cast<size_t>(p / (shape.h * shape.w))];
    const int64_t source = normalisation.reverse_channels ? shape.c - 1 - c : c;
    const auto i = static_cast<size_t>(c);
    const uint8_t value = bytes(flip ? p - column + opposite : p, source);
    to(p, c) = (value * normalisation.scale - normalisation.mean[i]) / normalisation.std[i];
  });
}

void RefBackend::normalize_mixed(const Tensor& images, const Normalisation& normalisation, const ImageMix& mix,
                                 const Tensor& y) {
  const Shape shape = images.shape();
  RIFFLE_CHECK(0 <= mix.top && mix.top <= mix.bottom && mix.bottom <= shape.h && 0 <= mix.left &&
                   mix.left <= mix.right && mix.right <= shape.w && mix.inside >= 0 && mix.inside <= 1,
               "a mix that does not fit ", shape);
  const Tensor whole = empty(shape, DType::kF64);
  normalize(images, Tensor{}, normalisation, whole);
  const Elements own("images", whole), to("y", y, shape);
  const int64_t image = shape.h * shape.w;
  for_each_element(shape, [&](int64_t p, int64_t c, int64_t) {
    const int64_t row = p % image / shape.w, column = p % shape.w;
    const bool inside = row >= mix.top && row < mix.bottom && column >= mix.left && column < mix.right;
    const int64_t partner = (p + (shape.n - 1) * image) % (shape.n * image);
    to(p, c) = inside ? mix.inside * own(p, c) + (1 - mix.inside) * own(partner, c) : own(p, c);
  });
}

void RefBackend::channel_shuffle(const Tensor& x, int64_t groups, const Tensor& y) {
  check_disjoint("y", y, {x});
  const Elements from("x", x), to("y", y, x.shape());
  RIFFLE_CHECK(groups > 0 && x.channels() % groups == 0, x.channels(), " channels in ", groups, " groups");
  const int64_t per_group = x.channels() / groups;
  for (int64_t p = 0; p < x.pixels(); ++p)
    for (int64_t i = 0; i < groups; ++i)
      for (int64_t j = 0; j < per_group; ++j) to(p, j * groups + i) = from(p, i * per_group + j);
}

void RefBackend::interleave(const Tensor& a, const Tensor& b, const Tensor& y) {
  check_disjoint("y", y, {a, b});
  const Elements even("a", a), odd("b", b, a.shape());
  const Elements to("y", y, a.shape().with_channels(2 * a.channels()));
  for (int64_t p = 0; p < a.pixels(); ++p)
    for (int64_t i = 0; i < a.channels(); ++i) {
      to(p, 2 * i) = even(p, i);
      to(p, 2 * i + 1) = odd(p, i);
    }
}

void RefBackend::deinterleave(const Tensor& x, const Tensor& a, const Tensor& b) {
  check_disjoint("a", a, {x, b});
  check_disjoint("b", b, {x});
  const Elements even("a", a), odd("b", b, a.shape());
  const Elements from("x", x, a.shape().with_channels(2 * a.channels()));
  for (int64_t p = 0; p < a.pixels(); ++p)
    for (int64_t i = 0; i < a.channels(); ++i) {
      even(p, i) = from(p, 2 * i);
      odd(p, i) = from(p, 2 * i + 1);
    }
}

}  // namespace reference
}  // namespace riffle
