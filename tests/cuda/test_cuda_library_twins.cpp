// That the twins of cuBLASLt and cuDNN refuse what the libraries refuse: one rule broken at a time, by calls of the
// libraries' functions as they are.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "cuda/cudnn_descriptor.h"
#include "cuda/emulation/library_twins.h"
#include "cuda/status.h"
#include "tests/cuda/device_tensors.h"

namespace riffle {
namespace {

// A refused call must have been refused for this reason, not another.
class LibraryTwins : public testing::Test {
 protected:
  LibraryTwins() { emulation::clear_complaints(); }
  ~LibraryTwins() override { EXPECT_EQ(emulation::misuse_count(), 0) << emulation::last_complaint(); }

  static void expect_refused(bool refused, const std::string& reason, int misuses = 1) {
    EXPECT_TRUE(refused) << reason;
    EXPECT_NE(emulation::last_complaint().find(reason), std::string::npos)
        << "instead of \"" << reason << "\": " << emulation::last_complaint();
    EXPECT_EQ(emulation::misuse_count(), misuses) << reason;
    emulation::clear_complaints();
  }
};

// --- cuBLASLt ---

// D = A * B of 16 x 16 matrices, or others that the caller puts in their place.
class CublasLtTwin : public LibraryTwins {
 protected:
  CublasLtTwin() : lt_(cublas_lt()) {
    lt_.create(&handle_);
    lt_.matmul_create(&operation_, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    lt_.preference_create(&preference_);
    const uint64_t workspace_bytes = 1 << 20;
    lt_.preference_set(preference_, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace_bytes, sizeof workspace_bytes);
    a_ = b_ = c_ = d_ = layout(16, 16, 16);
  }
  ~CublasLtTwin() override {
    for (cublasLtMatrixLayout_t each : layouts_) lt_.layout_destroy(each);
    lt_.preference_destroy(preference_);
    lt_.matmul_destroy(operation_);
    lt_.destroy(handle_);
  }

  cublasLtMatrixLayout_t layout(uint64_t rows, uint64_t columns, int64_t ld, cudaDataType_t type = CUDA_R_16BF) {
    layouts_.push_back(nullptr);
    lt_.layout_create(&layouts_.back(), type, rows, columns, ld);
    return layouts_.back();
  }
  template <class T>
  cublasStatus_t set(cublasLtMatmulDescAttributes_t attribute, T value) {
    return lt_.matmul_set(operation_, attribute, &value, sizeof value);
  }
  void set_alignment_of_a(uint32_t bytes) {
    lt_.preference_set(preference_, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &bytes, sizeof bytes);
  }
  cublasStatus_t search() {
    int found = 0;
    return lt_.heuristic(handle_, operation_, a_, b_, c_, d_, preference_, 1, &result_, &found);
  }
  cublasStatus_t run(const void* a, void* d, void* workspace = nullptr, size_t workspace_bytes = 0) {
    const float one = 1, zero = 0;
    return lt_.matmul(handle_, operation_, &one, a, a_, a, b_, &zero, d, c_, d, d_, &result_.algo, workspace,
                      workspace_bytes, nullptr);
  }

  const CublasLt& lt_;
  cublasLtHandle_t handle_ = nullptr;
  cublasLtMatmulDesc_t operation_ = nullptr;
  cublasLtMatmulPreference_t preference_ = nullptr;
  std::vector<cublasLtMatrixLayout_t> layouts_;
  cublasLtMatrixLayout_t a_ = nullptr, b_ = nullptr, c_ = nullptr, d_ = nullptr;
  cublasLtMatmulHeuristicResult_t result_{};
  const Tensor memory_ = device_tensor({16, 1, 1, 32}, DType::kBF16, std::vector<double>(512, 0.0));
  char* const factor_ = static_cast<char*>(memory_.raw());
  char* const target_ = factor_ + 512;
};

// The twin holds a split to its workspace.
TEST_F(CublasLtTwin, ChecksSplits) {
  ASSERT_EQ(search(), CUBLAS_STATUS_SUCCESS);  // which finds the algorithm for aligned data
  const auto split_with = [&](int32_t parts, uint32_t scheme) {
    EXPECT_EQ(lt_.algorithm_set(&result_.algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &parts, sizeof parts),
              CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(lt_.algorithm_set(&result_.algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &scheme, sizeof scheme),
              CUBLAS_STATUS_SUCCESS);
    return lt_.algorithm_check(handle_, operation_, a_, b_, c_, d_, &result_.algo, &result_);
  };
  EXPECT_EQ(split_with(4, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE), CUBLAS_STATUS_NOT_SUPPORTED) << "cannot split";
  set_alignment_of_a(2);
  ASSERT_EQ(search(), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(split_with(4, CUBLASLT_REDUCTION_SCHEME_NONE), CUBLAS_STATUS_NOT_SUPPORTED) << "no scheme";
  ASSERT_EQ(split_with(4, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(result_.workspaceSize, 4u * 16 * 16 * sizeof(float));
  expect_refused(run(factor_, target_) == CUBLAS_STATUS_INVALID_VALUE, "the workspace is too small");
}

TEST_F(CublasLtTwin, ChecksMatricesInMemory) {
  ASSERT_EQ(search(), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(run(factor_, target_), CUBLAS_STATUS_SUCCESS);
  RIFFLE_CUDA(cudaDeviceSynchronize());
  // The algorithm was asked for aligned data.
  expect_refused(run(factor_ + 2, target_) == CUBLAS_STATUS_INVALID_VALUE, "A is not aligned");
  std::vector<char> host(512);
  expect_refused(run(factor_, host.data()) == CUBLAS_STATUS_INVALID_VALUE, "C is not in device memory");
  expect_refused(run(factor_, target_ + 256) == CUBLAS_STATUS_INVALID_VALUE, "C is not in device memory");
  set_alignment_of_a(2);
  ASSERT_EQ(search(), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(run(factor_ + 2, target_), CUBLAS_STATUS_SUCCESS) << emulation::last_complaint();
  RIFFLE_CUDA(cudaDeviceSynchronize());
}

TEST_F(CublasLtTwin, ChecksWorkspaces) {
  ASSERT_EQ(search(), CUBLAS_STATUS_SUCCESS);
  const Tensor memory = device_memory(vector_shape(1024), DType::kU8);
  char* const workspace = static_cast<char*>(memory.raw());
  EXPECT_EQ(run(factor_, target_, workspace, 512), CUBLAS_STATUS_SUCCESS) << emulation::last_complaint();
  RIFFLE_CUDA(cudaDeviceSynchronize());
  for (char* const wrong : {workspace + 16, workspace + 768, static_cast<char*>(nullptr)})
    expect_refused(run(factor_, target_, wrong, 512) == CUBLAS_STATUS_INVALID_VALUE,
                   "the workspace is not in device memory, or not aligned to 256 bytes");
}

TEST_F(CublasLtTwin, ChecksShapes) {
  const auto search_with = [&](cublasLtMatrixLayout_t* which, cublasLtMatrixLayout_t layout) {
    const cublasLtMatrixLayout_t before = *which;
    *which = layout;
    const cublasStatus_t status = search();
    *which = before;
    return status == CUBLAS_STATUS_INVALID_VALUE;
  };
  expect_refused(search_with(&a_, layout(16, 16, 15)), "a leading dimension below the rows");
  expect_refused(search_with(&d_, layout(16, 16, 15)), "a leading dimension below the rows");
  expect_refused(search_with(&b_, layout(8, 16, 16)), "inner dimensions of A and B differ");
  expect_refused(search_with(&d_, layout(16, 8, 16)), "D is not what A times B makes");
  expect_refused(search_with(&c_, layout(16, 8, 16)), "C is not like D");
  expect_refused(search_with(&c_, layout(16, 16, 16, CUDA_R_32F)), "C is not like D");
  ASSERT_EQ(search(), CUBLAS_STATUS_SUCCESS);
  c_ = layout(16, 16, 16);
  expect_refused(run(factor_, target_) == CUBLAS_STATUS_INVALID_VALUE, "C in place of D needs D's layout");
}

TEST_F(CublasLtTwin, ChecksTypes) {
  a_ = b_ = c_ = d_ = layout(16, 16, 16, CUDA_R_64F);
  EXPECT_EQ(search(), CUBLAS_STATUS_NOT_SUPPORTED) << "f64 factors with f32 sums";
}

TEST_F(CublasLtTwin, ChecksTheBias) {
  EXPECT_EQ(set(CUBLASLT_MATMUL_DESC_EPILOGUE, uint32_t{CUBLASLT_EPILOGUE_BIAS}), CUBLAS_STATUS_SUCCESS);
  expect_refused(search() == CUBLAS_STATUS_INVALID_VALUE, "a bias that is not known to the heuristics");
  const Tensor memory = device_memory(vector_shape(64), DType::kBF16);
  const char* const bias = static_cast<const char*>(memory.raw());
  set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, static_cast<const void*>(bias + 2));
  expect_refused(search() == CUBLAS_STATUS_INVALID_VALUE, "a bias that is not aligned");
  set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, static_cast<const void*>(bias));
  for (int32_t type : {CUDA_R_32F, CUDA_R_16F}) {
    set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, type);
    expect_refused(search() == CUBLAS_STATUS_NOT_SUPPORTED, "types that cannot be combined", /*misuses=*/0);
  }
  set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, int32_t{CUDA_R_16BF});
  ASSERT_EQ(search(), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(run(factor_, target_), CUBLAS_STATUS_SUCCESS) << emulation::last_complaint();
  RIFFLE_CUDA(cudaDeviceSynchronize());
  set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, static_cast<const void*>(bias + 2));
  expect_refused(run(factor_, target_) == CUBLAS_STATUS_INVALID_VALUE, "a bias that is not aligned");
  set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, static_cast<const void*>(bias + 112));  // 16 bytes of it are there
  expect_refused(run(factor_, target_) == CUBLAS_STATUS_INVALID_VALUE, "the bias is not in device memory");
}

TEST_F(CublasLtTwin, ChecksWhatAlgorithmsAndAttributesBelongTo) {
  ASSERT_EQ(search(), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(set(CUBLASLT_MATMUL_DESC_TRANSA, int32_t{CUBLAS_OP_T}), CUBLAS_STATUS_SUCCESS);
  expect_refused(run(factor_, target_) == CUBLAS_STATUS_INVALID_VALUE, "the algorithm is of another problem");
  expect_refused(set(CUBLASLT_MATMUL_DESC_TRANSA, int64_t{CUBLAS_OP_T}) == CUBLAS_STATUS_INVALID_VALUE,
                 "an attribute of 4 bytes is set with 8");
}

// --- cuDNN ---

using Sizes = std::vector<int64_t>;  // in the order N,C,H,W

Sizes channels_last(const Sizes& d) {
  return {d[1] * d[2] * d[3], 1, d[1] * d[3], d[1]};
}

// A pointwise convolution of bf16 tensors, or others that the caller asks for.
class CudnnTwin : public LibraryTwins {
 protected:
  static constexpr int64_t kX = 1, kW = 2, kY = 3;
  static constexpr int64_t kEngineWithWorkspace = 7;

  CudnnTwin() : library_(cudnn()) { library_.create(&handle_); }
  ~CudnnTwin() override {
    if (handle_) library_.destroy(handle_);
  }

  CudnnDescriptor tensor(int64_t name, const Sizes& dimensions, const Sizes& strides, int64_t alignment = 16) const {
    CudnnDescriptor descriptor(library_, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    descriptor.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, name);
    descriptor.set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_BFLOAT16);
    descriptor.set(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, dimensions);
    descriptor.set(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, strides);
    descriptor.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, alignment);
    return descriptor;
  }

  struct Convolution {
    CudnnDescriptor x, w, y, window, operation;
  };
  // Its operation is not finalized.
  Convolution convolution(const Sizes& x, const Sizes& w, const Sizes& y) const {
    Convolution made{tensor(kX, x, channels_last(x)), tensor(kW, w, channels_last(w)), tensor(kY, y, channels_last(y)),
                     CudnnDescriptor(library_, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR),
                     CudnnDescriptor(library_, CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR)};
    for (CudnnDescriptor* each : {&made.x, &made.w, &made.y}) each->finalize("tensor");
    made.window.set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, int64_t{2});
    made.window.set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
    made.window.set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, CUDNN_CROSS_CORRELATION);
    made.window.set(CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, Sizes{1, 1});
    made.window.set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, Sizes{1, 1});
    made.window.set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, Sizes{0, 0});
    made.window.set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, Sizes{0, 0});
    made.window.finalize("convolution");
    made.operation.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_TYPE_FLOAT, 1.0f);
    made.operation.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, CUDNN_TYPE_FLOAT, 0.0f);
    made.operation.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, made.window);
    made.operation.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, made.x);
    made.operation.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, made.w);
    made.operation.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, made.y);
    return made;
  }
  // Not finalized.
  CudnnDescriptor graph_of(const CudnnDescriptor& operation) const {
    CudnnDescriptor graph(library_, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    graph.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, handle_);
    graph.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, operation);
    return graph;
  }
  // Not finalized; of the engine that wants a workspace.
  CudnnDescriptor plan_of(const CudnnDescriptor& graph) const {
    CudnnDescriptor heuristics(library_, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    heuristics.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    heuristics.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, CUDNN_HEUR_MODE_A);
    heuristics.finalize("heuristics");
    CudnnDescriptor plan(library_, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    plan.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, handle_);
    for (const CudnnDescriptor& configuration :
         heuristics.fill(CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR)) {
      const auto engines = configuration.fill(CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
      if (engines.front().value<int64_t>(CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64) != kEngineWithWorkspace)
        continue;
      plan.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, configuration);
      plan.finalize("plan");
    }
    return plan;
  }
  cudnnStatus_t execute(const CudnnDescriptor& plan, const std::vector<void*>& tensors, void* workspace,
                        cudnnHandle_t handle) const {
    CudnnDescriptor pack(library_, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, Sizes{kX, kW, kY});
    pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, tensors);
    pack.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, workspace);
    pack.finalize("variant pack");
    return library_.execute(handle, plan.get(), pack.get());
  }

  const Cudnn& library_;
  cudnnHandle_t handle_ = nullptr;
};

