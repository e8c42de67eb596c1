// Module <-> file tensors. In every layout of ours the channel is the last axis, outside it precedes the two spatial
// ones: each filter is one (R*S) x C matrix, and converting is transposing it.
#include "train/checkpoint/module_io.h"

#include <cstring>
#include <functional>
#include <set>

namespace riffle {
namespace {

std::vector<int64_t> outside_shape(ParameterKind kind, const Shape& shape) {
  switch (kind) {
    case ParameterKind::kDenseFilter:
    case ParameterKind::kMatrix:
      return {shape.n, shape.c, shape.h, shape.w};
    case ParameterKind::kDepthwiseFilter:
      return {shape.c, 1, shape.h, shape.w};
    case ParameterKind::kLinear:
      return {shape.n, shape.c};
    case ParameterKind::kVector:
      return {shape.c};
  }
  fail("unknown parameter kind ", static_cast<int>(kind));
}

// source (count, rows, columns) -> (count, columns, rows)
std::vector<float> transpose(const std::vector<float>& source, int64_t count, int64_t rows, int64_t columns) {
  std::vector<float> result(source.size());
  size_t target = 0;
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t column = 0; column < columns; ++column) {
      for (int64_t row = 0; row < rows; ++row)
        result[target++] = source[static_cast<size_t>((i * rows + row) * columns + column)];
    }
  }
  return result;
}

std::vector<float> to_our_layout(const HostTensor& source, const Shape& shape, const std::string& what) {
  return transpose(to_f32(source, what), shape.n, shape.c, shape.h * shape.w);
}

// "" if `source` can become the tensor.
std::string misfit(ParameterKind kind, const Shape& shape, const HostTensor& source) {
  const std::vector<int64_t> expected = outside_shape(kind, shape);
  if (source.shape != expected) return join("file ", shape_text(source.shape), ", model ", shape_text(expected));
  if (!converts_to_f32(source.dtype)) return join("file holds ", source.dtype, ", expected floating point");
  return "";
}

bool starts_with(const std::string& text, const std::string& prefix) {
  return text.compare(0, prefix.size(), prefix) == 0;
}

bool is_ignored(const std::string& name) {
  static const std::string kCounter = "num_batches_tracked";
  if (starts_with(name, "optimizer.") || starts_with(name, kAveragePrefix)) return true;
  if (name.size() < kCounter.size()) return false;
  const size_t begin = name.size() - kCounter.size();
  return name.substr(begin) == kCounter && (begin == 0 || name[begin - 1] == '.');
}

// Visits parameters and buffers alike.
void for_each_tensor(
    Module& module,
    const std::function<void(const std::string&, ParameterKind, const StoredOrder&, const Tensor&)>& visit) {
  module.for_each_parameter([&](const std::string& name, Parameter& parameter) {
    visit(name, parameter.kind, parameter.order, parameter.value);
  });
  module.for_each_buffer([&](const std::string& name, Buffer& buffer) {
    visit(name, ParameterKind::kVector, buffer.order, buffer.value);
  });
}

// One kind of disagreement: how many, and the first few.
class Findings {
 public:
  explicit Findings(const char* title) : title_(title) {}

  void add(const std::string& finding) {
    if (++count_ <= kShown) text_ += (text_.empty() ? "" : ", ") + finding;
  }
  bool empty() const { return count_ == 0; }
  std::string summary() const { return join(count_, " ", title_); }
  std::string lines() const {
    if (empty()) return "";
    return join("\n  ", title_, ": ", text_, count_ > kShown ? join(" and ", count_ - kShown, " more") : "");
  }

 private:
  static constexpr int kShown = 5;
  const char* title_;
  int count_ = 0;
  std::string text_;
};

void check_fits(Module& module, const TensorMap& tensors, const std::string& path, const std::string& claim) {
  Findings missing("missing"), unexpected("unexpected"), mismatched("mismatched");
  std::set<std::string> expected;
  for_each_tensor(module, [&](const std::string& name, ParameterKind kind, const StoredOrder&, const Tensor& tensor) {
    expected.insert(name);
    const auto found = tensors.find(name);
    if (found == tensors.end()) {
      missing.add(name);
    } else if (const std::string problem = misfit(kind, tensor.shape(), found->second); !problem.empty()) {
      mismatched.add(join(name, " (", problem, ")"));
    }
  });
  for (const auto& [name, tensor] : tensors) {
    if (expected.count(name) == 0 && !is_ignored(name)) unexpected.add(name);
  }
  if (missing.empty() && unexpected.empty() && mismatched.empty()) return;
  fail(path, " does not fit this model of ", expected.size(), " tensors: ", missing.summary(), ", ",
       unexpected.summary(), ", ", mismatched.summary(), missing.lines(), unexpected.lines(), mismatched.lines(),
       claim.empty() ? "" : "\n  the file says it holds " + claim);
}

}  // namespace

HostTensor export_tensor(Backend& backend, ParameterKind kind, const StoredOrder& order, const Tensor& tensor) {
  const Shape& shape = tensor.shape();
  std::vector<float> values(static_cast<size_t>(shape.elements()));
  backend.download(tensor, DType::kF32, values.data());
  values = transpose(to_published_order(values, shape, order), shape.n, shape.h * shape.w, shape.c);
  HostTensor result{FileDType::kF32, outside_shape(kind, shape), std::vector<uint8_t>(values.size() * sizeof(float))};
  if (!values.empty()) std::memcpy(result.bytes.data(), values.data(), result.bytes.size());
  return result;
}

void import_tensor(Backend& backend, ParameterKind kind, const StoredOrder& order, const HostTensor& source,
                   const Tensor& tensor, const std::string& what) {
  const Shape& shape = tensor.shape();
  if (const std::string problem = misfit(kind, shape, source); !problem.empty()) fail(what, " does not fit: ", problem);
  const std::vector<float> values = to_stored_order(to_our_layout(source, shape, what), shape, order);
  backend.upload(values.data(), DType::kF32, tensor);
}

void export_module(Backend& backend, Module& module, TensorMap& tensors) {
  for_each_tensor(module,
                  [&](const std::string& name, ParameterKind kind, const StoredOrder& order, const Tensor& tensor) {
                    const bool added = tensors.emplace(name, export_tensor(backend, kind, order, tensor)).second;
                    RIFFLE_CHECK(added, "two tensors are named '", name, "'");
                  });
}

void import_module(Backend& backend, Module& module, const TensorMap& tensors, const std::string& path,
                   const std::string& claim) {
  check_fits(module, tensors, path, claim);
  std::vector<std::vector<float>> converted;  // all of them first: an error leaves the module as it was
  for_each_tensor(module, [&](const std::string& name, ParameterKind, const StoredOrder& order, const Tensor& tensor) {
    const auto published = to_our_layout(tensors.at(name), tensor.shape(), join(path, ": tensor '", name, "'"));
    converted.push_back(to_stored_order(published, tensor.shape(), order));
  });
  auto next = converted.begin();
  for_each_tensor(module, [&](const std::string&, ParameterKind, const StoredOrder&, const Tensor& tensor) {
    backend.upload((next++)->data(), DType::kF32, tensor);
  });
  module.values_changed(backend);
}

}  // namespace riffle
