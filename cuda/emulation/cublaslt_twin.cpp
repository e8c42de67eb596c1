// The twin of cuBLASLt. Matrices are column-major, as there. It offers algorithms that differ in what they ask for
// (alignment, workspace, scheme of reduction), so that a caller who ignores a rule is refused.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "core/check.h"
#include "cuda/emulation/cublaslt_twin_objects.h"
#include "cuda/emulation/library_twin_support.h"
#include "cuda/emulation/library_twins.h"

namespace riffle::emulation {
namespace cublaslt {
namespace {

size_t version() {
  return CUBLAS_VERSION;
}
const char* status_name(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "CUBLAS_STATUS_NOT_SUPPORTED";
    default:
      return "CUBLAS_STATUS_INVALID_VALUE";
  }
}
const char* status_string(cublasStatus_t) {
  return last_complaint().c_str();
}

Element element_of(cudaDataType_t type) {
  return type == CUDA_R_16BF ? Element::kBF16 : type == CUDA_R_16F ? Element::kF16 : Element::kF32;
}

// --- the problem ---

// D (rows,columns) = op(A) (rows,inner) * op(B) (inner,columns), with its descriptors found to fit.
struct Problem {
  Operation operation{};
  Layout a{}, b{}, c{};
  uint64_t rows = 0, columns = 0, inner = 0;