TEST_F(CudnnTwin, ChecksTensors) {
  CudnnDescriptor nothing(library_, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  expect_refused(!nothing.try_finalize(), "is missing");
  const Sizes sizes{2, 8, 3, 4};
  expect_refused(!tensor(kX, sizes, channels_last(sizes), /*alignment=*/1).try_finalize(),
                 "the alignment is no multiple");
  expect_refused(!tensor(kX, {2, 8, 0, 4}, channels_last(sizes)).try_finalize(), "must be positive");
  const Sizes pitched{3 * 4 * 10, 1, 4 * 10, 10}, padded_images{3 * 4 * 8 + 8, 1, 4 * 8, 8}, rows_swapped{96, 1, 8, 24};
  for (const Sizes& strides : {pitched, padded_images, rows_swapped})
    expect_refused(!tensor(kX, sizes, strides).try_finalize(), "the tensor is not packed");
  for (const Sizes& strides : {channels_last(sizes), Sizes{96, 12, 4, 1}})
    EXPECT_TRUE(tensor(kX, sizes, strides).try_finalize()) << emulation::last_complaint();
}

TEST_F(CudnnTwin, ChecksTheOrderOfCalls) {
  CudnnDescriptor x = tensor(kX, {1, 1, 1, 1}, {1, 1, 1, 1}, 2);
  CudnnDescriptor graph(library_, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  const auto throws = [](const auto& call) {
    try {
      call();
    } catch (const Error&) {
      return true;
    }
    return false;
  };
  expect_refused(throws([&] { graph.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, x); }), "a descriptor that is not finalized");
  ASSERT_TRUE(x.try_finalize()) << emulation::last_complaint();
  expect_refused(throws([&] { x.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, int64_t{2}); }),
                 "after the descriptor was finalized");
}

