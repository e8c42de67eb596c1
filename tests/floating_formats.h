// The floating-point formats of tensors: rounding to them and the distance between their numbers, for tests that must
// know exactly what a backend may get wrong. Written from the formats' definitions, with no backend's conversions.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/tensor.h"

namespace riffle {

struct FloatingFormat {
  int precision;         // bits of the significand, the leading one included
  int smallest;          // exponent of the smallest subnormal number
  int largest_exponent;  // numbers are below 2 to this
};

inline FloatingFormat format_of(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return {53, -1074, 1024};
    case DType::kF32:
      return {24, -149, 128};
    case DType::kBF16:
      return {8, -133, 128};
    case DType::kF16:
      return {11, -24, 16};
    default:
      fail(dtype, " is not a floating-point format");
  }
}

// The largest relative error of one rounding: half the distance between 1 and the next number.
inline double unit_roundoff(DType dtype) {
  return std::ldexp(1.0, -format_of(dtype).precision);
}

// The distance between the numbers of a format around a finite value.
inline double spacing(DType dtype, double value) {
  const FloatingFormat format = format_of(dtype);
  int exponent = 0;  // |value| < 2 to this
  std::frexp(value, &exponent);
  if (value == 0) exponent = format.smallest;
  return std::ldexp(1.0, std::max(exponent - format.precision, format.smallest));
}

// The nearest number of a format, of two the even one; infinity beyond the largest.
inline double rounded_to(DType dtype, double value) {
  if (!std::isfinite(value) || value == 0) return value;
  const double unit = spacing(dtype, value), nearest = std::nearbyint(value / unit) * unit;
  if (std::abs(nearest) < std::ldexp(1.0, format_of(dtype).largest_exponent)) return nearest;
  return std::copysign(std::numeric_limits<double>::infinity(), value);
}

}  // namespace riffle
