// ShuffleUnit.
#include "layers/shuffle_unit.h"

#include <utility>

#include "layers/channel_shuffle.h"
#include "layers/channel_split.h"
#include "layers/concat.h"

namespace riffle {

ShuffleUnit::ShuffleUnit(Backend& backend, int64_t inputs, int64_t outputs, int64_t stride, Dialect dialect)
    : dialect_(dialect) {
  RIFFLE_CHECK(outputs % 2 == 0 && (stride == 2 || inputs == outputs), "a unit of stride ", stride, " cannot map ",
               inputs, " to ", outputs, " channels");
  const int64_t half = outputs / 2;
  const int64_t projected = dialect == Dialect::kTorchvision ? half : inputs;
  const int64_t main_outputs = stride == 2 ? outputs - projected : half;
  RIFFLE_CHECK(main_outputs > 0, "the dialect ", name_of(dialect), " keeps all ", inputs,
               " input channels in the projection, which leaves none of ", outputs, " for the main branch");
  // Published names: torchvision's and Megvii's. They differ so that a file of one is never taken for the other.
  const bool torchvision = dialect == Dialect::kTorchvision;
  if (stride == 2) {
    projection_ = std::make_unique<ConvBnSequence>();
    projection_->append(backend, make_depthwise_conv2d(backend, inputs, 2, dialect), false)
        .append(backend, make_pointwise_conv2d(backend, inputs, projected), true);
    add_module(torchvision ? "branch1" : "branch_proj", *projection_);
  }
  main_.append(backend, make_pointwise_conv2d(backend, stride == 2 ? inputs : half, half), true)
      .append(backend, make_depthwise_conv2d(backend, half, stride, dialect), false)
      .append(backend, make_pointwise_conv2d(backend, half, main_outputs), true);
  add_module(torchvision ? "branch2" : "branch_main", main_);
}

Variable ShuffleUnit::forward(const Context& context, const Variable& x) {
  if (projection_) return join(context, projection_->forward(context, x), main_.forward(context, x));
  const auto [passed, processed] = split(context, x);
  return join(context, passed, main_.forward(context, processed));
}

std::pair<Variable, Variable> ShuffleUnit::split(const Context& context, const Variable& x) const {
  // Megvii shuffles here: even channels pass, odd channels go on.
  if (dialect_ == Dialect::kMegvii) return shuffle_split(context, path() + ".shuffle_split", x);
  return channel_split(context, path() + ".split", x, x.shape().c / 2);
}

Variable ShuffleUnit::join(const Context& context, const Variable& a, const Variable& b) const {
  switch (dialect_) {
    case Dialect::kTorchvision:
      return concat_shuffle(context, path() + ".concat_shuffle", a, b);
    case Dialect::kMegvii:
      return concat(context, path() + ".concat", a, b);
    case Dialect::kTensorpack: {
      const Variable joined = concat(context, path() + ".concat", a, b);
      return channel_shuffle(context, path() + ".shuffle", joined, joined.shape().c / 2);
    }
  }
  fail("unknown dialect ", static_cast<int>(dialect_));
}

}  // namespace riffle