TEST_F(CudnnTwin, ChecksShapes) {
  EXPECT_TRUE(convolution({1, 8, 4, 4}, {6, 4, 1, 1}, {1, 6, 4, 4}).operation.try_finalize()) << "two groups";
  for (const Sizes& y : {Sizes{2, 6, 4, 4}, Sizes{1, 5, 4, 4}, Sizes{1, 6, 3, 4}, Sizes{1, 6, 4, 5}})
    expect_refused(!convolution({1, 8, 4, 4}, {6, 8, 1, 1}, y).operation.try_finalize(), "y is not what x, w");
  expect_refused(!convolution({1, 8, 4, 4}, {6, 3, 1, 1}, {1, 6, 4, 4}).operation.try_finalize(),
                 "channels do not make whole groups");
  expect_refused(!convolution({1, 8, 4, 4}, {5, 4, 1, 1}, {1, 5, 4, 4}).operation.try_finalize(),
                 "channels do not make whole groups");
}

TEST_F(CudnnTwin, ChecksHandles) {
  Convolution made = convolution({1, 8, 4, 4}, {8, 8, 1, 1}, {1, 8, 4, 4});
  made.operation.finalize("operation");
  CudnnDescriptor graph = graph_of(made.operation);
  library_.destroy(handle_);
  expect_refused(library_.destroy(handle_) != CUDNN_STATUS_SUCCESS, "no such handle");
  expect_refused(library_.set_stream(handle_, nullptr) != CUDNN_STATUS_SUCCESS, "no such handle");
  expect_refused(!graph.try_finalize(), "no such handle");
  handle_ = nullptr;
}

