// The nodes that stand for several layers: gradient checks, and agreement with the composition of those layers.
#include <cmath>
#include <map>

#include "layers/fused_branch.h"
#include "layers/fused_stem.h"
#include "layers/pooling.h"
#include "layers/routed_stage.h"
#include "layers/scatter.h"
#include "tests/gradcheck.h"

namespace riffle {
namespace {

using gradcheck::GradientCheck;
using gradcheck::Variables;

const Dialect kDialects[] = {Dialect::kTorchvision, Dialect::kMegvii, Dialect::kTensorpack};

// A main branch, 3 -> 4 -> 4 -> 6 channels, or a projection, 3 -> 3 -> 6.
struct Branch {
  ConvBnSequence blocks;

  Branch(Backend& backend, Dialect dialect, bool with_first, int64_t stride) {
    const int64_t middle = with_first ? 4 : 3;
    if (with_first) blocks.append(backend, make_pointwise_conv2d(backend, 3, 4), true);
    blocks.append(backend, make_depthwise_conv2d(backend, middle, stride, dialect), false)
        .append(backend, make_pointwise_conv2d(backend, middle, 6), true);
    blocks.name_tree("branch");
  }

  FusedBranch fused(const Shape& x) {
    const auto pointwise = [](ConvBn& block) {
      return PointwiseBlock{&block.conv().weight(), &block.norm(), block.relu()};
    };
    auto& all = blocks.blocks();
    ConvBn& depthwise = *all[all.size() - 2];
    FusedBranch branch;
    if (all.size() == 3) branch.first = pointwise(*all[0]);
    branch.depthwise_filter = &depthwise.conv().weight();
    branch.depthwise_norm = &depthwise.norm();
    branch.window = depthwise.conv().window(x);
    branch.last = pointwise(*all.back());
    return branch;
  }
};

// The channels of a new tensor, in parts of these sizes.
std::vector<Tensor> new_parts(Backend& backend, const Shape& shape, const std::vector<int64_t>& sizes) {
  const Tensor buffer = backend.empty(shape);
  std::vector<Tensor> parts;
  int64_t begin = 0;
  for (int64_t size : sizes) {
    parts.push_back(buffer.channel_slice(begin, size));
    begin += size;
  }
  return parts;
}

// Fused nodes are always recorded, for only training fuses.
class Recording {
 public:
  explicit Recording(const Context& context)
      : context_{context.backend, context.tape ? context.tape : &unused_, context.training, context.seed, context.batch,
                 context.scalars} {}
  const Context& context() const { return context_; }

 private:
  Tape unused_;
  Context context_;
};

template <class Body>
void for_each_branch(const Body& body) {
  for (Dialect dialect : kDialects)
    for (bool with_first : {true, false})
      for (int64_t stride : {1, 2})
        for (const Shape& x : {Shape{2, 4, 5, 3}, Shape{3, 5, 2, 3}}) {
          SCOPED_TRACE(join(name_of(dialect), with_first ? ", main" : ", projection", ", stride ", stride, ", x ", x));
          body(dialect, with_first, stride, x);
        }
}

TEST(GradientOf, FusedBranch) {
  for_each_branch([](Dialect dialect, bool with_first, int64_t stride, const Shape& x) {
    GradientCheck check;
    Branch branch(check.backend(), dialect, with_first, stride);
    check.set_tolerance(1e-6);
    check.add_input(x, /*sliced=*/stride == 1);
    check.add_parameters(branch.blocks);
    check.expect_correct([&](const Context& context, const Variables& in) {
      const Recording recording(context);
      const FusedBranch fused = branch.fused(x);
      EXPECT_TRUE(can_fuse(recording.context(), fused));
      return fused_branch(recording.context(), "branch", in[0], fused,
                          new_parts(context.backend, branch.blocks.output_shape(x), {1, 3, 2}));
    });
  });
}

// A part that nothing reads has gradient zero.
TEST(GradientOf, FusedBranchWithAnUnusedPart) {
  GradientCheck check;
  Branch branch(check.backend(), Dialect::kTorchvision, true, 1);
  const Shape x{2, 3, 4, 3};
  check.set_tolerance(1e-6);
  check.add_input(x);
  check.add_parameters(branch.blocks);
  check.expect_correct([&](const Context& context, const Variables& in) -> Variables {
    const Recording recording(context);
    const Variables all = fused_branch(recording.context(), "branch", in[0], branch.fused(x),
                                       new_parts(context.backend, branch.blocks.output_shape(x), {2, 3, 1}));
    return {all[0], all[2]};
  });
}

TEST(GradientOf, FusedStem) {
  for (Dialect dialect : kDialects)
    for (int64_t stride : {1, 2})
      for (const Shape& shape : {Shape{2, 7, 8, 3}, Shape{3, 8, 5, 1}}) {
        SCOPED_TRACE(join(name_of(dialect), ", stride ", stride, ", x ", shape));
        GradientCheck check;
        const auto conv = make_conv2d(check.backend(), shape.c, 4, 3, stride, 1, dialect);
        BatchNorm2d norm(check.backend(), 4);
        check.set_tolerance(1e-6);
        check.add_parameters(*conv);
        check.add_parameters(norm);
        const Tensor images = check.backend().empty(shape);
        for (int64_t i = 0; i < images.elements(); ++i) images.data<double>()[i] = check.random().normal();
        const Variable x(images, /*requires_grad=*/false);
        const Shape conv_shape = conv->output_shape(shape);
        const FusedStem stem{&conv->weight(), conv->window(shape), &norm,
                             dialect_window(dialect, 3, 2, conv_shape.h, conv_shape.w)};
        check.expect_correct([&](const Context& context, const Variables&) -> Variables {
          const Recording recording(context);
          EXPECT_TRUE(can_fuse(recording.context(), x, stem));
          return {fused_stem(recording.context(), "stem", x, stem)};
        });
      }
}

TEST(GradientOf, Scatter) {
  for (bool sliced : {false, true}) {
    GradientCheck check;
    const Shape shape{2, 3, 2, 7};
    check.add_input(shape, sliced);
    check.expect_correct([&](const Context& context, const Variables& in) {
      return scatter(context, "scatter", in[0], new_parts(context.backend, shape, {1, 4, 2}));
    });
  }
}

TEST(GradientOf, ScatterWithUnusedParts) {
  GradientCheck check;
  const Shape shape{2, 3, 2, 7};
  check.add_input(shape);
  check.expect_correct([&](const Context& context, const Variables& in) -> Variables {
    return {scatter(context, "scatter", in[0], new_parts(context.backend, shape, {1, 4, 2}))[1]};
  });
}

TEST(Scatter, RejectsPartsThatAreNotTheWhole) {
  const std::unique_ptr<Backend> backend = make_reference_backend();
  const Shape shape{2, 3, 2, 7};
  const Variable x(backend->empty(shape));
  EXPECT_THROW(scatter({*backend, nullptr, true, 1, 1}, "scatter", x, new_parts(*backend, shape, {1, 4})), Error);
}

struct Stage : Module {
  std::vector<std::unique_ptr<ShuffleUnit>> units;

