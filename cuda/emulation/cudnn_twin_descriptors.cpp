// The rules and messages are those that cuDNN 9.19 was seen to have.
#include "cuda/emulation/cudnn_twin_descriptors.h"

#include <algorithm>

namespace riffle::emulation {

std::map<const void*, std::unique_ptr<Descriptor>>& descriptors() {
  static std::map<const void*, std::unique_ptr<Descriptor>> living;
  return living;
}
std::map<const void*, std::unique_ptr<Handle>>& handles() {
  static std::map<const void*, std::unique_ptr<Handle>> living;
  return living;
}
Descriptor* find_descriptor(const void* descriptor) {
  const auto found = descriptors().find(descriptor);
  return found == descriptors().end() ? nullptr : found->second.get();
}
Handle* find_handle(const void* handle) {
  const auto found = handles().find(handle);
  return found == handles().end() ? nullptr : found->second.get();
}

size_t size_of_type(cudnnBackendAttributeType_t type) {
  switch (type) {
    case CUDNN_TYPE_FLOAT:
    case CUDNN_TYPE_DATA_TYPE:
    case CUDNN_TYPE_CONVOLUTION_MODE:
    case CUDNN_TYPE_HEUR_MODE:
    case CUDNN_TYPE_NUMERICAL_NOTE:
      return 4;
    default:
      return 8;  // int64, pointers
  }
}

void inherit(const Descriptor& from, Descriptor* to) {
  to->convolution = from.convolution;
  to->alignments = from.alignments;
  to->names = from.names;
  to->engine = from.engine;
}

namespace {

// In the order of the heuristics; 0, which computes everything slowly, is the fallback.
const std::vector<Engine>& engines() {
  static const std::vector<Engine> list{
      {34, {CUDNN_NUMERICAL_NOTE_TENSOR_CORE, CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION}, 0, false, true},
      {99, {}, 0, false, false},
      {7, {CUDNN_NUMERICAL_NOTE_TENSOR_CORE}, 4096, true, true},
      {20, {CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC}, 100, false, true},
      {28, {}, 0, false, true},
      {0, {CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP}, 0, false, true}};
  return list;
}
const Engine& fallback_engine() {
  return engines().back();
}

// Of a descriptor that must still live, whoever refers to it.
const Descriptor& referred(const Descriptor& d, cudnnBackendAttributeName_t name, cudnnBackendDescriptorType_t type) {
  const Descriptor* other = find_descriptor(value<void*>(d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR));
  if (!other) fail("attribute ", static_cast<int>(name), " is a descriptor that was destroyed");
  if (!other->finalized) fail("attribute ", static_cast<int>(name), " is a descriptor that is not finalized");
  if (other->type != type) fail("attribute ", static_cast<int>(name), " is a descriptor of another kind");
  return *other;
}
void check_handle(const Descriptor& d, cudnnBackendAttributeName_t name) {
  if (!find_handle(value<void*>(d, name, CUDNN_TYPE_HANDLE))) fail("no such handle");
}

Element element_of(cudnnDataType_t type) {
  if (type == CUDNN_DATA_BFLOAT16) return Element::kBF16;
  if (type == CUDNN_DATA_HALF) return Element::kF16;
  if (type != CUDNN_DATA_FLOAT) fail("the twin computes in f32, bf16 and f16");
  return Element::kF32;
}

// --- finalize: one function for each kind ---

StridedTensor read_tensor(const Descriptor& d) {
  StridedTensor tensor;
  tensor.type = element_of(value<cudnnDataType_t>(d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE));
  const auto dimensions = values<int64_t>(d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4);
  const auto strides = values<int64_t>(d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4);
  std::copy(dimensions.begin(), dimensions.end(), tensor.dimensions);
  std::copy(strides.begin(), strides.end(), tensor.strides);
  return tensor;
}

void finalize_tensor(const Descriptor& d) {
  const StridedTensor tensor = read_tensor(d);
  value<int64_t>(d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64);
  const auto alignment = value<int64_t>(d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64);
  if (alignment <= 0 || alignment % static_cast<int64_t>(bytes_of(tensor.type)) != 0)
    fail("the alignment is no multiple of the element's size");
  for (int i = 0; i < 4; ++i)
    if (tensor.dimensions[i] <= 0 || tensor.strides[i] <= 0) fail("dimensions and strides must be positive");
  // Stricter than cuDNN, which may have an engine for other strides, or not.
  if (!tensor.packed()) fail("the tensor is not packed");
}

void finalize_convolution(const Descriptor& d) {
  if (value<int64_t>(d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64) != 2)
    fail("the twin has two dimensions");
  if (value<cudnnDataType_t>(d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE) != CUDNN_DATA_FLOAT)
    fail("the twin adds up in f32");
  if (value<cudnnConvolutionMode_t>(d, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE) !=
      CUDNN_CROSS_CORRELATION)
    fail("the twin computes cross-correlations");
  for (int64_t dilation : values<int64_t>(d, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2))
    if (dilation != 1) fail("the twin does not dilate");
  for (int64_t stride : values<int64_t>(d, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2))
    if (stride <= 0) fail("strides must be positive");
  for (cudnnBackendAttributeName_t name : {CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS})
    for (int64_t padding : values<int64_t>(d, name, CUDNN_TYPE_INT64, 2))
      if (padding < 0) fail("padding must not be negative");
}

struct OperationNames {
  Unknown unknown;
  int first;  // alpha; beta, the convolution's descriptor and, in an order of their own, three tensors follow
  int w, x, y;
};
OperationNames operation_names(cudnnBackendDescriptorType_t type) {
  switch (type) {
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
      return {Unknown::kY, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, 703, 704, 705};
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
      return {Unknown::kX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, 709, 710, 711};
    default:
      return {Unknown::kW, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, 715, 716, 717};
  }
}

void check_shapes(const PlainConvolution& p) {
  const int64_t *x = p.x.dimensions, *w = p.w.dimensions, *y = p.y.dimensions;
  if (x[1] % w[1] != 0 || w[0] % (x[1] / w[1]) != 0) fail("channels do not make whole groups");
  if (y[0] != x[0] || y[1] != w[0] || y[2] != p.out_size(0) || y[3] != p.out_size(1))
    fail("y is not what x, w and the paddings make");
}

void finalize_operation(Descriptor* d) {
  const OperationNames names = operation_names(d->type);
  const auto name = [](int number) { return static_cast<cudnnBackendAttributeName_t>(number); };
  if (value<float>(*d, name(names.first), CUDNN_TYPE_FLOAT) != 1 ||
      value<float>(*d, name(names.first + 1), CUDNN_TYPE_FLOAT) != 0)
    fail("the twin has alpha 1 and beta 0");
  const Descriptor& window = referred(*d, name(names.first + 2), CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
  PlainConvolution p;
  p.unknown = names.unknown;
  StridedTensor* const tensors[] = {&p.x, &p.w, &p.y};
  const int attributes[] = {names.x, names.w, names.y};
  for (int i = 0; i < 3; ++i) {
    const Descriptor& tensor = referred(*d, name(attributes[i]), CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    *tensors[i] = read_tensor(tensor);
    d->names.push_back(value<int64_t>(tensor, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64));
    d->alignments.push_back(value<int64_t>(tensor, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64));
  }
  const auto copy = [&](cudnnBackendAttributeName_t from, int64_t(&to)[2]) {
    const auto pair = values<int64_t>(window, from, CUDNN_TYPE_INT64, 2);
    std::copy(pair.begin(), pair.end(), to);
  };
  copy(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, p.stride);
  copy(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, p.before);
  copy(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, p.after);
  check_shapes(p);
  d->convolution = std::make_shared<PlainConvolution>(p);
}

void finalize_graph(Descriptor* d) {
  check_handle(*d, CUDNN_ATTR_OPERATIONGRAPH_HANDLE);
  const Descriptor* operation =
      find_descriptor(value<void*>(*d, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR));
  if (!operation || !operation->finalized || !operation->convolution) fail("the operation was destroyed or never made");
  inherit(*operation, d);
}

void finalize_heuristics(Descriptor* d) {
  inherit(referred(*d, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR), d);
  const auto mode = value<cudnnBackendHeurMode_t>(*d, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE);
  const PlainConvolution& p = *d->convolution;
  if (p.x.type != p.w.type || p.x.type != p.y.type) return;  // as cuDNN: no engine, and no error
  if (mode == CUDNN_HEUR_MODE_FALLBACK) {
    d->results.push_back(&fallback_engine());
    return;
  }
  if (mode != CUDNN_HEUR_MODE_A) fail("the twin has modes A and fallback");
  const bool aligned =
      std::all_of(d->alignments.begin(), d->alignments.end(), [](int64_t bytes) { return bytes % 16 == 0; });
  for (const Engine& engine : engines())
    if (engine.index != fallback_engine().index && (aligned || !engine.needs_alignment)) d->results.push_back(&engine);
}

void finalize_plan(Descriptor* d) {
  check_handle(*d, CUDNN_ATTR_EXECUTION_PLAN_HANDLE);
  inherit(referred(*d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR), d);
  if (!d->engine->can_be_planned) fail("the engine does not support the problem");
}

}  // namespace

void finalize_descriptor(Descriptor* d) {
  switch (d->type) {
    case CUDNN_BACKEND_TENSOR_DESCRIPTOR:
      return finalize_tensor(*d);
    case CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR:
      return finalize_convolution(*d);
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR:
      return finalize_operation(d);
    case CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR:
      return finalize_graph(d);
    case CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR:
      return finalize_heuristics(d);
    case CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR:
      return finalize_plan(d);
    case CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR:
      return;
    default:
      fail("descriptors of this kind are filled in by the library");
  }
}

}  // namespace riffle::emulation
