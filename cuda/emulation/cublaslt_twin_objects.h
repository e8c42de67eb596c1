// The objects of cuBLASLt's twin: handles, operations, layouts and preferences, by the library's functions that make,
// change and destroy them.
#pragma once

#include <cublasLt.h>

#include <cstdint>
#include <string>

namespace riffle::emulation::cublaslt {

struct Operation {
  cublasComputeType_t compute;
  cudaDataType_t scale;
  int32_t transpose_a = CUBLAS_OP_N, transpose_b = CUBLAS_OP_N, bias_type = -1;
  uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const void* bias = nullptr;
};

struct Layout {
  cudaDataType_t type;
  uint64_t rows, columns;
  int64_t ld;
};

struct Preference {
  uint64_t workspace = 0;
  uint32_t reduction_mask = CUBLASLT_REDUCTION_SCHEME_MASK;
  uint32_t alignment[4] = {256, 256, 256, 256};  // of A, B, C, D
};

// Notes why a call is refused, and returns `status`.
cublasStatus_t refuse(const std::string& reason, cublasStatus_t status = CUBLAS_STATUS_INVALID_VALUE);

// Null where it was never made, or was destroyed.
const Operation* find_operation(cublasLtMatmulDesc_t operation);
const Layout* find_layout(cublasLtMatrixLayout_t layout);
const Preference* find_preference(cublasLtMatmulPreference_t preference);
bool is_handle(cublasLtHandle_t handle);

cublasStatus_t create(cublasLtHandle_t* handle);
cublasStatus_t destroy(cublasLtHandle_t handle);
cublasStatus_t matmul_create(cublasLtMatmulDesc_t* operation, cublasComputeType_t compute, cudaDataType_t scale);
cublasStatus_t matmul_destroy(cublasLtMatmulDesc_t operation);
cublasStatus_t matmul_set(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t attribute, const void* value,
                          size_t bytes);
cublasStatus_t layout_create(cublasLtMatrixLayout_t* layout, cudaDataType_t type, uint64_t rows, uint64_t columns,
                             int64_t ld);
cublasStatus_t layout_destroy(cublasLtMatrixLayout_t layout);
cublasStatus_t preference_create(cublasLtMatmulPreference_t* preference);
cublasStatus_t preference_destroy(cublasLtMatmulPreference_t preference);
cublasStatus_t preference_set(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute,
                              const void* value, size_t bytes);

}  // namespace riffle::emulation::cublaslt
