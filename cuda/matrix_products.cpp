// cuBLASLt counts columns first: our row-major c (m,n) is its matrix (n,m) with leading dimension ldc, and c = a*b is
// its c^T = b^T * a^T. So its A is our b, its B is our a, its M is our n, and its bias, one value a row, is ours, one a
// column.
#include "cuda/matrix_products.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <utility>

#include "cuda/device_types.h"
#include "cuda/split_tails.h"
#include "cuda/status.h"

namespace riffle {
namespace {

constexpr uint64_t kWorkspaceLimit = uint64_t{32} << 20;  // NVIDIA's advice for sm_90
constexpr int kCandidates = 12;
constexpr size_t kSplitAlgorithms = 4;     // how many of the heuristics' algorithms are tried with other splits
constexpr int32_t kLeastPart = 256;        // of k, when it is split
constexpr uint32_t kAlignmentLimit = 256;  // cuBLASLt tells no larger ones apart

cudaDataType_t data_type(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return CUDA_R_32F;
    case DType::kBF16:
      return CUDA_R_16BF;
    case DType::kF16:
      return CUDA_R_16F;
    default:
      fail("no matrix products of dtype ", dtype, " on CUDA; f32, bf16 and f16 have them");
  }
}

cublasLtEpilogue_t epilogue_of(const MatrixProduct& product) {
  if (product.relu) return CUBLASLT_EPILOGUE_RELU_BIAS;
  return product.bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
}

// Alignments that hold for every row.
struct Alignments {
  uint32_t a, b, c;  // ours
};

Alignments alignments_of(const MatrixProduct& p) {
  const auto input_size = static_cast<int64_t>(size_of(p.input)), output_size = static_cast<int64_t>(size_of(p.output));
  Alignments result{};
  result.a = common_alignment(p.a.data, {p.a.ld * input_size}, kAlignmentLimit);
  result.b = common_alignment(p.b.data, {p.b.ld * input_size}, kAlignmentLimit);
  result.c = common_alignment(p.c, {p.ldc * output_size}, kAlignmentLimit);
  return result;
}

bool is_aligned(const void* bias) {
  return reinterpret_cast<uintptr_t>(bias) % kAlignmentLimit == 0;
}

std::string describe(const MatrixProduct& p) {
  const Alignments alignments = alignments_of(p);
  return join("product ", p.m, "x", p.n, "x", p.k, " ", p.input, "->", p.output, p.a.transposed ? " T" : " N",
              p.b.transposed ? "T" : "N", ", pitches ", p.a.ld, ",", p.b.ld, ",", p.ldc, ", alignments ", alignments.a,
              ",", alignments.b, ",", alignments.c, p.bias ? ", bias" : "", p.relu ? ", ReLU" : "");
}

template <class Opaque>
using Owned = std::unique_ptr<Opaque, cublasStatus_t(CUBLASWINAPI*)(Opaque*)>;
using OwnedMatmul = Owned<cublasLtMatmulDescOpaque_t>;
using OwnedLayout = Owned<cublasLtMatrixLayoutOpaque_t>;
using OwnedPreference = Owned<cublasLtMatmulPreferenceOpaque_t>;

void check_product(const MatrixProduct& p) {
  const int64_t limit = std::numeric_limits<int32_t>::max();
  RIFFLE_CHECK(p.k > 0 && p.m <= limit && p.n <= limit && p.k <= limit, describe(p), ": sizes must be 1 to ", limit);
  RIFFLE_CHECK(p.a.ld >= (p.a.transposed ? p.m : p.k) && p.b.ld >= (p.b.transposed ? p.k : p.n) && p.ldc >= p.n,
               describe(p), ": rows overlap");
  RIFFLE_CHECK(p.output == p.input || p.output == DType::kF32, describe(p),
               ": the result must have the factors' dtype or f32");
  RIFFLE_CHECK(!p.relu || p.bias, describe(p), ": ReLU is fused with a bias only");
  RIFFLE_CHECK(!p.accumulate || !p.bias, describe(p), ": a product that accumulates has no bias");
  RIFFLE_CHECK(is_aligned(p.bias), describe(p), ": the bias must be aligned to ", kAlignmentLimit);
}

}  // namespace

