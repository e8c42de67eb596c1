// CpuBackend: memory, movement and channel permutations.
#include "core/cpu/cpu_backend.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/contracts.h"
#include "core/kernels/channel_shuffle.h"
#include "core/normalisation_table.h"

namespace riffle {

namespace {

MatrixProducts products_of(Products products) {
  if (products == Products::kF32) return {simd_kernels(), gemm};
#if RIFFLE_HAVE_X86
  if (cpu_has_bf16()) return {{}, gemm_bf16};
#endif
  fail_usage("precision bf16 on the CPU needs AVX512-BF16, which ", cpu_model(), " lacks (or RIFFLE_ISA forbids)");
}

}  // namespace

CpuBackend::CpuBackend(int threads, bool poison, Products products)
    : parallel_(threads > 0 ? threads : default_cpu_threads()),
      poison_(poison),
      allocator_(std::make_shared<CachingAllocator>()),
      simd_(simd_kernels()),
      products_(products_of(products)) {}

std::unique_ptr<Backend> make_cpu_backend(int threads, bool poison, Products products) {
  return std::make_unique<CpuBackend>(threads, poison, products);
}

std::string CpuBackend::description() const {
  return join("CPU: ", cpu_model(), ", ", parallel_.threads(), parallel_.threads() == 1 ? " thread, " : " threads, ",
              cpu_isa(), products_.gemm == gemm ? "" : ", matrix products in bf16", ", oneDNN ", one_dnn_version());
}

Tensor CpuBackend::empty(Shape shape, DType dtype) {
  RIFFLE_CHECK(shape.n > 0 && shape.h > 0 && shape.w > 0 && shape.c > 0, "empty tensor of shape ", shape);
  int64_t bytes = static_cast<int64_t>(size_of(dtype));
  bool overflow = false;
  for (int64_t size : {shape.n, shape.h, shape.w, shape.c}) overflow |= __builtin_mul_overflow(bytes, size, &bytes);
  RIFFLE_CHECK(!overflow, "a tensor of shape ", shape, " is larger than any memory");
  Tensor tensor(allocator_->allocate(static_cast<size_t>(bytes)), device(), dtype, shape, shape.c);
  if (poison_) {
    if (dtype == DType::kF32) {
      std::fill_n(tensor.data<float>(), shape.elements(), std::numeric_limits<float>::quiet_NaN());
    } else {
      std::memset(tensor.raw(), 0xCD, static_cast<size_t>(bytes));
    }
  }
  return tensor;
}

namespace {

template <class From, class To>
void copy_rows(const From* from, int64_t from_ld, int64_t rows, int64_t channels, To* to, int64_t to_ld) {
  if (from_ld == channels && to_ld == channels) {  // one long row: those of three bytes take ten times as long
    channels *= rows;
    rows = 1;
  }
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < channels; ++c) to[r * to_ld + c] = static_cast<To>(from[r * from_ld + c]);
}

// Calls body(host pointer of the right type, device pointer of the right type) for the pairs that may be converted.
template <class Host, class Body>
void with_types(DType host_dtype, DType dtype, Host* host, const Tensor& tensor, const Body& body) {
  const auto as = [&](auto sample) {
    using T = decltype(sample);
    if constexpr (std::is_const_v<Host>) {
      return static_cast<const T*>(host);
    } else {
      return static_cast<T*>(host);
    }
  };
  if (dtype == DType::kF32 && host_dtype == DType::kF32) return body(as(float{}), tensor.data<float>());
  if (dtype == DType::kF32 && host_dtype == DType::kF64) return body(as(double{}), tensor.data<float>());
  if (dtype == DType::kF64 && host_dtype == DType::kF64) return body(as(double{}), tensor.data<double>());
  if (dtype == DType::kU8 && host_dtype == DType::kU8) return body(as(uint8_t{}), tensor.data<uint8_t>());
  if (dtype == DType::kI32 && host_dtype == DType::kI32) return body(as(int32_t{}), tensor.data<int32_t>());
  fail("the CPU backend cannot convert between ", host_dtype, " and ", dtype);
}

}  // namespace

void CpuBackend::upload(const void* host, DType host_dtype, const Tensor& y) {
  with_types(host_dtype, y.dtype(), host, y,
             [&](const auto* from, auto* to) { copy_rows(from, y.channels(), y.pixels(), y.channels(), to, y.ld()); });
}

void CpuBackend::download(const Tensor& x, DType host_dtype, void* host) {
  with_types(host_dtype, x.dtype(), host, x,
             [&](auto* to, const auto* from) { copy_rows(from, x.ld(), x.pixels(), x.channels(), to, x.channels()); });
}

void CpuBackend::fill(double value, const Tensor& y) {
  const auto fill_rows = [&](auto* data) {
    using T = std::remove_pointer_t<decltype(data)>;
    const Chunks chunks = row_chunks(y.pixels(), y.channels());
    parallel_(chunks.count(), [&](int64_t i) {
      for (int64_t r = chunks[i].begin; r < chunks[i].end; ++r)
        std::fill_n(data + r * y.ld(), y.channels(), static_cast<T>(value));
    });
  };
  switch (y.dtype()) {
    case DType::kF32:
      return fill_rows(y.data<float>());
    case DType::kU8:
      return fill_rows(y.data<uint8_t>());
    case DType::kI32:
      return fill_rows(y.data<int32_t>());
    default:
      fail("the CPU backend cannot fill ", y.dtype());
  }
}