TEST_F(CudnnTwin, ChecksExecution) {
  Convolution made = convolution({1, 8, 4, 4}, {8, 8, 1, 1}, {1, 8, 4, 4});
  made.operation.finalize("operation");
  CudnnDescriptor graph = graph_of(made.operation);
  graph.finalize("graph");
  const CudnnDescriptor plan = plan_of(graph);
  const auto workspace_bytes = plan.value<int64_t>(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64);
  ASSERT_GT(workspace_bytes, 0);
  const Tensor tensors = device_tensor({3, 1, 1, 256}, DType::kBF16, std::vector<double>(768, 0.0));
  const Tensor scratch = device_memory(vector_shape(workspace_bytes + 256), DType::kU8);
  char* const x = static_cast<char*>(tensors.raw());
  char *const w = x + 512, *const y = x + 1024, *const workspace = static_cast<char*>(scratch.raw());
  const auto refused = [&](const std::vector<void*>& addresses, void* space, cudnnHandle_t handle) {
    return execute(plan, addresses, space, handle) == CUDNN_STATUS_BAD_PARAM;
  };
  EXPECT_EQ(execute(plan, {x, w, y}, workspace, handle_), CUDNN_STATUS_SUCCESS) << emulation::last_complaint();
  RIFFLE_CUDA(cudaDeviceSynchronize());
  expect_refused(refused({x + 2, w, y}, workspace, handle_), "a tensor is less aligned than its descriptor says");
  expect_refused(refused({x, w, y + 8}, workspace, handle_), "a tensor is less aligned than its descriptor says");
  std::vector<char> host(512);
  expect_refused(refused({x, w, host.data()}, workspace, handle_), "a tensor is not in device memory");
  expect_refused(refused({x, w, y + 512 - 16}, workspace, handle_), "a tensor is not in device memory");
  expect_refused(refused({x, w, y}, nullptr, handle_), "the workspace is too small or not in device memory");
  expect_refused(refused({x, w, y}, workspace + 512, handle_), "the workspace is too small or not in device memory");
  expect_refused(refused({x, w, y}, workspace + 128, handle_), "the workspace is not aligned");
  expect_refused(refused({x, w, y}, workspace, nullptr), "executing takes a handle");
}

}  // namespace
}  // namespace riffle
