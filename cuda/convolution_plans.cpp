// cuDNN names tensors by their dimensions in the order N,C,H,W, whatever their strides say about memory; ours are
// channels-last. Paddings before and after are given separately, so TensorFlow's SAME needs no copy.
#include "cuda/convolution_plans.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace riffle {
namespace {

// The most candidates: of the heuristics, and of the engines that run where those do not.
constexpr size_t kCandidates = 10, kFallbacks = 2;
// The workspaces of engines that lose stay in the allocator's cache, so this bounds what trying them costs in memory.
// Tensor cores read channels in eights: with three, as in the stem, an engine first makes a padded copy of its input in the
// workspace, so the limit grows with the tensors.
int64_t workspace_limit(const Convolution& c) {
  int64_t bytes = 0;
  for (const Tensor* tensor : {&c.x, &c.w, &c.y})
    bytes += tensor->elements() * static_cast<int64_t>(size_of(tensor->dtype()));
  return std::max(int64_t{256} << 20, 2 * bytes);
}
constexpr uint32_t kAlignmentLimit = 16;  // bytes; cuDNN's kernels use no more
enum TensorName : int64_t { kX = 1, kW, kY };

cudnnDataType_t data_type(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return CUDNN_DATA_FLOAT;
    case DType::kBF16:
      return CUDNN_DATA_BFLOAT16;
    case DType::kF16:
      return CUDNN_DATA_HALF;
    default:
      fail("no convolutions of dtype ", dtype, " on CUDA; f32, bf16 and f16 have them");
  }
}

int64_t alignment_of(const Tensor& tensor) {
  return common_alignment(tensor.raw(), {}, kAlignmentLimit);
}

const char* name_of(ConvolutionPass pass) {
  switch (pass) {
    case ConvolutionPass::kForward:
      return "convolution";
    case ConvolutionPass::kBackwardData:
      return "convolution, data gradient";
    default:
      return "convolution, weight gradient";
  }
}

std::string describe(const Convolution& c) {
  const Padding& p = c.window.padding;
  return join(name_of(c.pass), " ", c.x.dtype(), ", x ", c.x.shape(), ", w ", c.w.shape(), ", stride ", c.window.stride,
              ", padding ", p.top, ",", p.bottom, ",", p.left, ",", p.right, ", alignments ", alignment_of(c.x), ",",
              alignment_of(c.w), ",", alignment_of(c.y));
}

// Filters K,R,S,C are tensors of K images of R x S pixels.
CudnnDescriptor tensor_descriptor(const Cudnn& library, TensorName name, const Tensor& tensor) {
  const Shape& s = tensor.shape();
  CudnnDescriptor descriptor(library, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  descriptor.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, static_cast<int64_t>(name));
  descriptor.set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, data_type(tensor.dtype()));
  descriptor.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, alignment_of(tensor));
  descriptor.set(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, std::vector<int64_t>{s.n, s.c, s.h, s.w});
  descriptor.set(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, std::vector<int64_t>{s.h * s.w * s.c, 1, s.w * s.c, s.c});
  descriptor.finalize("tensor");
  return descriptor;
}

CudnnDescriptor window_descriptor(const Cudnn& library, const Window& window) {
  CudnnDescriptor descriptor(library, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
  const auto pair = [&](cudnnBackendAttributeName_t name, int64_t vertical, int64_t horizontal) {
    descriptor.set(name, CUDNN_TYPE_INT64, std::vector<int64_t>{vertical, horizontal});
  };
  descriptor.set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, int64_t{2});
  descriptor.set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
  descriptor.set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, CUDNN_CROSS_CORRELATION);
  pair(CUDNN_ATTR_CONVOLUTION_DILATIONS, 1, 1);
  pair(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, window.stride, window.stride);
  pair(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, window.padding.top, window.padding.left);
  pair(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, window.padding.bottom, window.padding.right);
  descriptor.finalize("convolution");
  return descriptor;
}

// The names that the three kinds of operation give to the same attributes.
struct OperationNames {
  cudnnBackendDescriptorType_t type;
  cudnnBackendAttributeName_t alpha, beta, window, x, w, y;
};

OperationNames operation_names(ConvolutionPass pass) {
  switch (pass) {
    case ConvolutionPass::kForward:
      return {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y};
    case ConvolutionPass::kBackwardData:
      return {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY};
    default:
      return {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY};
  }
}

}  // namespace

