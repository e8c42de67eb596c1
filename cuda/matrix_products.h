// Matrix products of row-major matrices by cuBLASLt. Algorithms come from its heuristics, once for each problem
// (shapes, pitches, alignments, types, epilogue), the best few of them timed, and are kept. Weight gradients have short
// results and sums over all pixels, which fill a GPU only if the sums are split: the heuristics' algorithms are also
// tried with splits of ours.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cuda/libraries.h"
#include "cuda/library_support.h"

namespace riffle {

// A row-major matrix in device memory whose rows begin `ld` elements apart, as stored, or its transpose.
struct ProductFactor {
  const void* data = nullptr;
  int64_t ld = 0;
  bool transposed = false;
};

// c (m,n) = a (m,k) * b (k,n), sums in f32; then + bias[n], then max(0, c). With `accumulate`, c is added to instead.
struct MatrixProduct {
  int64_t m = 0, n = 0, k = 0;
  DType input = DType::kF32;   // of a and b: f32, bf16 or f16
  DType output = DType::kF32;  // of c and bias: as `input`, or f32
  ProductFactor a, b;
  void* c = nullptr;
  int64_t ldc = 0;
  const void* bias = nullptr;  // (n), or null
  bool relu = false;           // needs a bias; ask fuses_relu() first
  bool accumulate = false;     // without bias and ReLU
};

class MatrixProducts {
 public:
  // Products are queued on `stream`; `library` and `stream` must outlive this. Throws where cuBLASLt refuses a handle.
  MatrixProducts(const CublasLt& library, const Stream& stream, ScratchBytes scratch, const LibrarySettings& settings);
  ~MatrixProducts();
  MatrixProducts(const MatrixProducts&) = delete;
  MatrixProducts& operator=(const MatrixProducts&) = delete;

  // Throws where cuBLASLt has no algorithm for the product. Nothing happens where m or n is 0; k is positive.
  void multiply(const MatrixProduct& product);
  // Whether the library's ReLU keeps NaN for this product (with relu set), which core/backend.h demands and NVIDIA does
  // not state. Tried once for each problem, with a bias of NaN; overwrites c. No while a graph is captured, if not
  // known by then.
  bool fuses_relu(const MatrixProduct& product);
  // One line for each problem whose algorithm was chosen.
  const std::vector<std::string>& choices() const { return choices_; }

 private:
  using Key = std::array<int64_t, 15>;
  struct Plan;

  Plan& plan_for(const MatrixProduct& product);
  std::unique_ptr<Plan> build_plan(const MatrixProduct& product) const;
  void find_candidates(const MatrixProduct& product, Plan* plan) const;
  // Of what the heuristics offered, what can be used.
  void keep_usable(const MatrixProduct& product, Plan* plan) const;
  void append_split_candidates(const MatrixProduct& product, Plan* plan) const;
  // `candidate` with k in `parts` parts, or whole (1), unless the library refuses that.
  void append_split(const cublasLtMatmulHeuristicResult_t& candidate, int32_t parts, Plan* plan) const;
  // A configuration attribute that is an int32_t; nothing where the library does not tell it.
  std::optional<int32_t> algorithm_number(const cublasLtMatmulAlgo_t& algorithm,
                                          cublasLtMatmulAlgoConfigAttributes_t attribute) const;
  bool can_split(const cublasLtMatmulAlgo_t& algorithm) const;
  void choose(const MatrixProduct& product, Plan* plan);
  void set_bias(const MatrixProduct& product, cublasLtMatmulDesc_t operation) const;
  MatrixProduct with_aligned_bias(const MatrixProduct& product, Tensor* copy) const;
  cublasStatus_t launch(const MatrixProduct& product, const Plan& plan, size_t candidate) const;
  void check(cublasStatus_t status, const char* call, const MatrixProduct& product) const;

  const CublasLt& library_;
  const Stream& stream_;
  ScratchBytes scratch_;
  LibrarySettings settings_;
  cublasLtHandle_t handle_ = nullptr;
  std::map<Key, std::unique_ptr<Plan>> plans_;
  std::vector<std::string> choices_;
};

}  // namespace riffle
