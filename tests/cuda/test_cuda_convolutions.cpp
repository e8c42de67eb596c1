// ConvolutionPlans on the emulated device with the twin of cuDNN: results against plain loops, and what is chosen. Where NVIDIA's cuDNN is installed, it is asked too, without a GPU: given the
// properties of one, its heuristics answer and its plans are built, so that what we ask of it is known to be right.
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "cuda/convolution_plans.h"
#include "cuda/emulation/library_twins.h"
#include "cuda/status.h"
#include "tests/cuda/device_tensors.h"

namespace riffle {
namespace {

constexpr DType kDtypes[] = {DType::kF32, DType::kBF16, DType::kF16};
constexpr ConvolutionPass kPasses[] = {ConvolutionPass::kForward, ConvolutionPass::kBackwardData,
                                       ConvolutionPass::kBackwardWeights};

struct Geometry {
  Shape x;
  int64_t outputs, groups;
  Window window;

  Shape w() const { return {outputs, window.kernel_h, window.kernel_w, x.c / groups}; }
  Shape y() const { return {x.n, window.out_h(x.h), window.out_w(x.w), outputs}; }
};

const Geometry kGeometries[] = {
    {{2, 9, 7, 3}, 24, 1, {3, 3, 2, Padding::all(1)}},  // the stem, at an odd size
    {{1, 8, 8, 3}, 5, 1, {3, 3, 2, {0, 1, 0, 1}}},      // TensorFlow's SAME
    {{3, 5, 6, 6}, 4, 2, {3, 2, 1, {1, 0, 2, 1}}},      // groups, all paddings different
    {{1, 4, 4, 1}, 1, 1, {1, 1, 3, {}}},
    {{2, 5, 7, 29}, 29, 29, {3, 3, 2, Padding::all(1)}},  // depthwise
};

// Sixteenths below 1, which all dtypes hold exactly.
std::vector<double> numbers(const Shape& shape, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_int_distribution<int> sixteenths(-15, 15);
  std::vector<double> values(static_cast<size_t>(shape.elements()));
  for (double& value : values) value = sixteenths(random) / 16.0;
  return values;
}

size_t at(const Shape& s, int64_t n, int64_t h, int64_t w, int64_t c) {
  return static_cast<size_t>(((n * s.h + h) * s.w + w) * s.c + c);
}

// Adds up what the pass computes from the other two, from the definition.
std::vector<double> expected(const Geometry& g, ConvolutionPass pass, const std::vector<double>& x,
                             const std::vector<double>& w, const std::vector<double>& y) {
  const Shape ws = g.w(), ys = g.y();
  const Shape target = pass == ConvolutionPass::kForward ? ys : pass == ConvolutionPass::kBackwardData ? g.x : ws;
  std::vector<double> sums(static_cast<size_t>(target.elements()));
  for (int64_t n = 0; n < ys.n; ++n)
    for (int64_t oh = 0; oh < ys.h; ++oh)
      for (int64_t ow = 0; ow < ys.w; ++ow)
        for (int64_t k = 0; k < ys.c; ++k)
          for (int64_t r = 0; r < ws.h; ++r)
            for (int64_t s = 0; s < ws.w; ++s)
              for (int64_t c = 0; c < ws.c; ++c) {
                const int64_t h = oh * g.window.stride + r - g.window.padding.top;
                const int64_t v = ow * g.window.stride + s - g.window.padding.left;
                if (h < 0 || h >= g.x.h || v < 0 || v >= g.x.w) continue;
                const int64_t channel = k / (g.outputs / g.groups) * ws.c + c;
                const size_t ix = at(g.x, n, h, v, channel), iw = at(ws, k, r, s, c), iy = at(ys, n, oh, ow, k);
                if (pass == ConvolutionPass::kForward) sums[iy] += x[ix] * w[iw];
                if (pass == ConvolutionPass::kBackwardData) sums[ix] += y[iy] * w[iw];
                if (pass == ConvolutionPass::kBackwardWeights) sums[iw] += x[ix] * y[iy];
              }
  return sums;
}

class CudaConvolutions : public testing::Test {
 protected:
  CudaConvolutions() { emulation::clear_complaints(); }
  ~CudaConvolutions() override {
    emulation::twin_options() = {};
    EXPECT_EQ(emulation::misuse_count(), 0) << emulation::last_complaint();
  }