  Stage(Backend& backend, Dialect dialect, int64_t inputs, int64_t outputs, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      units.push_back(
          std::make_unique<ShuffleUnit>(backend, i == 0 ? inputs : outputs, outputs, i == 0 ? 2 : 1, dialect));
      add_module(std::to_string(i), *units.back());
    }
    name_tree("stage");
  }
};

// In training fused; with running statistics the composition, scattered.
TEST(GradientOf, RoutedStage) {
  for (Dialect dialect : kDialects)
    for (int64_t units : {1, 2, 3})
      for (bool training : {true, false}) {
        SCOPED_TRACE(join(name_of(dialect), ", ", units, " units", training ? ", training" : ", running statistics"));
        GradientCheck check(training);
        Stage stage(check.backend(), dialect, 3, 8, units);
        const RoutedStage routed(dialect, stage.units, {2, 0, 1});
        check.set_tolerance(1e-6);
        check.sample_elements(12);
        check.add_input({3, 6, 5, 3});
        check.add_parameters(stage);
        check.expect_correct([&](const Context& context, const Variables& in) -> Variables {
          return {routed.forward(context, "stage", in[0])};
        });
      }
}

using Named = std::map<std::string, std::vector<double>>;

void draw(Backend& backend, RandomStream& random, const Tensor& to, double mean, double deviation) {
  std::vector<double> values(static_cast<size_t>(to.elements()));
  for (double& value : values) value = mean + deviation * random.normal();
  backend.upload(values.data(), DType::kF64, to);
}

// Everything that a training step of `forward` leaves: result, gradients, running statistics.
Named results_of(Backend& backend, Module& module, const Variable& x,
                 const std::function<Variable(const Context&)>& forward) {
  RandomStream random(11, RandomPurpose::kTest);
  module.for_each_parameter([&](const std::string&, Parameter& p) {
    draw(backend, random, p.value, p.name == "weight" && p.kind == ParameterKind::kVector ? 1 : 0, 0.5);
  });
  Tape tape;
  const Variable y = forward({backend, &tape, true, 1, 1});
  Named results{{"y", host(backend, y.value())}};
  const Tensor dy = backend.empty(y.shape());
  draw(backend, random, dy, 0, 1);
  y.set_grad(dy);
  tape.backward();
  if (x.requires_grad()) results["dx"] = host(backend, x.grad());
  module.for_each_parameter(
      [&](const std::string& name, Parameter& p) { results["gradient of " + name] = host(backend, p.grad); });
  module.for_each_buffer([&](const std::string& name, Buffer& buffer) { results[name] = host(backend, buffer.value); });
  return results;
}

void expect_same(const Named& got, const Named& wanted) {
  ASSERT_EQ(got.size(), wanted.size());
  for (const auto& [name, values] : wanted) {
    ASSERT_EQ(got.at(name).size(), values.size()) << name;
    for (size_t i = 0; i < values.size(); ++i)
      EXPECT_NEAR(got.at(name)[i], values[i], 1e-10 * (1 + std::abs(values[i]))) << name << ", element " << i;
  }
}

TEST(FusedBranch, AgreesWithTheComposition) {
  for_each_branch([](Dialect dialect, bool with_first, int64_t stride, const Shape& shape) {
    const std::unique_ptr<Backend> backend = make_reference_backend();
    RandomStream random(12, RandomPurpose::kTest);
    const Tensor images = backend->empty(shape);
    draw(*backend, random, images, 0, 1);
    for (bool wants_dx : {true, false}) {
      const Variable x(images, wants_dx), same_x(images, wants_dx);
      Branch fused(*backend, dialect, with_first, stride), composed(*backend, dialect, with_first, stride);
      const Named got = results_of(*backend, fused.blocks, x, [&](const Context& context) {
        const Variable y = fused.blocks.forward(context, x);
        EXPECT_EQ(context.tape->size(), 1u) << "the branch was not fused";
        return y;
      });
      const Named wanted = results_of(*backend, composed.blocks, same_x, [&](const Context& context) {
        Variable y = same_x;
        for (const auto& block : composed.blocks.blocks()) y = block->forward(context, y);
        return y;
      });
      expect_same(got, wanted);
    }
  });
}

TEST(FusedStem, AgreesWithTheComposition) {
  for (Dialect dialect : kDialects)
    for (int64_t stride : {1, 2}) {
      SCOPED_TRACE(join(name_of(dialect), ", stride ", stride));
      const std::unique_ptr<Backend> backend = make_reference_backend();
      RandomStream random(13, RandomPurpose::kTest);
      const Tensor images = backend->empty({2, 9, 8, 3});
      draw(*backend, random, images, 0, 1);
      const Variable x(images, /*requires_grad=*/false);
      const auto make = [&](ConvBnSequence& stem) {
        stem.append(*backend, make_conv2d(*backend, 3, 5, 3, stride, 1, dialect), true);
        stem.name_tree("stem");
      };
      ConvBnSequence fused, composed;
      make(fused);
      make(composed);
      const Shape conv = fused.output_shape(x.shape());
      const Window pool = dialect_window(dialect, 3, 2, conv.h, conv.w);
      const Named got = results_of(*backend, fused, x, [&](const Context& context) {
        const Variable y = fused.blocks().front()->forward_max_pool(context, x, pool);
        EXPECT_EQ(context.tape->size(), 1u) << "the stem was not fused";
        return y;
      });
      const Named wanted = results_of(*backend, composed, x, [&](const Context& context) {
        return max_pool2d(context, "pool", composed.blocks().front()->forward(context, x), pool);
      });
      expect_same(got, wanted);
    }
}

// Only training, with a tape and nothing frozen, fuses.
TEST(FusedBranch, IsForTrainingWithNothingFrozen) {
  const std::unique_ptr<Backend> backend = make_reference_backend();
  const Shape shape{2, 4, 4, 3};
  Branch branch(*backend, Dialect::kTorchvision, true, 1);
  const FusedBranch fused = branch.fused(shape);
  Tape tape;
  const Context training{*backend, &tape, true, 1, 1};
  EXPECT_TRUE(can_fuse(training, fused));
  EXPECT_FALSE(can_fuse({*backend, nullptr, true, 1, 1}, fused));
  EXPECT_FALSE(can_fuse({*backend, &tape, false, 1, 1}, fused));
  branch.blocks.for_each_parameter([&](const std::string& name, Parameter& parameter) {
    parameter.frozen = true;
    EXPECT_FALSE(can_fuse(training, fused)) << name;
    parameter.frozen = false;
  });
  for (const auto& block : branch.blocks.blocks()) {
    block->norm().freeze_statistics(true);
    EXPECT_FALSE(can_fuse(training, fused));
    block->norm().freeze_statistics(false);
  }
  EXPECT_TRUE(can_fuse(training, fused));
}

TEST(FusedStem, IsForTrainingWithNothingFrozenAndNoGradientOfItsInput) {
  const std::unique_ptr<Backend> backend = make_reference_backend();
  const auto conv = make_conv2d(*backend, 3, 4, 3, 2, 1, Dialect::kTorchvision);
  BatchNorm2d norm(*backend, 4);
  const Tensor images = backend->empty({2, 8, 8, 3});
  const Variable x(images, false);
  const FusedStem stem{&conv->weight(), conv->window(x.shape()), &norm, {3, 3, 2, Padding::all(1)}};
  Tape tape;
  const Context training{*backend, &tape, true, 1, 1};
  EXPECT_TRUE(can_fuse(training, x, stem));
  EXPECT_FALSE(can_fuse(training, Variable(images, true), stem));
  EXPECT_FALSE(can_fuse({*backend, nullptr, true, 1, 1}, x, stem));
  EXPECT_FALSE(can_fuse({*backend, &tape, false, 1, 1}, x, stem));
  for (Parameter* parameter : {&conv->weight(), &norm.weight(), &norm.bias()}) {
    parameter->frozen = true;
    EXPECT_FALSE(can_fuse(training, x, stem)) << parameter->name;
    parameter->frozen = false;
  }
  norm.freeze_statistics(true);
  EXPECT_FALSE(can_fuse(training, x, stem));
}

}  // namespace
}  // namespace riffle
