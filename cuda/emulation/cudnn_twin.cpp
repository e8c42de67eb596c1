// The twin of cuDNN's graph interface, for one convolution a graph. Its engines differ in what they need and note, so
// that a caller who ignores it is refused or gets other numbers.
#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cuda/emulation/cudnn_twin_descriptors.h"
#include "cuda/emulation/device_memory.h"
#include "cuda/emulation/library_twins.h"

namespace riffle::emulation {
namespace {

cudnnStatus_t refuse(const std::string& reason, cudnnStatus_t status = CUDNN_STATUS_BAD_PARAM) {
  complain("cuDNN: " + reason, status != CUDNN_STATUS_NOT_SUPPORTED);
  return status;
}

size_t version() {
  return CUDNN_VERSION;
}
size_t cudart_version() {
  return CUDART_VERSION;
}
const char* error_string(cudnnStatus_t status) {
  return status == CUDNN_STATUS_SUCCESS         ? "CUDNN_STATUS_SUCCESS"
         : status == CUDNN_STATUS_NOT_SUPPORTED ? "CUDNN_STATUS_NOT_SUPPORTED"
                                                : "CUDNN_STATUS_BAD_PARAM";
}
void last_error_string(char* message, size_t size) {
  std::strncpy(message, last_complaint().c_str(), size - 1);
  message[size - 1] = 0;
}
cudnnStatus_t create(cudnnHandle_t* handle) {
  auto made = std::make_unique<Handle>();
  *handle = reinterpret_cast<cudnnHandle_t>(made.get());
  handles()[*handle] = std::move(made);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t destroy(cudnnHandle_t handle) {
  return handles().erase(handle) > 0 ? CUDNN_STATUS_SUCCESS : refuse("no such handle");
}
cudnnStatus_t set_stream(cudnnHandle_t handle, cudaStream_t stream) {
  Handle* known = find_handle(handle);
  if (!known) return refuse("no such handle");
  known->stream = stream;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t descriptor_create(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t* descriptor) {
  auto made = std::make_unique<Descriptor>();
  made->type = type;
  *descriptor = made.get();
  descriptors()[*descriptor] = std::move(made);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t descriptor_destroy(cudnnBackendDescriptor_t descriptor) {
  return descriptors().erase(descriptor) > 0 ? CUDNN_STATUS_SUCCESS : refuse("no such descriptor");
}

cudnnStatus_t set(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                  cudnnBackendAttributeType_t type, int64_t count, const void* elements) {
  Descriptor* d = find_descriptor(descriptor);
  if (!d) return refuse("no such descriptor");
  if (d->finalized) return refuse("an attribute is set after the descriptor was finalized");
  if (count < 1 || !elements) return refuse("an attribute without elements");
  if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR) {
    void* other = nullptr;
    std::memcpy(&other, elements, sizeof other);
    if (!find_descriptor(other) || !find_descriptor(other)->finalized)
      return refuse("an attribute is a descriptor that is not finalized", CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED);
  }
  const char* bytes = static_cast<const char*>(elements);
  d->attributes[name] = {type, {bytes, bytes + static_cast<size_t>(count) * size_of_type(type)}};
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t finalize(cudnnBackendDescriptor_t descriptor) {
  Descriptor* d = find_descriptor(descriptor);
  if (!d || d->finalized) return refuse("no such descriptor, or finalized before");
  try {
    finalize_descriptor(d);
  } catch (const Error& error) {
    return refuse(error.what(), d->type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR ? CUDNN_STATUS_NOT_SUPPORTED
                                                                                   : CUDNN_STATUS_BAD_PARAM);
  }
  d->finalized = true;
  return CUDNN_STATUS_SUCCESS;
}

// Copies up to `requested` elements; `count` is how many there are.
template <class T>
cudnnStatus_t answer(const std::vector<T>& result, int64_t requested, int64_t* count, void* elements) {
  *count = static_cast<int64_t>(result.size());
  const auto copied = std::min<size_t>(result.size(), static_cast<size_t>(requested));
  if (copied > 0) std::memcpy(elements, result.data(), copied * sizeof(T));
  return CUDNN_STATUS_SUCCESS;
}

// The library fills in descriptors that the caller made.
cudnnStatus_t fill(Descriptor* d, cudnnBackendDescriptorType_t type, const Engine* engine, const Descriptor& from) {
  if (!d || d->type != type || d->finalized) return refuse("results need new descriptors of their kind");
  inherit(from, d);
  d->engine = engine;
  d->finalized = true;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t get_results(const Descriptor& d, int64_t requested, int64_t* count, void** elements) {
  const auto offered = static_cast<int64_t>(d.results.size());
  // Asked for the number alone, cuDNN gives a bound.
  *count = requested == 0 ? offered + 2 : std::min(requested, offered);
  if (offered == 0 && requested == 0) *count = 0;
  for (int64_t i = 0; requested > 0 && i < *count; ++i) {
    Descriptor* into = find_descriptor(elements[i]);
    const cudnnStatus_t status = fill(into, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, d.results[static_cast<size_t>(i)], d);
    if (status != CUDNN_STATUS_SUCCESS) return status;
  }
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t get(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t,
                  int64_t requested, int64_t* count, void* elements) {
  const Descriptor* d = find_descriptor(descriptor);
  if (!d || !d->finalized)
    return refuse("attributes are read of finalized descriptors", CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED);
  if (name == CUDNN_ATTR_ENGINEHEUR_RESULTS) return get_results(*d, requested, count, static_cast<void**>(elements));
  if (!d->engine) return refuse("this descriptor has no engine");
  switch (name) {
    case CUDNN_ATTR_ENGINECFG_ENGINE:
      *count = 1;
      if (requested == 0) return CUDNN_STATUS_SUCCESS;
      return fill(find_descriptor(*static_cast<void**>(elements)), CUDNN_BACKEND_ENGINE_DESCRIPTOR, d->engine, *d);
    case CUDNN_ATTR_ENGINE_GLOBAL_INDEX:
      return answer(std::vector<int64_t>{d->engine->index}, requested, count, elements);
    case CUDNN_ATTR_ENGINE_NUMERICAL_NOTE:
      return answer(d->engine->notes, requested, count, elements);
    case CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE:
      return answer(std::vector<int64_t>{d->engine->workspace_bytes}, requested, count, elements);
    default:
      return refuse(join("the twin does not know attribute ", static_cast<int>(name)));
  }
}

// Binds the pack's addresses to the plan's tensors; throws the reason where they do not fit.
PlainConvolution bound(const Descriptor& plan, const Descriptor& pack, void** workspace) {
  PlainConvolution p = *plan.convolution;
  const auto names = values<int64_t>(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, 3);
  const auto addresses = values<void*>(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, 3);
  StridedTensor* const tensors[] = {&p.x, &p.w, &p.y};
  for (size_t i = 0; i < 3; ++i) {
    const auto found = std::find(names.begin(), names.end(), plan.names[i]);
    if (found == names.end()) fail("a tensor of the plan has no address");
    StridedTensor& tensor = *tensors[i];
    tensor.data = addresses[static_cast<size_t>(found - names.begin())];
    if (!in_device_memory(tensor.data, static_cast<size_t>(tensor.span()) * bytes_of(tensor.type)))
      fail("a tensor is not in device memory");
    if (reinterpret_cast<uintptr_t>(tensor.data) % static_cast<uintptr_t>(plan.alignments[i]) != 0)
      fail("a tensor is less aligned than its descriptor says");
  }
  *workspace = value<void*>(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR);
  if (plan.engine->workspace_bytes > 0) {
    if (!in_device_memory(*workspace, static_cast<size_t>(plan.engine->workspace_bytes)))
      fail("the workspace is too small or not in device memory");
    // cuDNN promises to do with no less than what cudaMalloc aligns to.
    if (reinterpret_cast<uintptr_t>(*workspace) % kAllocationAlignment != 0) fail("the workspace is not aligned");
  }
  const std::vector<cudnnBackendNumericalNote_t>& notes = plan.engine->notes;
  p.tf32 = p.x.type == Element::kF32 &&
           std::find(notes.begin(), notes.end(), CUDNN_NUMERICAL_NOTE_TENSOR_CORE) != notes.end();
  return p;
}

cudnnStatus_t execute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pack) {
  const Handle* known = find_handle(handle);
  const Descriptor *p = find_descriptor(plan), *v = find_descriptor(pack);
  if (!known || !p || !v || !p->finalized || !v->finalized || p->type != CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR ||
      v->type != CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)
    return refuse("executing takes a handle, a finalized plan and a finalized variant pack");
  if (p->engine->index == 28 && !twin_options().first_choice_runs)
    return refuse("the engine does not run", CUDNN_STATUS_NOT_SUPPORTED);
  try {
    void* workspace = nullptr;
    const PlainConvolution convolution = bound(*p, *v, &workspace);
    const auto workspace_bytes = static_cast<size_t>(p->engine->workspace_bytes);
    const cudaError_t queued = queue_work(known->stream, [convolution, workspace, workspace_bytes] {
      if (workspace_bytes > 0) spoil(workspace, workspace_bytes);
      convolution.compute();
    });
    return queued == cudaSuccess ? CUDNN_STATUS_SUCCESS
                                 : refuse("the stream does not take work", CUDNN_STATUS_EXECUTION_FAILED);
  } catch (const Error& error) {
    return refuse(error.what());
  }
}

}  // namespace

Cudnn cudnn_twin() {
  return {version,
          cudart_version,
          error_string,
          last_error_string,
          create,
          destroy,
          set_stream,
          descriptor_create,
          descriptor_destroy,
          set,
          get,
          finalize,
          execute};
}

}  // namespace riffle::emulation