  // Runs one pass and compares.
  void expect_right(ConvolutionPlans* plans, const Geometry& g, ConvolutionPass pass, DType dtype) {
    std::vector<double> x = numbers(g.x, 1), w = numbers(g.w(), 2), y = numbers(g.y(), 3);
    const std::vector<double> wanted = expected(g, pass, x, w, y);
    const Convolution convolution{pass, device_tensor(g.x, dtype, x), device_tensor(g.w(), dtype, w),
                                  device_tensor(g.y(), dtype, y), g.window};
    plans->run(convolution);
    stream_.synchronize();
    const std::vector<double> got = downloaded(pass == ConvolutionPass::kForward        ? convolution.y
                                               : pass == ConvolutionPass::kBackwardData ? convolution.x
                                                                                        : convolution.w);
    const double ulp = dtype == DType::kF32 ? 1e-6 : dtype == DType::kBF16 ? 1.0 / 256 : 1.0 / 2048;
    for (size_t i = 0; i < got.size(); ++i)
      ASSERT_NEAR(got[i], wanted[i], ulp * std::abs(wanted[i]) + 1e-5) << dtype << " pass " << static_cast<int>(pass);
  }

  Stream stream_;
};

TEST_F(CudaConvolutions, EveryPassDtypeAndPadding) {
  for (bool deterministic : {false, true}) {
    ConvolutionPlans plans(cudnn(), stream_, device_scratch(), {false, deterministic});
    for (const Geometry& g : kGeometries)
      for (ConvolutionPass pass : kPasses)
        for (DType dtype : kDtypes)
          for (int repetition = 0; repetition < 2; ++repetition) expect_right(&plans, g, pass, dtype);
    EXPECT_EQ(plans.choices().size(), std::size(kGeometries) * std::size(kPasses) * std::size(kDtypes));
  }
}

TEST_F(CudaConvolutions, Tf32RoundsFactorsOnlyWhereAllowed) {
  const double value = 1 + 1.0 / 4096;  // tf32 has 10 bits behind the point
  const Geometry g{{1, 1, 1, 1}, 1, 1, {1, 1, 1, {}}};
  for (bool tf32 : {false, true}) {
    ConvolutionPlans plans(cudnn(), stream_, device_scratch(), {tf32, true});
    const Convolution one{ConvolutionPass::kForward, device_tensor(g.x, DType::kF32, {value}),
                          device_tensor(g.w(), DType::kF32, {value}), device_tensor(g.y(), DType::kF32, {0}), g.window};
    plans.run(one);
    stream_.synchronize();
    EXPECT_FLOAT_EQ(static_cast<float>(downloaded(one.y)[0]), static_cast<float>(tf32 ? 1.0 : value * value))
        << plans.choices()[0];
  }
}

TEST_F(CudaConvolutions, DeterministicChoicesArePinned) {
  ConvolutionPlans plans(cudnn(), stream_, device_scratch(), {false, true});
  expect_right(&plans, kGeometries[0], ConvolutionPass::kForward, DType::kF32);
  ASSERT_EQ(plans.choices().size(), 1u);
  // Not 34 (sums of 16 bits), 99 (cannot be planned), 7 (tf32) or 20 (not deterministic).
  EXPECT_NE(plans.choices()[0].find("engine 28, the first"), std::string::npos) << plans.choices()[0];
  expect_right(&plans, kGeometries[0], ConvolutionPass::kForward, DType::kBF16);
  EXPECT_NE(plans.choices()[1].find("engine 7, the first"), std::string::npos) << plans.choices()[1];
}

TEST_F(CudaConvolutions, AnotherEngineIsTakenWhereOneDoesNotRun) {
  emulation::twin_options().first_choice_runs = false;
  ConvolutionPlans plans(cudnn(), stream_, device_scratch(), {false, true});
  expect_right(&plans, kGeometries[0], ConvolutionPass::kForward, DType::kF32);
  EXPECT_NE(plans.choices()[0].find("engine 0, the first"), std::string::npos) << plans.choices()[0];
}

// What is asked of cuDNN: building a plan may compile kernels.
struct Asked {
  int plans = 0, fallbacks = 0;
};
Asked asked;

cudnnStatus_t create_counting_plans(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t* descriptor) {
  asked.plans += type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR;
  return cudnn().descriptor_create(type, descriptor);
}
cudnnStatus_t set_counting_fallbacks(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                     cudnnBackendAttributeType_t type, int64_t count, const void* elements) {
  if (name == CUDNN_ATTR_ENGINEHEUR_MODE)
    asked.fallbacks += *static_cast<const cudnnBackendHeurMode_t*>(elements) == CUDNN_HEUR_MODE_FALLBACK;
  return cudnn().set(descriptor, name, type, count, elements);
}

TEST_F(CudaConvolutions, PlansAreBuiltWhereTheyAreNeeded) {
  const struct {
    bool deterministic, first_choice_runs;
    DType dtype;
    Asked expected;
  } cases[] = {
      {true, true, DType::kBF16, {2, 0}},   // 99, which cannot be planned, then 7
      {false, true, DType::kBF16, {4, 0}},  // 99, 7, 20 and 28
      {true, true, DType::kF32, {2, 0}},    // 99 and 28
      {true, false, DType::kF32, {3, 1}},   // 28 does not run: also 0
      {false, false, DType::kF32, {3, 0}},  // 20 runs
  };
  Cudnn library = cudnn();
  library.descriptor_create = create_counting_plans;
  library.set = set_counting_fallbacks;
  for (const auto& c : cases) {
    emulation::twin_options().first_choice_runs = c.first_choice_runs;
    asked = {};
    ConvolutionPlans plans(library, stream_, device_scratch(), {false, c.deterministic});
    expect_right(&plans, kGeometries[0], ConvolutionPass::kForward, c.dtype);
    expect_right(&plans, kGeometries[0], ConvolutionPass::kForward, c.dtype);
    EXPECT_EQ(asked.plans, c.expected.plans) << plans.choices()[0];
    EXPECT_EQ(asked.fallbacks, c.expected.fallbacks) << plans.choices()[0];
  }
}

// Nothing can be tried while a graph is captured, and what is queued must still run.
TEST_F(CudaConvolutions, CapturedUnknownConvolutionsTakeTheFirstThatIsAccepted) {
  emulation::twin_options().first_choice_runs = false;
  ConvolutionPlans plans(cudnn(), stream_, device_scratch(), {false, true});
  const Geometry& g = kGeometries[0];
  const std::vector<double> x = numbers(g.x, 1), w = numbers(g.w(), 2);
  const Convolution c{ConvolutionPass::kForward, device_tensor(g.x, DType::kF32, x),
                      device_tensor(g.w(), DType::kF32, w), device_memory(g.y(), DType::kF32), g.window};
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  RIFFLE_CUDA(cudaStreamBeginCapture(stream_.get(), cudaStreamCaptureModeThreadLocal));
  plans.run(c);
  RIFFLE_CUDA(cudaStreamEndCapture(stream_.get(), &graph));
  RIFFLE_CUDA(cudaGraphInstantiate(&executable, graph, 0));
  RIFFLE_CUDA(cudaGraphLaunch(executable, stream_.get()));
  stream_.synchronize();
  const std::vector<double> got = downloaded(c.y), wanted = expected(g, c.pass, x, w, {});
  for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], wanted[i], 1e-5);
  EXPECT_TRUE(plans.choices().empty());
  RIFFLE_CUDA(cudaGraphExecDestroy(executable));
  RIFFLE_CUDA(cudaGraphDestroy(graph));
}