  uint64_t signature() const {
    uint64_t hash = 1469598103934665603u;
    for (uint64_t part : {rows, columns, inner, static_cast<uint64_t>(a.ld), static_cast<uint64_t>(b.ld),
                          static_cast<uint64_t>(c.ld), static_cast<uint64_t>(a.type), static_cast<uint64_t>(c.type),
                          static_cast<uint64_t>(operation.compute), uint64_t{operation.epilogue},
                          static_cast<uint64_t>(operation.transpose_a), static_cast<uint64_t>(operation.transpose_b)})
      hash = (hash ^ part) * 1099511628211u;
    return hash;
  }
};

// NVIDIA's table of types for cublasLtMatmul, as far as f32, bf16 and f16 go.
bool types_are_supported(const Problem& p) {
  const cudaDataType_t in = p.a.type, out = p.c.type;
  if (p.operation.scale != CUDA_R_32F || p.b.type != in) return false;
  if (p.operation.bias_type != -1 && p.operation.bias_type != out) return false;
  if (p.operation.compute == CUBLAS_COMPUTE_32F_FAST_TF32) return in == CUDA_R_32F && out == CUDA_R_32F;
  if (p.operation.compute != CUBLAS_COMPUTE_32F) return false;
  if (in == CUDA_R_16BF || in == CUDA_R_16F) return out == in || out == CUDA_R_32F;
  return in == CUDA_R_32F && out == CUDA_R_32F;
}

cublasStatus_t read_problem(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t a,
                            cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                            Problem* problem) {
  const auto* known = find_operation(operation);
  const Layout *la = find_layout(a), *lb = find_layout(b), *lc = find_layout(c);
  const auto* ld = find_layout(d);
  if (!is_handle(handle) || !known || !la || !lb || !lc || !ld) return refuse("an object was destroyed or never made");
  Problem p{*known, *la, *lb, *ld};
  const bool ta = p.operation.transpose_a == CUBLAS_OP_T, tb = p.operation.transpose_b == CUBLAS_OP_T;
  p.rows = ta ? la->columns : la->rows;
  p.inner = ta ? la->rows : la->columns;
  p.columns = tb ? lb->rows : lb->columns;
  if ((tb ? lb->columns : lb->rows) != p.inner) return refuse("inner dimensions of A and B differ");
  if (ld->rows != p.rows || ld->columns != p.columns) return refuse("D is not what A times B makes");
  if (lc->rows != ld->rows || lc->columns != ld->columns || lc->type != ld->type) return refuse("C is not like D");
  for (const Layout* layout : {la, lb, lc, ld}) {
    if (layout->rows == 0 || layout->columns == 0) return refuse("an empty matrix");
    if (layout->rows > INT32_MAX || layout->columns > INT32_MAX) return refuse("a dimension above 2^31");
    if (layout->ld < static_cast<int64_t>(layout->rows)) return refuse("a leading dimension below the rows");
  }
  if (!types_are_supported(p)) return refuse("types that cannot be combined", CUBLAS_STATUS_NOT_SUPPORTED);
  switch (p.operation.epilogue) {
    case CUBLASLT_EPILOGUE_DEFAULT:
      break;
    case CUBLASLT_EPILOGUE_BIAS:
    case CUBLASLT_EPILOGUE_RELU_BIAS:
      // The heuristics choose by the pointer's alignment, and kernels read vectors of 16 bytes.
      if (!p.operation.bias) return refuse("a bias that is not known to the heuristics");
      if (reinterpret_cast<uintptr_t>(p.operation.bias) % 16 != 0) return refuse("a bias that is not aligned to 16");
      break;
    default:
      return refuse("the twin does not know this epilogue");
  }
  *problem = p;
  return CUBLAS_STATUS_SUCCESS;
}

// --- algorithms ---

enum AlgorithmId : uint64_t { kInPlaceSplit = 3, kAligned = 5, kSplit = 8, kPlain = 13 };
constexpr uint64_t kSplits = 4, kMagic = 0x7b1f, kAlignedBytes = 16;
constexpr float kTile = 128.0f * 128.0f, kMultiprocessors = 132;

// What it puts into the library's opaque cublasLtMatmulAlgo_t.
struct Algorithm {
  uint64_t magic, id, signature, is_first;
  uint64_t splits, scheme;  // of k, and how the parts are added up
};

bool can_split(const Algorithm& algorithm) {
  return algorithm.id != kAligned;
}

uint64_t workspace_of(const Algorithm& algorithm, const Problem& p) {
  if (algorithm.splits < 2) return 0;
  if (algorithm.scheme == CUBLASLT_REDUCTION_SCHEME_INPLACE) return sizeof(int32_t);  // a counter
  return algorithm.splits * p.rows * p.columns * sizeof(float);
}

// How much of k is summed. As the library was reported to (cuda/split_tails.h), split algorithms lose what is left when
// every part has its whole blocks, if it is not enough for all parts; each has blocks of its own.
uint64_t summed(const Algorithm& algorithm, uint64_t inner) {
  const uint64_t block = algorithm.id == kInPlaceSplit ? 32 : algorithm.id == kSplit ? 64 : 128;
  const uint64_t tail = inner % block;
  return algorithm.splits > 1 && inner / block % algorithm.splits == 0 && tail < algorithm.splits ? inner - tail
                                                                                                  : inner;
}

// Ordered by what it says it expects; unaligned problems lose kAligned, as they lose the best kernels there.
cublasStatus_t heuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t a,
                         cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                         cublasLtMatmulPreference_t preference_handle, int requested,
                         cublasLtMatmulHeuristicResult_t* results, int* found) {
  const auto* preference = find_preference(preference_handle);
  if (!preference || requested < 1) return refuse("heuristics need a preference and room for a result");
  Problem p;
  const cublasStatus_t status = read_problem(handle, operation, a, b, c, d, &p);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  bool aligned = true;
  for (uint32_t bytes : preference->alignment) aligned = aligned && bytes % kAlignedBytes == 0;
  std::vector<Algorithm> algorithms;
  const auto offer = [&](AlgorithmId id, uint64_t splits, uint64_t scheme) {
    const Algorithm algorithm{kMagic, id, p.signature(), algorithms.empty(), splits, scheme};
    if (splits > 1 && (p.inner < 64 || (preference->reduction_mask & scheme) == 0)) return;
    if (workspace_of(algorithm, p) <= preference->workspace) algorithms.push_back(algorithm);
  };
  offer(kInPlaceSplit, kSplits, CUBLASLT_REDUCTION_SCHEME_INPLACE);
  if (aligned) offer(kAligned, 1, CUBLASLT_REDUCTION_SCHEME_NONE);
  offer(kSplit, kSplits, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
  offer(kPlain, 1, CUBLASLT_REDUCTION_SCHEME_NONE);
  *found = 0;
  for (const Algorithm& algorithm : algorithms) {
    if (*found == requested) break;
    cublasLtMatmulHeuristicResult_t result{};
    static_assert(sizeof(Algorithm) <= sizeof result.algo);
    std::memcpy(&result.algo, &algorithm, sizeof algorithm);
    result.workspaceSize = workspace_of(algorithm, p);
    result.state = CUBLAS_STATUS_SUCCESS;
    result.wavesCount = static_cast<float>(p.rows * p.columns * algorithm.splits) / (kTile * kMultiprocessors);
    results[(*found)++] = result;
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t algorithm_can(const cublasLtMatmulAlgo_t* opaque, cublasLtMatmulAlgoCapAttributes_t attribute,
                             void* value, size_t bytes, size_t* written) {
  Algorithm algorithm;
  std::memcpy(&algorithm, opaque, sizeof algorithm);
  if (algorithm.magic != kMagic || !value || bytes != sizeof(int32_t)) return refuse("not an algorithm, or its value");
  if (attribute != CUBLASLT_ALGO_CAP_SPLITK_SUPPORT) return refuse("the twin does not know this capability");
  const int32_t result = can_split(algorithm) ? 1 : 0;
  std::memcpy(value, &result, bytes);
  if (written) *written = bytes;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t algorithm_set(cublasLtMatmulAlgo_t* opaque, cublasLtMatmulAlgoConfigAttributes_t attribute,
                             const void* value, size_t bytes) {
  Algorithm algorithm;
  std::memcpy(&algorithm, opaque, sizeof algorithm);
  uint32_t number = 0;
  if (algorithm.magic != kMagic || !value || bytes != sizeof number) return refuse("not an algorithm, or its value");
  std::memcpy(&number, value, bytes);
  if (attribute == CUBLASLT_ALGO_CONFIG_SPLITK_NUM) {
    algorithm.splits = number;
  } else if (attribute == CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME) {
    algorithm.scheme = number;
  } else {
    return refuse("the twin cannot set this attribute of algorithms");
  }
  std::memcpy(opaque, &algorithm, sizeof algorithm);
  return CUBLAS_STATUS_SUCCESS;
}

// That of another problem is misuse, a configuration that does not exist is not: one cannot know before asking.
cublasStatus_t check_configuration(const Algorithm& algorithm, const Problem& p) {
  if (algorithm.magic != kMagic || algorithm.signature != p.signature())
    return refuse("the algorithm is of another problem");
  if (algorithm.splits < 2) return CUBLAS_STATUS_SUCCESS;
  if (!can_split(algorithm) || algorithm.splits > p.inner || algorithm.scheme == CUBLASLT_REDUCTION_SCHEME_NONE)
    return refuse("k cannot be split so", CUBLAS_STATUS_NOT_SUPPORTED);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t algorithm_check(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t a,
                               cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                               const cublasLtMatmulAlgo_t* opaque, cublasLtMatmulHeuristicResult_t* result) {
  Problem p;
  const cublasStatus_t status = read_problem(handle, operation, a, b, c, d, &p);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  Algorithm algorithm;
  std::memcpy(&algorithm, opaque, sizeof algorithm);
  const cublasStatus_t checked = check_configuration(algorithm, p);
  if (checked != CUBLAS_STATUS_SUCCESS) return checked;
  result->workspaceSize = workspace_of(algorithm, p);
  result->state = CUBLAS_STATUS_SUCCESS;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t algorithm_get(const cublasLtMatmulAlgo_t* opaque, cublasLtMatmulAlgoConfigAttributes_t attribute,
                             void* value, size_t bytes, size_t* written) {
  Algorithm algorithm;
  std::memcpy(&algorithm, opaque, sizeof algorithm);
  if (algorithm.magic != kMagic || !value || bytes != sizeof(int32_t)) return refuse("not an algorithm, or its value");
  int32_t result = 0;
  if (attribute == CUBLASLT_ALGO_CONFIG_ID) {
    result = static_cast<int32_t>(algorithm.id);
  } else if (attribute == CUBLASLT_ALGO_CONFIG_SPLITK_NUM) {
    result = static_cast<int32_t>(algorithm.splits);
  } else {
    return refuse("the twin does not know this attribute of algorithms");
  }
  std::memcpy(value, &result, bytes);
  if (written) *written = bytes;
  return CUBLAS_STATUS_SUCCESS;
}

// --- the product ---

struct Call {
  Problem problem;
  Algorithm algorithm;
  float alpha, beta;
  const void *a, *b, *c;
  void *d, *workspace;
};

bool is_aligned(const void* data, int64_t pitch_bytes, uint64_t bytes) {
  return reinterpret_cast<uintptr_t>(data) % bytes == 0 && static_cast<uint64_t>(pitch_bytes) % bytes == 0;
}

// Refuses what is not a matrix in device memory.
cublasStatus_t check_matrix(const char* name, const void* data, const Layout& layout, uint64_t alignment) {
  const size_t size = bytes_of(element_of(layout.type));
  const size_t elements = static_cast<size_t>(layout.ld) * (layout.columns - 1) + layout.rows;
  if (!in_device_memory(data, elements * size)) return refuse(join(name, " is not in device memory"));
  const bool one_column = layout.columns == 1;
  if (!is_aligned(data, one_column ? 0 : layout.ld * static_cast<int64_t>(size), std::max<uint64_t>(alignment, size)))
    return refuse(join(name, " is not aligned as the algorithm needs it"));
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t check_call(const Call& call, size_t workspace_bytes) {
  const Problem& p = call.problem;
  const cublasStatus_t configured = check_configuration(call.algorithm, p);
  if (configured != CUBLAS_STATUS_SUCCESS) return configured;
  if (call.algorithm.is_first && !twin_options().first_choice_runs)
    return refuse("the first choice does not run", CUBLAS_STATUS_NOT_SUPPORTED);
  const uint64_t alignment = call.algorithm.id == kAligned ? kAlignedBytes : 1;
  const struct {
    const char* name;
    const void* data;
    const Layout& layout;
  } matrices[] = {{"A", call.a, p.a}, {"B", call.b, p.b}, {"C", call.c, p.c}, {"D", call.d, p.c}};
  for (const auto& matrix : matrices) {
    const cublasStatus_t status = check_matrix(matrix.name, matrix.data, matrix.layout, alignment);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
  }
  if (workspace_bytes < workspace_of(call.algorithm, p)) return refuse("the workspace is too small");
  if (workspace_bytes > 0 &&
      (reinterpret_cast<uintptr_t>(call.workspace) % 256 != 0 || !in_device_memory(call.workspace, workspace_bytes)))
    return refuse("the workspace is not in device memory, or not aligned to 256 bytes");
  if (p.operation.epilogue == CUBLASLT_EPILOGUE_DEFAULT) return CUBLAS_STATUS_SUCCESS;
  const size_t size = bytes_of(element_of(p.c.type));
  if (!in_device_memory(p.operation.bias, p.rows * size)) return refuse("the bias is not in device memory");
  if (!is_aligned(p.operation.bias, 0, std::max<uint64_t>(alignment, size))) return refuse("the bias is not aligned");
  return CUBLAS_STATUS_SUCCESS;
}

// op(X) (rows,columns) of a column-major X, row after row.
std::vector<float> widened(const void* data, const Layout& layout, bool transposed, bool tf32) {
  const uint64_t rows = transposed ? layout.columns : layout.rows, columns = transposed ? layout.rows : layout.columns;
  const Element type = element_of(layout.type);
  std::vector<float> result(rows * columns);
  for (uint64_t r = 0; r < rows; ++r)
    for (uint64_t c = 0; c < columns; ++c) {
      const uint64_t stored_row = transposed ? c : r, stored_column = transposed ? r : c;
      const float value = load_element(data, stored_column * static_cast<uint64_t>(layout.ld) + stored_row, type);
      result[r * columns + c] = tf32 ? rounded_to_tf32(value) : value;
    }
  return result;
}

void compute(const Call& call) {
  const Problem& p = call.problem;
  const bool tf32 = p.operation.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
  // Transposed, so that the innermost loop runs along D's columns in memory: d^T = b^T * a^T.
  const std::vector<float> b = widened(call.b, p.b, p.operation.transpose_b == CUBLAS_OP_N, tf32);  // (columns, inner)
  const std::vector<float> a = widened(call.a, p.a, p.operation.transpose_a == CUBLAS_OP_N, tf32);  // (inner, rows)
  if (const uint64_t bytes = workspace_of(call.algorithm, p); bytes > 0) spoil(call.workspace, bytes);
  const Element type = element_of(p.c.type);
  const bool has_bias = p.operation.epilogue != CUBLASLT_EPILOGUE_DEFAULT;
  const bool relu = p.operation.epilogue == CUBLASLT_EPILOGUE_RELU_BIAS;
  std::vector<float> sums(p.rows);
  const uint64_t inner = summed(call.algorithm, p.inner);
  for (uint64_t column = 0; column < p.columns; ++column) {
    std::fill(sums.begin(), sums.end(), 0.0f);
    for (uint64_t i = 0; i < inner; ++i) {
      const float factor = b[column * p.inner + i];
      for (uint64_t row = 0; row < p.rows; ++row) sums[row] += factor * a[i * p.rows + row];
    }
    const uint64_t begin = column * static_cast<uint64_t>(p.c.ld);
    for (uint64_t row = 0; row < p.rows; ++row) {
      float value = call.alpha * sums[row];
      if (call.beta != 0) value += call.beta * load_element(call.c, begin + row, type);
      if (has_bias) value += load_element(p.operation.bias, row, type);
      if (relu && (value < 0 || (std::isnan(value) && !twin_options().relu_keeps_nan))) value = 0;
      store_element(value, call.d, begin + row, type);
    }
    note_written(static_cast<char*>(call.d) + begin * bytes_of(type), p.rows * bytes_of(type));
  }
}

cublasStatus_t matmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation, const void* alpha, const void* a,
                      cublasLtMatrixLayout_t layout_a, const void* b, cublasLtMatrixLayout_t layout_b, const void* beta,
                      const void* c, cublasLtMatrixLayout_t layout_c, void* d, cublasLtMatrixLayout_t layout_d,
                      const cublasLtMatmulAlgo_t* algorithm, void* workspace, size_t workspace_bytes,
                      cudaStream_t stream) {
  Call call{};
  const cublasStatus_t status = read_problem(handle, operation, layout_a, layout_b, layout_c, layout_d, &call.problem);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  if (!alpha || !beta || !algorithm) return refuse("alpha, beta or the algorithm is missing");
  if (c == d && layout_c != layout_d) return refuse("C in place of D needs D's layout");
  std::memcpy(&call.alpha, alpha, sizeof call.alpha);
  std::memcpy(&call.beta, beta, sizeof call.beta);
  std::memcpy(&call.algorithm, algorithm, sizeof call.algorithm);
  call.a = a;
  call.b = b;
  call.c = c;
  call.d = d;
  call.workspace = workspace;
  const cublasStatus_t checked = check_call(call, workspace_bytes);
  if (checked != CUBLAS_STATUS_SUCCESS) return checked;
  const cudaError_t queued = queue_work(stream, [call] { compute(call); });
  return queued == cudaSuccess ? CUBLAS_STATUS_SUCCESS
                               : refuse("the stream does not take work", CUBLAS_STATUS_EXECUTION_FAILED);
}

}  // namespace
}  // namespace cublaslt

CublasLt cublas_lt_twin() {
  using namespace cublaslt;
  return {create,         destroy,    version,       status_name,    status_string,     matmul_create,
          matmul_destroy, matmul_set, layout_create, layout_destroy, preference_create, preference_destroy,
          preference_set, heuristic,  algorithm_can, algorithm_get,  algorithm_set,     algorithm_check,
          matmul};
}

}  // namespace riffle::emulation
