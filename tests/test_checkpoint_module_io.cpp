// Modules to and from file tensors: every layout, on both backends, and the message when they do not fit.
#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "core/cpu/cpu_backend.h"
#include "tests/checkpoint_files.h"
#include "tests/reference/ref_backend.h"
#include "train/checkpoint/module_io.h"

namespace riffle {
namespace {

// One parameter of every kind, with no two extents alike; two levels deep.
class EveryKind : public Module {
 public:
  class Child : public Module {
   public:
    Child(Backend& backend, int64_t classes) {
      add_parameter(backend, "weight", ParameterKind::kLinear, {classes, 1, 1, 2}, true);
      add_parameter(backend, "bias", ParameterKind::kVector, vector_shape(classes), false);
      add_buffer(backend, "running_mean", 2, 0);
    }
  };

  explicit EveryKind(Backend& backend, int64_t classes = 3) : child_(backend, classes) {
    add_parameter(backend, "dense", ParameterKind::kDenseFilter, {2, 3, 4, 5}, true);
    add_parameter(backend, "depthwise", ParameterKind::kDepthwiseFilter, {1, 2, 3, 4}, true);
    add_parameter(backend, "pointwise", ParameterKind::kMatrix, {3, 1, 1, 2}, true);
    add_module("child", child_);
  }

 private:
  Child child_;
};

// Values that tell where they came from: the row-major index in the *file's* layout, plus an offset for each tensor.
TensorMap numbered_tensors() {
  const std::map<std::string, std::vector<int64_t>> shapes = {{"dense", {2, 5, 3, 4}},     {"depthwise", {4, 1, 2, 3}},
                                                              {"pointwise", {3, 2, 1, 1}}, {"child.weight", {3, 2}},
                                                              {"child.bias", {3}},         {"child.running_mean", {2}}};
  TensorMap tensors;
  float next = 1;
  for (const auto& [name, shape] : shapes) {
    int64_t count = 0;
    count_elements(shape, count);
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = next++;
    tensors[name] = f32_tensor(shape, values);
  }
  return tensors;
}

class ModuleIo : public ::testing::TestWithParam<const char*> {
 protected:
  std::vector<double> downloaded(const Tensor& tensor) {
    std::vector<float> values(static_cast<size_t>(tensor.elements()));
    backend_->download(tensor, DType::kF32, values.data());
    return {values.begin(), values.end()};
  }
  void expect_unchanged(Module& module) {
    TensorMap after;
    export_module(*backend_, module, after);
    for (const auto& [name, tensor] : numbered_tensors()) expect_same(after.at(name), tensor, name);
  }
  Tensor value_of(Module& module, const std::string& wanted) {
    Tensor result;
    module.for_each_parameter([&](const std::string& name, Parameter& parameter) {
      if (name == wanted) result = parameter.value;
    });
    return result;
  }