struct MatrixProducts::Plan {
  OwnedMatmul operation;
  OwnedLayout a, b, c;                                      // cuBLASLt's a and b
  std::vector<cublasLtMatmulHeuristicResult_t> candidates;  // the best estimate first
  size_t chosen = 0;
  bool settled = false;  // chosen will not change
  bool relu_tried = false, relu_keeps_nan = false;
};

MatrixProducts::MatrixProducts(const CublasLt& library, const Stream& stream, ScratchBytes scratch,
                               const LibrarySettings& settings)
    : library_(library), stream_(stream), scratch_(std::move(scratch)), settings_(settings) {
  const cublasStatus_t status = library_.create(&handle_);
  if (status != CUBLAS_STATUS_SUCCESS)
    fail("cuBLASLt cannot be used: ", library_.status_name(status), ": ", library_.status_string(status));
}

MatrixProducts::~MatrixProducts() {
  plans_.clear();
  library_.destroy(handle_);
}

void MatrixProducts::check(cublasStatus_t status, const char* call, const MatrixProduct& product) const {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  fail("cuBLASLt ", call, " failed: ", library_.status_name(status), ": ", library_.status_string(status), " (",
       describe(product), ")");
}

MatrixProducts::Plan& MatrixProducts::plan_for(const MatrixProduct& p) {
  check_product(p);
  const Alignments alignments = alignments_of(p);
  const Key key{p.m,
                p.n,
                p.k,
                p.a.ld,
                p.b.ld,
                p.ldc,
                alignments.a,
                alignments.b,
                alignments.c,
                p.a.transposed,
                p.b.transposed,
                static_cast<int64_t>(p.input),
                static_cast<int64_t>(p.output),
                p.bias != nullptr,
                p.relu};
  std::unique_ptr<Plan>& plan = plans_[key];
  if (!plan) plan = build_plan(p);
  return *plan;
}

std::unique_ptr<MatrixProducts::Plan> MatrixProducts::build_plan(const MatrixProduct& p) const {
  const cudaDataType_t input = data_type(p.input), output = data_type(p.output);
  const bool tf32 = settings_.tf32 && p.input == DType::kF32;
  cublasLtMatmulDesc_t operation = nullptr;
  check(library_.matmul_create(&operation, tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F, CUDA_R_32F),
        "MatmulDescCreate", p);
  auto plan = std::unique_ptr<Plan>(new Plan{OwnedMatmul(operation, library_.matmul_destroy),
                                             OwnedLayout(nullptr, library_.layout_destroy),
                                             OwnedLayout(nullptr, library_.layout_destroy),
                                             OwnedLayout(nullptr, library_.layout_destroy),
                                             {}});
  const auto set = [&](cublasLtMatmulDescAttributes_t attribute, int32_t value) {
    check(library_.matmul_set(operation, attribute, &value, sizeof value), "MatmulDescSetAttribute", p);
  };
  set(CUBLASLT_MATMUL_DESC_TRANSA, p.b.transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(CUBLASLT_MATMUL_DESC_TRANSB, p.a.transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue_of(p));
  if (p.bias) {
    set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, output);
    set_bias(p, operation);  // the heuristics look at its alignment
  }
  // Rows and columns as cuBLASLt counts them: of a row-major matrix (rows, columns), (columns, rows).
  const auto layout = [&](OwnedLayout* owned, cudaDataType_t type, int64_t rows, int64_t columns, int64_t ld) {
    cublasLtMatrixLayout_t created = nullptr;
    check(library_.layout_create(&created, type, static_cast<uint64_t>(columns), static_cast<uint64_t>(rows), ld),
          "MatrixLayoutCreate", p);
    owned->reset(created);
  };
  layout(&plan->a, input, p.b.transposed ? p.n : p.k, p.b.transposed ? p.k : p.n, p.b.ld);
  layout(&plan->b, input, p.a.transposed ? p.k : p.m, p.a.transposed ? p.m : p.k, p.a.ld);
  layout(&plan->c, output, p.m, p.n, p.ldc);
  find_candidates(p, plan.get());
  return plan;
}