ConvolutionPlans::ConvolutionPlans(const Cudnn& library, const Stream& stream, ScratchBytes scratch,
                                   const LibrarySettings& settings)
    : library_(library), stream_(stream), scratch_(std::move(scratch)), settings_(settings) {
  check_cudnn(library_, library_.create(&handle_), "create");
  const cudnnStatus_t status = library_.set_stream(handle_, stream_.get());
  if (status != CUDNN_STATUS_SUCCESS) library_.destroy(handle_);
  check_cudnn(library_, status, "set_stream");
}

ConvolutionPlans::~ConvolutionPlans() {
  problems_.clear();
  library_.destroy(handle_);
}

ConvolutionPlans::Graph ConvolutionPlans::make_graph(const Convolution& c) const {
  const OperationNames names = operation_names(c.pass);
  Graph graph{
      window_descriptor(library_, c.window), tensor_descriptor(library_, kX, c.x),
      tensor_descriptor(library_, kW, c.w),  tensor_descriptor(library_, kY, c.y),
      CudnnDescriptor(library_, names.type), CudnnDescriptor(library_, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR)};
  graph.operation.set(names.alpha, CUDNN_TYPE_FLOAT, 1.0f);
  graph.operation.set(names.beta, CUDNN_TYPE_FLOAT, 0.0f);
  graph.operation.set(names.window, graph.window);
  graph.operation.set(names.x, graph.x);
  graph.operation.set(names.w, graph.w);
  graph.operation.set(names.y, graph.y);
  graph.operation.finalize("operation");
  graph.graph.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, handle_);
  graph.graph.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, graph.operation);
  graph.graph.finalize("operation graph");
  return graph;
}

// Sums stay in f32, and no transform (FFT, Winograd) trades accuracy for multiplications. Tensor cores take factors of
// 16 bits as they are, but round those of f32 to tf32.
bool ConvolutionPlans::is_wanted(const CudnnDescriptor& engine, bool keep_f32) const {
  const auto notes = engine.values<cudnnBackendNumericalNote_t>(
      CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, CUDNN_NUMERICAL_NOTE_TYPE_COUNT);
  return std::all_of(notes.begin(), notes.end(), [&](cudnnBackendNumericalNote_t note) {
    switch (note) {
      case CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP:
        return true;
      case CUDNN_NUMERICAL_NOTE_TENSOR_CORE:
        return !keep_f32;
      case CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC:
        return !settings_.deterministic;
      default:
        return false;
    }
  });
}

void ConvolutionPlans::ask(cudnnBackendHeurMode_t mode, size_t room, Problem* problem) const {
  problem->offers.clear();
  problem->planned = 0;
  problem->room = room;
  CudnnDescriptor heuristics(library_, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  heuristics.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, problem->graph.graph);
  heuristics.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, mode);
  if (!heuristics.try_finalize()) return;
  std::vector<CudnnDescriptor> configurations =
      heuristics.fill(CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
  for (CudnnDescriptor& configuration : configurations) {
    const std::vector<CudnnDescriptor> engines =
        configuration.fill(CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    if (engines.size() != 1 || !is_wanted(engines.front(), problem->keep_f32)) continue;
    const auto engine = engines.front().value<int64_t>(CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64);
    problem->offers.push_back({std::move(configuration), engine});
  }
}

bool ConvolutionPlans::add_candidate(Problem* problem) const {
  while (problem->room > 0 && problem->planned < problem->offers.size()) {
    Offer& offer = problem->offers[problem->planned++];
    CudnnDescriptor plan(library_, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    plan.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, handle_);
    plan.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, offer.configuration);
    if (!plan.try_finalize()) continue;  // heuristics are estimates
    const auto bytes = plan.value<int64_t>(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64);
    if (bytes > problem->workspace_limit) continue;
    problem->candidates.push_back({std::move(offer.configuration), std::move(plan), bytes, offer.engine});
    --problem->room;
    return true;
  }
  return false;
}

