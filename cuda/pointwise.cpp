// Pointwise convolutions as matrix products of (pixels x channels) matrices. Bias and ReLU ride along: they would cost
// another pass over memory. Statistics do not, since cuBLASLt has nothing for them: a pass of their own.
#include "core/contracts.h"
#include "cuda/cuda_backend.h"
#include "cuda/matrix_products.h"

namespace riffle {
namespace {

void check_dtype(const Tensor& tensor, DType dtype, const char* what) {
  RIFFLE_CHECK(tensor.dtype() == dtype, what, " must be ", dtype, ", got ", tensor.dtype());
}

}  // namespace

MatrixProducts& CudaBackend::products() {
  if (!products_)
    products_ = std::make_unique<MatrixProducts>(
        cublas_lt(), stream_, [this](int64_t bytes) { return empty(vector_shape(bytes), DType::kU8); },
        LibrarySettings{options_.tf32, options_.deterministic});
  return *products_;
}

void CudaBackend::pointwise(const Tensor& x, const Tensor& w, const Epilogue& epilogue, const Tensor& y) {
  check_pointwise(x, w, y);
  check_no_overlap(y, {&x, &w, &epilogue.bias}, "pointwise");
  check_epilogue(epilogue, y.channels(), "pointwise");
  for (const Tensor* tensor : {&x, &w, &y}) check_dtype(*tensor, dtype(), "pointwise: activations and filters");
  MatrixProduct product;  // y (P,K) = x (P,C) * w (K,C)^T
  product.m = x.pixels();
  product.n = y.channels();
  product.k = x.channels();
  product.input = product.output = dtype();
  product.a = {x.raw(), x.ld(), false};
  product.b = {w.raw(), w.ld(), true};
  product.c = y.raw();
  product.ldc = y.ld();
  if (epilogue.bias.defined()) {
    check_dtype(epilogue.bias, dtype(), "pointwise: bias");
    product.bias = epilogue.bias.raw();
    product.relu = epilogue.relu;
    if (product.relu) product.relu = products().fuses_relu(product);
  }
  products().multiply(product);
  if (epilogue.relu && !product.relu) relu(y, y);
  if (epilogue.mean.defined()) batch_norm_statistics(y, epilogue.mean, epilogue.var);
}

void CudaBackend::pointwise_backward_data(const Tensor& dy, const Tensor& w, Write write, const Tensor& dx) {
  check_pointwise(dx, w, dy);
  check_no_overlap(dx, {&dy, &w}, "pointwise_backward_data");
  for (const Tensor* tensor : {&dy, &w, &dx})
    check_dtype(*tensor, dtype(), "pointwise_backward_data: gradients and filters");
  MatrixProduct product;  // dx (P,C) = dy (P,K) * w (K,C)
  product.m = dx.pixels();
  product.n = dx.channels();
  product.k = dy.channels();
  product.input = product.output = dtype();
  product.a = {dy.raw(), dy.ld(), false};
  product.b = {w.raw(), w.ld(), false};
  product.c = dx.raw();
  product.ldc = dx.ld();
  product.accumulate = write == Write::kAccumulate;
  products().multiply(product);
}

void CudaBackend::pointwise_backward_weights(const Tensor& x, const Tensor& dy, Write write, const Tensor& dw) {
  check_pointwise(x, dw, dy);
  check_no_overlap(dw, {&x, &dy}, "pointwise_backward_weights");
  for (const Tensor* tensor : {&x, &dy})
    check_dtype(*tensor, dtype(), "pointwise_backward_weights: activations and gradients");
  check_dtype(dw, parameter_dtype(), "pointwise_backward_weights: dw");
  MatrixProduct product;  // dw (K,C) = dy (P,K)^T * x (P,C)
  product.m = dw.shape().n;
  product.n = dw.channels();
  product.k = x.pixels();
  product.input = dtype();
  product.output = parameter_dtype();
  product.a = {dy.raw(), dy.ld(), true};
  product.b = {x.raw(), x.ld(), false};
  product.c = dw.raw();
  product.ldc = dw.ld();
  product.accumulate = write == Write::kAccumulate;
  products().multiply(product);
}

}  // namespace riffle