void MatrixProducts::find_candidates(const MatrixProduct& p, Plan* plan) const {
  cublasLtMatmulPreference_t created = nullptr;
  check(library_.preference_create(&created), "MatmulPreferenceCreate", p);
  const OwnedPreference preference(created, library_.preference_destroy);
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
    check(library_.preference_set(created, attribute, &value, sizeof value), "MatmulPreferenceSetAttribute", p);
  };
  const Alignments alignments = alignments_of(p);
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspaceLimit);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignments.b);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignments.a);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignments.c);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignments.c);
  // Products split along k keep their partial sums in f32. The other schemes round them to the result's type, which may
  // be f32, too; one of them adds to the result in place, and only the first is sure to be the same in every run.
  const bool any_scheme = p.output == DType::kF32 && !settings_.deterministic;
  set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      static_cast<uint32_t>(any_scheme ? CUBLASLT_REDUCTION_SCHEME_MASK : CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  plan->candidates.resize(kCandidates);
  int found = 0;
  const cublasStatus_t status =
      library_.heuristic(handle_, plan->operation.get(), plan->a.get(), plan->b.get(), plan->c.get(), plan->c.get(),
                         created, kCandidates, plan->candidates.data(), &found);
  if (status != CUBLAS_STATUS_NOT_SUPPORTED) check(status, "MatmulAlgoGetHeuristic", p);
  plan->candidates.resize(static_cast<size_t>(found));
  keep_usable(p, plan);
  if (plan->candidates.empty()) fail("cuBLASLt ", library_.version(), " has no algorithm for the ", describe(p));
  if (!settings_.deterministic) append_split_candidates(p, plan);
}

// Algorithms that may lose the end of k are left out, or asked to sum k whole where there are no others.
void MatrixProducts::keep_usable(const MatrixProduct& p, Plan* plan) const {
  const std::vector<cublasLtMatmulHeuristicResult_t> offered = std::move(plan->candidates);
  plan->candidates.clear();
  std::vector<cublasLtMatmulHeuristicResult_t> losing;
  for (const cublasLtMatmulHeuristicResult_t& candidate : offered) {
    if (candidate.state != CUBLAS_STATUS_SUCCESS || candidate.workspaceSize > kWorkspaceLimit) continue;
    const int32_t parts = algorithm_number(candidate.algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM).value_or(1);
    (may_lose_tail(p.k, parts) ? losing : plan->candidates).push_back(candidate);
  }
  if (!plan->candidates.empty()) return;
  for (const cublasLtMatmulHeuristicResult_t& candidate : losing) append_split(candidate, /*parts=*/1, plan);
}

// Algorithms that leave most of the GPU idle, with k split into so many parts that they would not, where the library
// says that it can. They are only tried: the first choice stays the library's.
void MatrixProducts::append_split_candidates(const MatrixProduct& p, Plan* plan) const {
  std::set<int32_t> tried;
  const std::vector<cublasLtMatmulHeuristicResult_t> offered = plan->candidates;
  for (const cublasLtMatmulHeuristicResult_t& candidate : offered) {
    if (candidate.wavesCount <= 0 || candidate.wavesCount > 0.5f) continue;
    const std::optional<int32_t> id = algorithm_number(candidate.algo, CUBLASLT_ALGO_CONFIG_ID);
    const std::optional<int32_t> split = algorithm_number(candidate.algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM);
    if (!id || !split || *split > 1 || !can_split(candidate.algo)) continue;
    if (tried.size() == kSplitAlgorithms || !tried.insert(*id).second) continue;
    const int64_t most = std::min(static_cast<int64_t>(1 / candidate.wavesCount), p.k / kLeastPart);
    int32_t parts = 1;
    while (parts * 2 <= most) parts *= 2;
    for (const int32_t each : {parts, parts / 2})
      if (each > 1 && !may_lose_tail(p.k, each)) append_split(candidate, each, plan);
  }
}