// The fallback's engines run anything, but slowly: they are asked for where nothing else ran.
bool ConvolutionPlans::has_candidate(size_t index, bool none_ran, Problem* problem) const {
  while (problem->candidates.size() <= index) {
    if (add_candidate(problem)) continue;
    if (!none_ran || problem->fallback_asked) return false;
    ask(CUDNN_HEUR_MODE_FALLBACK, kFallbacks, problem);
    problem->fallback_asked = true;
  }
  return true;
}

ConvolutionPlans::Problem& ConvolutionPlans::problem_for(const Convolution& c) {
  RIFFLE_CHECK(c.x.packed() && c.w.packed() && c.y.packed() && c.x.dtype() == c.w.dtype() && c.x.dtype() == c.y.dtype(),
               describe(c), ": tensors must be packed and of one dtype");
  const Shape &x = c.x.shape(), &w = c.w.shape();
  const Padding& p = c.window.padding;
  const Key key{static_cast<int64_t>(c.pass),
                static_cast<int64_t>(c.x.dtype()),
                x.n,
                x.h,
                x.w,
                x.c,
                w.n,
                w.h,
                w.w,
                w.c,
                c.window.stride,
                p.top,
                p.bottom,
                p.left,
                p.right,
                alignment_of(c.x),
                alignment_of(c.w),
                alignment_of(c.y)};
  const auto known = problems_.find(key);
  if (known != problems_.end()) return known->second;
  const bool keep_f32 = c.x.dtype() == DType::kF32 && !settings_.tf32;
  Problem problem{make_graph(c), keep_f32, workspace_limit(c), {}, {}};
  ask(CUDNN_HEUR_MODE_A, kCandidates, &problem);
  if (!has_candidate(0, /*none_ran=*/true, &problem))
    fail("cuDNN ", library_.version(), " has no engine for ", describe(c), ": ", last_account(library_));
  return problems_.emplace(key, std::move(problem)).first->second;
}

cudnnStatus_t ConvolutionPlans::execute(const Convolution& c, const Candidate& candidate) const {
  const Tensor workspace = workspace_of(scratch_, static_cast<size_t>(candidate.workspace_bytes));
  CudnnDescriptor pack(library_, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, std::vector<int64_t>{kX, kW, kY});
  pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR,
           std::vector<void*>{c.x.raw(), c.w.raw(), c.y.raw()});
  pack.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, workspace.raw());
  pack.finalize("variant pack");
  return library_.execute(handle_, candidate.plan.get(), pack.get());
}

// Times the candidates and keeps the quickest, or takes the first that runs where the choice must not depend on timings:
// an engine may turn out not to run.
void ConvolutionPlans::choose(const Convolution& c, Problem* problem) {
  if (problem->settled || stream_.capturing()) return;
  float least = std::numeric_limits<float>::infinity();
  const std::vector<Candidate>& candidates = problem->candidates;
  const bool time = !settings_.deterministic && has_candidate(1, /*none_ran=*/false, problem);
  for (size_t i = 0; has_candidate(i, /*none_ran=*/std::isinf(least), problem); ++i) {
    if (!runs([&] { return execute(c, candidates[i]) == CUDNN_STATUS_SUCCESS; })) continue;
    const auto work = [&] { check_cudnn(library_, execute(c, candidates[i]), "execute"); };
    const float ms = time ? least_milliseconds(stream_, work, least) : 0;
    if (ms >= least) continue;
    least = ms;
    problem->chosen = i;
    if (!time) break;
  }
  problem->settled = true;
  problem->offers.clear();
  const Candidate& chosen = candidates[problem->chosen];
  const std::string how = time ? join(least * 1e3f, " us, quickest of ", candidates.size()) : std::string("the first");
  choices_.push_back(
      join(describe(c), ": engine ", chosen.engine, ", ", how, ", workspace ", chosen.workspace_bytes >> 10, " KiB"));
}

void ConvolutionPlans::run(const Convolution& c) {
  Problem& problem = problem_for(c);
  choose(c, &problem);
  const std::vector<Candidate>& candidates = problem.candidates;
  cudnnStatus_t status = execute(c, candidates[problem.chosen]);
  const auto must_try = [&](size_t i) {
    return !problem.settled && status != CUDNN_STATUS_SUCCESS && has_candidate(i, /*none_ran=*/true, &problem);
  };
  for (size_t i = 1; must_try(i); ++i) status = execute(c, candidates[i]);
  check_cudnn(library_, status, describe(c));
}

}  // namespace riffle
