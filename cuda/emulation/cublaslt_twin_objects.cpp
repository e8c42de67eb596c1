// See cublaslt_twin_objects.h.
#include "cuda/emulation/cublaslt_twin_objects.h"

#include <cstring>
#include <set>

#include "core/check.h"
#include "cuda/emulation/library_twin_support.h"

namespace riffle::emulation::cublaslt {
namespace {

// Objects that were created and not destroyed.
std::set<const void*>& living() {
  static std::set<const void*> objects;
  return objects;
}

template <class T, class Handle>
cublasStatus_t create_object(Handle* handle, const T& value) {
  auto* object = new T(value);
  living().insert(object);
  *handle = reinterpret_cast<Handle>(object);
  return CUBLAS_STATUS_SUCCESS;
}

template <class T, class Handle>
cublasStatus_t destroy_object(Handle handle) {
  if (living().erase(handle) == 0) {
    complain("cuBLASLt: an object that does not exist is destroyed", true);
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  delete reinterpret_cast<T*>(handle);
  return CUBLAS_STATUS_SUCCESS;
}

template <class T, class Handle>
T* object_of(Handle handle) {
  return living().count(handle) > 0 ? reinterpret_cast<T*>(handle) : nullptr;
}

template <class T>
cublasStatus_t store_attribute(const void* value, size_t bytes, T* to) {
  if (!value || bytes != sizeof(T)) return refuse(join("an attribute of ", sizeof(T), " bytes is set with ", bytes));
  std::memcpy(to, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

}  // namespace

cublasStatus_t refuse(const std::string& reason, cublasStatus_t status) {
  complain("cuBLASLt: " + reason, status != CUBLAS_STATUS_NOT_SUPPORTED);
  return status;
}

const Operation* find_operation(cublasLtMatmulDesc_t operation) {
  return object_of<Operation>(operation);
}
const Layout* find_layout(cublasLtMatrixLayout_t layout) {
  return object_of<Layout>(layout);
}
const Preference* find_preference(cublasLtMatmulPreference_t preference) {
  return object_of<Preference>(preference);
}
bool is_handle(cublasLtHandle_t handle) {
  return object_of<int>(handle) != nullptr;
}

cublasStatus_t create(cublasLtHandle_t* handle) {
  return create_object(handle, 0);
}
cublasStatus_t destroy(cublasLtHandle_t handle) {
  return destroy_object<int>(handle);
}

cublasStatus_t matmul_create(cublasLtMatmulDesc_t* operation, cublasComputeType_t compute, cudaDataType_t scale) {
  return create_object(operation, Operation{compute, scale});
}
cublasStatus_t matmul_destroy(cublasLtMatmulDesc_t operation) {
  return destroy_object<Operation>(operation);
}
cublasStatus_t layout_create(cublasLtMatrixLayout_t* layout, cudaDataType_t type, uint64_t rows, uint64_t columns,
                             int64_t ld) {
  return create_object(layout, Layout{type, rows, columns, ld});
}
cublasStatus_t layout_destroy(cublasLtMatrixLayout_t layout) {
  return destroy_object<Layout>(layout);
}
cublasStatus_t preference_create(cublasLtMatmulPreference_t* preference) {
  return create_object(preference, Preference{});
}
cublasStatus_t preference_destroy(cublasLtMatmulPreference_t preference) {
  return destroy_object<Preference>(preference);
}

cublasStatus_t matmul_set(cublasLtMatmulDesc_t handle, cublasLtMatmulDescAttributes_t attribute, const void* value,
                          size_t bytes) {
  auto* operation = object_of<Operation>(handle);
  if (!operation) return refuse("no such operation");
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return store_attribute(value, bytes, &operation->transpose_a);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return store_attribute(value, bytes, &operation->transpose_b);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return store_attribute(value, bytes, &operation->epilogue);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return store_attribute(value, bytes, &operation->bias);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
      return store_attribute(value, bytes, &operation->bias_type);
    default:
      return refuse(join("the twin does not know attribute ", static_cast<int>(attribute), " of operations"));
  }
}

cublasStatus_t preference_set(cublasLtMatmulPreference_t handle, cublasLtMatmulPreferenceAttributes_t attribute,
                              const void* value, size_t bytes) {
  auto* preference = object_of<Preference>(handle);
  if (!preference) return refuse("no such preference");
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      return store_attribute(value, bytes, &preference->workspace);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
      return store_attribute(value, bytes, &preference->reduction_mask);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
      return store_attribute(value, bytes, &preference->alignment[0]);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
      return store_attribute(value, bytes, &preference->alignment[1]);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
      return store_attribute(value, bytes, &preference->alignment[2]);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
      return store_attribute(value, bytes, &preference->alignment[3]);
    default:
      return refuse(join("the twin does not know attribute ", static_cast<int>(attribute), " of preferences"));
  }
}

}  // namespace riffle::emulation::cublaslt