TEST_F(CudaConvolutions, UnalignedTensorsAreDescribedAsTheyAre) {
  const Geometry& g = kGeometries[0];
  const std::vector<double> x = numbers(g.x, 1), w = numbers(g.w(), 2);
  std::vector<double> shifted(x);
  shifted.insert(shifted.begin(), 0.0);  // two bytes from where memory is aligned
  const Tensor memory = device_tensor(vector_shape(static_cast<int64_t>(shifted.size())), DType::kBF16, shifted);
  const Tensor unaligned = memory.channel_slice(1, g.x.elements());
  std::shared_ptr<void> begin(unaligned.raw(), [](void*) {});
  ConvolutionPlans plans(cudnn(), stream_, device_scratch(), {});
  const Convolution c{ConvolutionPass::kForward, Tensor(begin, memory.device(), DType::kBF16, g.x, g.x.c),
                      device_tensor(g.w(), DType::kBF16, w), device_memory(g.y(), DType::kBF16), g.window};
  plans.run(c);
  stream_.synchronize();
  const std::vector<double> got = downloaded(c.y), wanted = expected(g, c.pass, x, w, {});
  for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], wanted[i], std::abs(wanted[i]) / 256 + 1e-5);
  EXPECT_NE(plans.choices()[0].find("alignments 2,16,16"), std::string::npos) << plans.choices()[0];
}

TEST_F(CudaConvolutions, ImpossibleConvolutionsSayWhy) {
  const Geometry& g = kGeometries[0];
  ConvolutionPlans plans(cudnn(), stream_, device_scratch(), {});
  Convolution c{ConvolutionPass::kForward, device_memory(g.x, DType::kF32), device_memory(g.w(), DType::kF32),
                device_memory({1, 1, 1, g.outputs}, DType::kF32), g.window};
  try {
    plans.run(c);
    FAIL() << "y has the wrong shape";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("y is not what"), std::string::npos) << error.what();
  }
  emulation::clear_complaints();
  c.y = device_memory(g.y(), DType::kBF16);
  EXPECT_THROW(plans.run(c), Error) << "dtypes differ";
}

// --- NVIDIA's cuDNN, without a GPU ---

