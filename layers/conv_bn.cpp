// ConvBn and ConvBnSequence.
#include "layers/conv_bn.h"

#include <utility>

#include "layers/pooling.h"

namespace riffle {

ConvBn::ConvBn(Backend& backend, std::unique_ptr<Convolution> conv, bool relu)
    : conv_(std::move(conv)), norm_(backend, conv_->outputs()), relu_(relu) {
  RIFFLE_CHECK(!conv_->has_bias(), "a convolution before batch norm needs no bias: the norm subtracts it again");
}

Variable ConvBn::forward(const Context& context, const Variable& x) {
  if (folded_weight_.defined()) return forward_folded(context, x);
  if (conv_->weight().kind == ParameterKind::kMatrix)
    return norm_.forward_pointwise(context, conv_->path(), x, conv_->weight(), relu_);
  const BatchStatistics statistics = norm_.batch_statistics(context);
  return norm_.forward(context, conv_->forward(context, x, statistics), relu_, statistics);
}

Variable ConvBn::forward_max_pool(const Context& context, const Variable& x, const Window& window) {
  RIFFLE_CHECK(relu_, conv_->path(), ": pooling is fused with a block that has ReLU");
  if (folded_weight_.defined())
    return max_pool2d(context, conv_->path() + ".max_pool", forward_folded(context, x), window);
  const BatchStatistics statistics = norm_.batch_statistics(context);
  return norm_.forward_max_pool(context, conv_->forward(context, x, statistics), window, statistics);
}

Variable ConvBn::forward_folded(const Context& context, const Variable& x) const {
  RIFFLE_CHECK(!context.training && !context.tape, conv_->path(), ": batch norm is folded; the network only infers");
  return Variable(conv_->infer(context.backend, x.value(), folded_weight_, {folded_bias_, relu_}), false);
}

void ConvBn::fold(Backend& backend) {
  if (folded_weight_.defined()) return;
  const BatchNorm2d::Affine affine = norm_.evaluation_affine(backend);
  const Parameter& weight = conv_->weight();
  const Shape& shape = weight.value.shape();
  std::vector<double> values(static_cast<size_t>(shape.elements()));
  backend.download(weight.value, DType::kF64, values.data());
  // The output channel is the last axis of a depthwise filter and the first of the others.
  const bool depthwise = weight.kind == ParameterKind::kDepthwiseFilter;
  const int64_t filter = shape.elements() / shape.n;
  for (int64_t i = 0; i < shape.elements(); ++i)
    values[static_cast<size_t>(i)] *= affine.scale[static_cast<size_t>(depthwise ? i % shape.c : i / filter)];
  folded_weight_ = backend.empty(shape);
  backend.upload(values.data(), DType::kF64, folded_weight_);
  folded_bias_ = backend.empty(vector_shape(conv_->outputs()));
  backend.upload(affine.shift.data(), DType::kF64, folded_bias_);
}

ConvBnSequence& ConvBnSequence::append(Backend& backend, std::unique_ptr<Convolution> conv, bool relu) {
  blocks_.push_back(std::make_unique<ConvBn>(backend, std::move(conv), relu));
  add_module(std::to_string(next_number_), blocks_.back()->conv());
  add_module(std::to_string(next_number_ + 1), blocks_.back()->norm());
  next_number_ += relu ? 3 : 2;
  return *this;
}

Variable ConvBnSequence::forward(const Context& context, Variable x) {
  for (auto& block : blocks_) x = block->forward(context, x);
  return x;
}

}  // namespace riffle