void CpuBackend::copy(const Tensor& x, Write write, const Tensor& y) {
  check_same_shape(x, y, "copy");
  check_no_overlap(y, {&x}, "copy");
  const float* from = x.data<float>();
  float* to = y.data<float>();
  const Chunks chunks = row_chunks(x.pixels(), x.channels());
  parallel_(chunks.count(), [&](int64_t i) {
    const Range rows = chunks[i];
    if (write == Write::kAccumulate) {
      simd_.add(from + rows.begin * x.ld(), x.ld(), rows.size(), x.channels(), to + rows.begin * y.ld(), y.ld());
      return;
    }
    for (int64_t r = rows.begin; r < rows.end; ++r)
      std::memcpy(to + r * y.ld(), from + r * x.ld(), static_cast<size_t>(x.channels()) * sizeof(float));
  });
}

namespace {

// Pixels one after the other, forwards or backwards.
struct PixelRow {
  const uint8_t* first;
  int64_t step;
};

// y[x][c] = table[c][pixel], c counting from the pixel's other end if `reverse`. kChannels: 0, or what `channels` is.
template <int64_t kChannels>
void normalize_pixels(const PixelRow& row, int64_t width, int64_t channels, bool reverse, const float* table, float* y,
                      int64_t ld) {
  if (kChannels != 0) channels = kChannels;
  const uint8_t* pixel = row.first + (reverse ? channels - 1 : 0);
  const int64_t next = reverse ? -1 : 1;
  for (int64_t x = 0; x < width; ++x, pixel += row.step, y += ld)
    for (int64_t c = 0; c < channels; ++c) y[c] = table[c * 256 + pixel[c * next]];
}

}  // namespace

void CpuBackend::normalize(const Tensor& images, const Tensor& flips, const Normalisation& normalisation,
                           const Tensor& y) {
  check_normalize(images, flips, normalisation, y);
  const int64_t channels = images.channels(), height = images.shape().h, width = images.shape().w;
  const std::vector<float> table = normalisation_table(normalisation);
  const uint8_t *from = images.data<uint8_t>(), *flip = flips.defined() ? flips.data<uint8_t>() : nullptr;
  float* to = y.data<float>();
  const auto normalize_row = channels == 3 ? normalize_pixels<3> : normalize_pixels<0>;
  const Chunks chunks{images.shape().n * height, std::max<int64_t>(1, 4096 / width)};  // rows of images
  parallel_(chunks.count(), [&](int64_t i) {
    for (int64_t row = chunks[i].begin; row < chunks[i].end; ++row) {
      const bool mirrored = flip != nullptr && flip[row / height] != 0;
      const uint8_t* first = from + (row * width + (mirrored ? width - 1 : 0)) * channels;
      normalize_row({first, mirrored ? -channels : channels}, width, channels, normalisation.reverse_channels,
                    table.data(), to + row * width * y.ld(), y.ld());
    }
  });
}

void CpuBackend::channel_shuffle(const Tensor& x, int64_t groups, const Tensor& y) {
  check_same_shape(x, y, "channel_shuffle");
  check_no_overlap(y, {&x}, "channel_shuffle");
  RIFFLE_CHECK(groups > 0 && x.channels() % groups == 0, "channel_shuffle: ", x.channels(),
               " channels cannot be split into ", groups, " groups");
  const ChannelShuffle map{x.channels(), groups};
  std::vector<int64_t> source(static_cast<size_t>(x.channels()));
  for (int64_t c = 0; c < x.channels(); ++c) source[static_cast<size_t>(c)] = map.source(c);
  const float* from = x.data<float>();
  float* to = y.data<float>();
  const Chunks chunks = row_chunks(x.pixels(), x.channels());
  parallel_(chunks.count(), [&](int64_t i) {
    for (int64_t r = chunks[i].begin; r < chunks[i].end; ++r)
      for (int64_t c = 0; c < x.channels(); ++c) to[r * y.ld() + c] = from[r * x.ld() + source[static_cast<size_t>(c)]];
  });
}

void CpuBackend::interleave(const Tensor& a, const Tensor& b, const Tensor& y) {
  check_halves(a, b, y, "interleave");
  check_no_overlap(y, {&a, &b}, "interleave");
  const float *pa = a.data<float>(), *pb = b.data<float>();
  float* py = y.data<float>();
  const Chunks chunks = row_chunks(y.pixels(), y.channels());
  parallel_(chunks.count(), [&](int64_t i) {
    const Range rows = chunks[i];
    simd_.interleave(pa + rows.begin * a.ld(), a.ld(), pb + rows.begin * b.ld(), b.ld(), rows.size(), a.channels(),
                     py + rows.begin * y.ld(), y.ld());
  });
}

void CpuBackend::deinterleave(const Tensor& x, const Tensor& a, const Tensor& b) {
  check_halves(a, b, x, "deinterleave");
  check_no_overlap(x, {&a, &b}, "deinterleave");
  check_no_overlap(a, {&b}, "deinterleave");
  const float* px = x.data<float>();
  float *pa = a.data<float>(), *pb = b.data<float>();
  const Chunks chunks = row_chunks(x.pixels(), x.channels());
  parallel_(chunks.count(), [&](int64_t i) {
    const Range rows = chunks[i];
    simd_.deinterleave(px + rows.begin * x.ld(), x.ld(), rows.size(), a.channels(), pa + rows.begin * a.ld(), a.ld(),
                       pb + rows.begin * b.ld(), b.ld());
  });
}

void CpuBackend::reduce_parts(const float* partial, int64_t parts, int64_t size, Write write, float* total) {
  const Chunks chunks{size, 4096};
  parallel_(chunks.count(), [&](int64_t i) {
    const Range range = chunks[i];
    if (write == Write::kOverwrite) std::fill_n(total + range.begin, range.size(), 0.0f);
    for (int64_t part = 0; part < parts; ++part)
      simd_.add(partial + part * size + range.begin, size, 1, range.size(), total + range.begin, size);
  });
}

}  // namespace riffle