// cuDNN with descriptions of a GPU in place of a handle on one; its plans are built, and not run.
namespace with_properties {

Cudnn real;
cudnnBackendDescriptor_t properties = nullptr;
int executed = 0;
constexpr size_t kLeastVersion = 90800;  // has descriptions of GPUs

cudnnStatus_t create(cudnnHandle_t* handle) {
  *handle = reinterpret_cast<cudnnHandle_t>(&executed);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t destroy(cudnnHandle_t) {
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t set_stream(cudnnHandle_t, cudaStream_t) {
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t set(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                  cudnnBackendAttributeType_t type, int64_t count, const void* elements) {
  const auto describe_gpu = [&](cudnnBackendAttributeName_t attribute) {
    return real.set(descriptor, attribute, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &properties);
  };
  if (name == CUDNN_ATTR_OPERATIONGRAPH_HANDLE) return CUDNN_STATUS_SUCCESS;
  if (name == CUDNN_ATTR_EXECUTION_PLAN_HANDLE) return describe_gpu(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP);
  const cudnnStatus_t status = real.set(descriptor, name, type, count, elements);
  if (status == CUDNN_STATUS_SUCCESS && name == CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH)
    return describe_gpu(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP);
  return status;
}
cudnnStatus_t execute(cudnnHandle_t, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pack) {
  if (plan && pack) ++executed;
  return CUDNN_STATUS_SUCCESS;
}

std::string gpu(int compute_capability, int multiprocessors) {
  return join("{\"deviceVer\":", compute_capability, ",\"multiProcessorCount\":", multiprocessors,
              ",\"warpSize\":32,\"maxSharedMemoryPerBlock\":49152,\"maxSharedMemoryPerBlockOptin\":166912,",
              "\"reservedSharedMemoryPerBlock\":1024,\"maxRegistersPerSM\":65536,\"maxCtasPerSM\":32,",
              "\"maxThreadsPerBlock\":1024,\"maxThreadsPerSM\":2048,\"regsPerBlock\":65536,",
              "\"totalGlobalMem\":42949672960,\"smClockRateKHz\":1400000,\"l2CacheSize\":41943040,",
              "\"maxBlockSize\":[1024,1024,64],\"memClockRateKHz\":1200000,\"maxGridSize\":[2147483647,65535,65535],",
              "\"supportCoopLaunch\":1,\"pciDeviceId\":0,\"isTccDriver\":0,\"cudaDeviceId\":0,\"driverVer\":13000,",
              "\"deviceName\":\"a GPU\"}");
}

Cudnn library() {
  Cudnn changed = real;
  changed.create = create;
  changed.destroy = destroy;
  changed.set_stream = set_stream;
  changed.set = set;
  changed.execute = execute;
  return changed;
}

}  // namespace with_properties

TEST_F(CudaConvolutions, NvidiasCudnnHasEnginesForAllWeAsk) {
  try {
    with_properties::real = open_cudnn();
  } catch (const Error& error) {
    GTEST_SKIP() << error.what();
  }
  if (with_properties::real.version() < with_properties::kLeastVersion)
    GTEST_SKIP() << "cuDNN " << with_properties::real.version() << " cannot do without a GPU";
  const Cudnn library = with_properties::library();
  const Geometry geometries[] = {{{256, 224, 224, 3}, 24, 1, {3, 3, 2, Padding::all(1)}},   // the stem
                                 {{256, 224, 224, 3}, 24, 1, {3, 3, 2, {0, 1, 0, 1}}},      // TensorFlow's
                                 {{1024, 224, 224, 3}, 24, 1, {3, 3, 2, Padding::all(1)}},  // of the published batch
                                 kGeometries[2],
                                 {{256, 56, 56, 58}, 58, 58, {3, 3, 2, Padding::all(1)}},  // depthwise
                                 {{256, 14, 14, 116}, 116, 116, {3, 3, 1, Padding::all(1)}}};
  // Nothing is read: one small allocation stands for all.
  const Tensor memory = device_memory(vector_shape(256), DType::kU8);
  std::shared_ptr<void> storage(memory.raw(), [](void*) {});
  const auto tensor = [&](const Shape& shape, DType dtype) {
    return Tensor(storage, memory.device(), dtype, shape, shape.c);
  };
  for (int compute_capability : {800, 900}) {
    CudnnDescriptor properties(with_properties::real, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
    const std::string json = with_properties::gpu(compute_capability, 108);
    properties.set(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                   std::vector<char>(json.c_str(), json.c_str() + json.size() + 1));
    properties.finalize("properties of a GPU");
    with_properties::properties = properties.get();
    for (bool deterministic : {false, true}) {
      ConvolutionPlans plans(library, stream_, [&](int64_t) { return memory; }, {false, deterministic});
      for (const Geometry& g : geometries)
        for (ConvolutionPass pass : kPasses)
          for (DType dtype : kDtypes) {
            with_properties::executed = 0;
            plans.run({pass, tensor(g.x, dtype), tensor(g.w(), dtype), tensor(g.y(), dtype), g.window});
            EXPECT_GT(with_properties::executed, 1);
          }
    }
  }
}

}  // namespace
}  // namespace riffle
