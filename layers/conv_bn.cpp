// ConvBn and ConvBnSequence.
#include "layers/conv_bn.h"

#include <utility>

#include "layers/fused_stem.h"
#include "layers/pooling.h"
#include "layers/scatter.h"

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
  const std::string name = conv_->path() + ".max_pool";
  if (relu_ && !folded() && conv_->groups() == 1 && conv_->weight().kind == ParameterKind::kDenseFilter) {
    const FusedStem stem{&conv_->weight(), conv_->window(x.shape()), &norm_, window};
    if (can_fuse(context, x, stem)) return fused_stem(context, name, x, stem);
  }
  return max_pool2d(context, name, forward(context, x), window);
}

Variable ConvBn::forward_folded(const Context& context, const Variable& x) const {
  RIFFLE_CHECK(!context.training && !context.tape, conv_->path(), ": batch norm is folded; the network only infers");
  return Variable(conv_->infer(context.backend, x.value(), folded_weight_, {folded_bias_, relu_}), false);
}

void ConvBn::infer_into(const Context& context, const Tensor& x, const std::vector<Tensor>& parts) const {
  RIFFLE_CHECK(folded() && !context.training && !context.tape, conv_->path(), ": only a folded block infers");
  int64_t begin = 0;
  for (const Tensor& part : parts) {  // some of the outputs are a convolution with some of the filters
    const int64_t count = part.channels();
    context.backend.pointwise(x, folded_weight_.sample_slice(begin, count),
                              {folded_bias_.channel_slice(begin, count), relu_}, part);
    begin += count;
  }
  RIFFLE_CHECK(begin == conv_->outputs(), conv_->path(), " makes ", conv_->outputs(), " channels, not ", begin);
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
  const ProfileRange range(context.backend, path());
  if (FusedBranch branch; as_branch(x.shape(), branch) && can_fuse(context, branch)) {
    const Tensor y = context.backend.empty(output_shape(x.shape()));
    return fused_branch(context, path(), x, branch, {y}).front();
  }
  for (auto& block : blocks_) x = block->forward(context, x);
  return x;
}

std::vector<Variable> ConvBnSequence::forward_into(const Context& context, Variable x,
                                                   const std::vector<Tensor>& parts) {
  const ProfileRange range(context.backend, path());
  if (FusedBranch branch; as_branch(x.shape(), branch) && can_fuse(context, branch))
    return fused_branch(context, path(), x, branch, parts);
  const ConvBn& last = *blocks_.back();
  const bool direct = last.folded() && last.conv().weight().kind == ParameterKind::kMatrix;
  for (auto& block : blocks_)
    if (!direct || block != blocks_.back()) x = block->forward(context, x);
  if (!direct) return scatter(context, path() + ".scatter", x, parts);
  last.infer_into(context, x.value(), parts);
  std::vector<Variable> made;
  made.reserve(parts.size());
  for (const Tensor& part : parts) made.emplace_back(part, /*requires_grad=*/false);
  return made;
}

Shape ConvBnSequence::output_shape(Shape input) const {
  for (const auto& block : blocks_) input = block->conv().output_shape(input);
  return input;
}

bool ConvBnSequence::as_branch(const Shape& input, FusedBranch& branch) {
  using Kind = ParameterKind;
  const auto is = [&](size_t i, Kind kind) {
    return blocks_[i]->conv().weight().kind == kind && !blocks_[i]->folded();
  };
  const auto pointwise = [&](size_t i) {
    return PointwiseBlock{&blocks_[i]->conv().weight(), &blocks_[i]->norm(), blocks_[i]->relu()};
  };
  const size_t depthwise = blocks_.size() == 3 ? 1 : 0;  // its position: second, or first in a projection
  if (blocks_.size() != depthwise + 2 || !is(depthwise, Kind::kDepthwiseFilter) || blocks_[depthwise]->relu() ||
      !is(depthwise + 1, Kind::kMatrix))
    return false;
  if (depthwise == 1) {
    if (!is(0, Kind::kMatrix)) return false;
    branch.first = pointwise(0);
  }
  branch.depthwise_filter = &blocks_[depthwise]->conv().weight();
  branch.depthwise_norm = &blocks_[depthwise]->norm();
  branch.window = blocks_[depthwise]->conv().window(input);
  branch.last = pointwise(depthwise + 1);
  return true;
}

}  // namespace riffle