void MatrixProducts::append_split(const cublasLtMatmulHeuristicResult_t& candidate, int32_t parts, Plan* plan) const {
  cublasLtMatmulHeuristicResult_t split = candidate;
  const auto set = [&](cublasLtMatmulAlgoConfigAttributes_t attribute, auto value) {
    return library_.algorithm_set(&split.algo, attribute, &value, sizeof value) == CUBLAS_STATUS_SUCCESS;
  };
  const auto scheme = parts > 1 ? CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE : CUBLASLT_REDUCTION_SCHEME_NONE;
  if (!set(CUBLASLT_ALGO_CONFIG_SPLITK_NUM, parts) ||
      !set(CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, static_cast<uint32_t>(scheme)))
    return;
  const cublasStatus_t status = library_.algorithm_check(handle_, plan->operation.get(), plan->a.get(), plan->b.get(),
                                                         plan->c.get(), plan->c.get(), &split.algo, &split);
  if (status == CUBLAS_STATUS_SUCCESS && split.workspaceSize <= kWorkspaceLimit) plan->candidates.push_back(split);
}

std::optional<int32_t> MatrixProducts::algorithm_number(const cublasLtMatmulAlgo_t& algorithm,
                                                        cublasLtMatmulAlgoConfigAttributes_t attribute) const {
  int32_t value = 0;
  size_t written = 0;
  if (library_.algorithm_get(&algorithm, attribute, &value, sizeof value, &written) != CUBLAS_STATUS_SUCCESS) return {};
  return value;
}

bool MatrixProducts::can_split(const cublasLtMatmulAlgo_t& algorithm) const {
  int32_t value = 0;
  size_t written = 0;
  const cublasStatus_t status =
      library_.algorithm_can(&algorithm, CUBLASLT_ALGO_CAP_SPLITK_SUPPORT, &value, sizeof value, &written);
  return status == CUBLAS_STATUS_SUCCESS && value != 0;
}

void MatrixProducts::set_bias(const MatrixProduct& p, cublasLtMatmulDesc_t operation) const {
  check(library_.matmul_set(operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p.bias, sizeof p.bias),
        "MatmulDescSetAttribute", p);
}

// Kernels read the bias in vectors, and no preference tells the library of an alignment below theirs: a slice of folded
// biases, such as 29 channels of bf16 in, goes through an aligned copy.
MatrixProduct MatrixProducts::with_aligned_bias(const MatrixProduct& p, Tensor* copy) const {
  if (is_aligned(p.bias)) return p;
  const size_t bytes = static_cast<size_t>(p.n) * size_of(p.output);
  *copy = workspace_of(scratch_, bytes);
  RIFFLE_CUDA(cudaMemcpyAsync(copy->raw(), p.bias, bytes, cudaMemcpyDeviceToDevice, stream_.get()));
  MatrixProduct aligned = p;
  aligned.bias = copy->raw();
  return aligned;
}

cublasStatus_t MatrixProducts::launch(const MatrixProduct& p, const Plan& plan, size_t candidate) const {
  const cublasLtMatmulHeuristicResult_t& algorithm = plan.candidates[candidate];
  if (p.bias) set_bias(p, plan.operation.get());
  const Tensor workspace = workspace_of(scratch_, algorithm.workspaceSize);
  const float alpha = 1, beta = p.accumulate ? 1 : 0;
  return library_.matmul(handle_, plan.operation.get(), &alpha, p.b.data, plan.a.get(), p.a.data, plan.b.get(), &beta,
                         p.c, plan.c.get(), p.c, plan.c.get(), &algorithm.algo, workspace.raw(),
                         algorithm.workspaceSize, stream_.get());
}