  std::unique_ptr<Backend> backend_ = GetParam() == std::string("cpu") ? make_cpu_backend(1) : make_reference_backend();
};

TEST_P(ModuleIo, ImportsTheDocumentedLayouts) {
  EveryKind module(*backend_);
  const TensorMap tensors = numbered_tensors();
  import_module(*backend_, module, tensors, "file");

  // Each element of ours, looked up in the file's array by the definition of its layout.
  const std::vector<float> dense_file = values_of<float>(tensors.at("dense"));
  const std::vector<double> dense = downloaded(value_of(module, "dense"));
  for (size_t k = 0, i = 0; k < 2; ++k)
    for (size_t r = 0; r < 3; ++r)
      for (size_t s = 0; s < 4; ++s)
        for (size_t c = 0; c < 5; ++c, ++i)
          EXPECT_EQ(dense[i], dense_file[((k * 5 + c) * 3 + r) * 4 + s]) << k << r << s << c;
  const std::vector<float> depthwise_file = values_of<float>(tensors.at("depthwise"));
  const std::vector<double> depthwise = downloaded(value_of(module, "depthwise"));
  for (size_t r = 0, i = 0; r < 2; ++r)
    for (size_t s = 0; s < 3; ++s)
      for (size_t c = 0; c < 4; ++c, ++i) EXPECT_EQ(depthwise[i], depthwise_file[(c * 2 + r) * 3 + s]) << r << s << c;
  for (const char* same : {"pointwise", "child.weight", "child.bias"}) {
    const std::vector<float> file = values_of<float>(tensors.at(same));
    EXPECT_EQ(downloaded(value_of(module, same)), std::vector<double>(file.begin(), file.end())) << same;
  }
}

TEST_P(ModuleIo, ExportsWhatItImported) {
  EveryKind module(*backend_);
  const TensorMap tensors = numbered_tensors();
  import_module(*backend_, module, tensors, "file");
  TensorMap exported;
  export_module(*backend_, module, exported);
  ASSERT_EQ(exported.size(), tensors.size());
  for (const auto& [name, tensor] : tensors) expect_same(exported.at(name), tensor, name);
}

TEST_P(ModuleIo, ReadsEveryFloatingPointDtype) {
  const Tensor target = backend_->empty(vector_shape(4));
  const auto import = [&](const HostTensor& source) {
    import_tensor(*backend_, ParameterKind::kVector, {}, source, target, "t");
    return downloaded(target);
  };
  const double infinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(import(host_tensor<double>(FileDType::kF64, {4}, {0.5, -2, infinity, 0})),
            (std::vector<double>{0.5, -2, infinity, 0}));
  // 1, the smallest subnormal, the largest number, minus infinity
  EXPECT_EQ(import(host_tensor<uint16_t>(FileDType::kF16, {4}, {0x3c00, 0x0001, 0x7bff, 0xfc00})),
            (std::vector<double>{1, 0x1p-24, 65504, -infinity}));
  EXPECT_EQ(import(host_tensor<uint16_t>(FileDType::kBF16, {4}, {0x3f80, 0xc040, 0x7f80, 0x0000})),
            (std::vector<double>{1, -3, infinity, 0}));
  expect_message(message_of([&] {
                   import(host_tensor<double>(FileDType::kF64, {4}, {0, 1e300, 0, 0}));
                 }),
                 {"t", "element 1", "range of f32"});
  expect_message(message_of([&] {
                   import(host_tensor<int32_t>(FileDType::kI32, {4}, {0, 1, 2, 3}));
                 }),
                 {"t", "i32", "floating point"});
}

TEST_P(ModuleIo, IgnoresWhatIsNotTheModules) {
  EveryKind module(*backend_);
  TensorMap tensors = numbered_tensors();
  for (const char* name : {"optimizer.dense", "ema.dense", "num_batches_tracked", "child.num_batches_tracked"})
    tensors[name] = host_tensor<int32_t>(FileDType::kI32, {}, {7});
  import_module(*backend_, module, tensors, "file");
  tensors["child.not_num_batches_tracked"] = f32_tensor({}, {1});
  expect_message(message_of([&] { import_module(*backend_, module, tensors, "file"); }),
                 {"unexpected: child.not_num_batches_tracked"});
}

TEST_P(ModuleIo, ListsEveryDisagreementAndChangesNothing) {
  EveryKind module(*backend_);
  import_module(*backend_, module, numbered_tensors(), "file");

  TensorMap other;
  for (const auto& [name, tensor] : numbered_tensors())
    other[name] = f32_tensor(tensor.shape, std::vector<float>(values_of<float>(tensor).size(), -1));
  other.erase("dense");
  other["child.weight"] = f32_tensor({5, 2}, std::vector<float>(10));
  other["child.bias"] = host_tensor<int32_t>(FileDType::kI32, {3}, {1, 2, 3});
  for (int i = 0; i < 7; ++i) other["extra" + std::to_string(i)] = f32_tensor({}, {1});
  const std::string claim = "ShuffleNetV2 1.0x (megvii), 1000 classes";
  const std::string message = message_of([&] { import_module(*backend_, module, other, "runs/a.safetensors", claim); });
  expect_message(message, {"runs/a.safetensors does not fit", "6 tensors", "1 missing", "7 unexpected", "2 mismatched",
                           "missing: dense", "extra0, extra1, extra2, extra3, extra4 and 2 more",
                           "child.weight (file 5x2, model 3x2)", "child.bias (file holds i32", "holds " + claim});
  EXPECT_EQ(message.find("extra5"), std::string::npos) << message;
  expect_unchanged(module);
}

TEST_P(ModuleIo, AValueThatCannotBeConvertedChangesNothing) {
  EveryKind module(*backend_);
  import_module(*backend_, module, numbered_tensors(), "file");
  TensorMap other = numbered_tensors();
  other["dense"] = f32_tensor({2, 5, 3, 4}, std::vector<float>(120, -1));
  other["child.running_mean"] = host_tensor<double>(FileDType::kF64, {2}, {0, -1e40});  // the last to be read
  expect_message(message_of([&] { import_module(*backend_, module, other, "runs/a.safetensors"); }),
                 {"runs/a.safetensors: tensor 'child.running_mean'", "element 1", "-1e+40", "range of f32"});
  expect_unchanged(module);
}

TEST_P(ModuleIo, ANumberOfClassesThatDiffersIsAMismatch) {
  EveryKind module(*backend_, 10);
  expect_message(message_of([&] { import_module(*backend_, module, numbered_tensors(), "file"); }),
                 {"0 missing, 0 unexpected, 2 mismatched", "child.weight (file 3x2, model 10x2)",
                  "child.bias (file 3, model 10)"});
}

INSTANTIATE_TEST_SUITE_P(Backends, ModuleIo, ::testing::Values("cpu", "reference"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace riffle