// Times the candidates and keeps the quickest, or the first that runs where the choice must not depend on timings:
// lists of heuristics are estimates, and an entry may be refused. Writes c, so not where c is added to.
void MatrixProducts::choose(const MatrixProduct& p, Plan* plan) {
  if (plan->settled || p.accumulate || stream_.capturing()) return;
  float least = std::numeric_limits<float>::infinity();
  const bool time = !settings_.deterministic && plan->candidates.size() > 1;
  for (size_t i = 0; i < plan->candidates.size(); ++i) {
    if (!runs([&] { return launch(p, *plan, i) == CUBLAS_STATUS_SUCCESS; })) continue;
    const auto work = [&] { check(launch(p, *plan, i), "Matmul", p); };
    const float ms = time ? least_milliseconds(stream_, work, least) : 0;
    if (ms >= least) continue;
    least = ms;
    plan->chosen = i;
    if (!time) break;
  }
  plan->settled = true;
  const cublasLtMatmulAlgo_t& algorithm = plan->candidates[plan->chosen].algo;
  const std::optional<int32_t> id = algorithm_number(algorithm, CUBLASLT_ALGO_CONFIG_ID);
  const int32_t split = algorithm_number(algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM).value_or(1);
  std::string how = time
                        ? join(", ", least * 1e3f, " us, candidate ", plan->chosen + 1, " of ", plan->candidates.size())
                        : std::string(", the library's first choice");
  choices_.push_back(join(describe(p), ": algorithm ", id ? std::to_string(*id) : "unknown",
                          split > 1 ? join(" in ", split, " parts") : std::string(), how));
}

void MatrixProducts::multiply(const MatrixProduct& product) {
  if (product.m == 0 || product.n == 0) return;
  Tensor bias;
  const MatrixProduct p = with_aligned_bias(product, &bias);
  Plan& plan = plan_for(p);
  choose(p, &plan);
  cublasStatus_t status = launch(p, plan, plan.chosen);
  for (size_t i = plan.chosen + 1; !plan.settled && status != CUBLAS_STATUS_SUCCESS && i < plan.candidates.size(); ++i)
    status = launch(p, plan, i);
  check(status, "Matmul", p);
}

bool MatrixProducts::fuses_relu(const MatrixProduct& product) {
  if (product.m == 0 || product.n == 0) return true;
  RIFFLE_CHECK(product.relu && product.bias, describe(product), ": has no ReLU to fuse");
  Tensor bias;
  const MatrixProduct p = with_aligned_bias(product, &bias);
  Plan& plan = plan_for(p);
  if (plan.relu_tried || stream_.capturing()) return plan.relu_keeps_nan;
  choose(p, &plan);
  const size_t size = size_of(p.output);
  const size_t bias_bytes = static_cast<size_t>(p.n) * size;
  const Tensor nans = workspace_of(scratch_, bias_bytes);
  RIFFLE_CUDA(cudaMemsetAsync(nans.raw(), 0xff, bias_bytes, stream_.get()));  // NaN in each of the three dtypes
  MatrixProduct poisoned = p;
  poisoned.bias = nans.raw();
  check(launch(poisoned, plan, plan.chosen), "Matmul", p);
  const auto last = static_cast<const char*>(p.c) + static_cast<size_t>((p.m - 1) * p.ldc + p.n - 1) * size;
  dispatch_dtype(p.output, [&](auto zero) {
    decltype(zero) value{};
    RIFFLE_CUDA(cudaMemcpyAsync(&value, last, size, cudaMemcpyDeviceToHost, stream_.get()));
    stream_.synchronize();
    plan.relu_keeps_nan = std::isnan(to_float(value));
  });
  plan.relu_tried = true;
  return plan.relu_keeps_nan;
}

}  // namespace riffle
