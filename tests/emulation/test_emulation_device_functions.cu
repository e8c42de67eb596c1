// The device functions that the emulation supplies, in kernels, against values worked out by hand.
#include <cmath>

#include "tests/emulation/device_array.h"

namespace riffle {
namespace {

struct Parameters {
  int lanes;
  float scale[4];
};

__constant__ float factors[4] = {1, 2, 3, 4};

// Lanes 0 to 15 of one warp: 64-bit and 2-byte shuffles, votes, a partial mask, constants, a structure as argument.
__global__ void combine(const __grid_constant__ Parameters parameters, double* y) {
  const int lane = threadIdx.x;
  if (lane >= parameters.lanes) return;
  constexpr unsigned mask = 0x0000ffffu;
  const double crossed = __shfl_xor_sync(mask, static_cast<double>(lane) * factors[lane % 4], 1, 16);
  const long long shifted = __shfl_up_sync(mask, static_cast<long long>(lane) << 40, 1, 16);
  const unsigned odd = __ballot_sync(mask, lane % 2);
  const int any = __any_sync(mask, lane == 7), all = __all_sync(mask, lane < 16);
  const __half three = __shfl_sync(mask, __float2half(static_cast<float>(lane)), 3);
  const __half2 twelve = __hfma2(__half2half2(three), __half2half2(three), __half2half2(three));
  y[lane] = crossed + static_cast<double>(shifted >> 40) * 1000 + odd * 1e6 * any * all + __low2float(twelve) +
            __ldg(&parameters.scale[0]);
}

TEST_F(EmulationTest, WarpFunctionsCombine) {
  const DeviceArray<double> y(16);
  gpu::launch(combine, 1, 32, 0, nullptr, Parameters{16, {0.5f}}, y.get());
  const auto values = y.values();
  for (int lane = 0; lane < 16; ++lane) {
    const int other = lane ^ 1;
    EXPECT_EQ(values[lane], other * (other % 4 + 1) + (lane > 0 ? lane - 1 : 0) * 1000.0 + 0xaaaa * 1e6 + 12 + 0.5);
  }
  EXPECT_EQ(emulation::report_count(), 0);
}

__global__ void vote(int* y) {
  const int odd = __syncthreads_count(threadIdx.x % 2), all = __syncthreads_and(threadIdx.x < 40);
  const int any = __syncthreads_or(threadIdx.x == 39), none = __syncthreads_or(0);
  if (threadIdx.x != 0) return;
  y[0] = odd;
  y[1] = all;
  y[2] = any;
  y[3] = none;
}

TEST_F(EmulationTest, BarriersVote) {
  const DeviceArray<int> y(4);
  gpu::launch(vote, 1, 40, 0, nullptr, y.get());
  EXPECT_EQ(y.values(), (std::vector<int>{20, 1, 1, 0}));
  EXPECT_EQ(emulation::report_count(), 0);
}

__global__ void update(int* sum, float* float_sum, unsigned* bits, int* extremes, int* swapped, unsigned* ring) {
  const int thread = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  atomicAdd(sum, thread);
  atomicAdd(float_sum, 0.5f);
  atomicOr(bits, 1u << thread % 32);
  atomicMax(&extremes[0], thread);
  atomicMin(&extremes[1], -thread);
  atomicCAS(swapped, 0, 5);
  atomicInc(ring, 9);
}

TEST_F(EmulationTest, AtomicsFromManyBlocks) {
  DeviceArray<int> sum(1), extremes(2), swapped(1);
  DeviceArray<float> float_sum(1);
  DeviceArray<unsigned> bits(1), ring(1);
  for (auto* array : {&sum, &extremes, &swapped}) array->zero();
  float_sum.zero();
  bits.zero();
  ring.zero();
  gpu::launch(update, 3, 64, 0, nullptr, sum.get(), float_sum.get(), bits.get(), extremes.get(), swapped.get(),
              ring.get());
  EXPECT_EQ(sum.values()[0], 191 * 192 / 2);
  EXPECT_EQ(float_sum.values()[0], 96.0f);
  EXPECT_EQ(bits.values()[0], 0xffffffffu);
  EXPECT_EQ(extremes.values(), (std::vector<int>{191, -191}));
  EXPECT_EQ(swapped.values()[0], 5);
  EXPECT_EQ(ring.values()[0], 192u % 10);
  EXPECT_EQ(emulation::report_count(), 0);
}

__global__ void convert(float* y) {
  const __nv_bfloat162 pair = __float22bfloat162_rn(make_float2(1.00390625f, -3.0f));  // a tie, to even
  const __half2 halves = __float22half2_rn(make_float2(0.5f, 65519.0f));
  y[0] = __bfloat1622float2(pair).x;
  y[1] = __bfloat1622float2(pair).y;
  y[2] = __half22float2(halves).x + __half22float2(halves).y;
  y[3] = static_cast<float>(__hfma(__float2bfloat16(2.0f), __float2bfloat16(3.0f), __float2bfloat16(1.0f)));
  y[4] = static_cast<float>(__float2half(1.5f) + __float2half(2.0f) * __float2half(3.0f));
  y[5] = rsqrtf(4.0f) + __fdividef(1.0f, 4.0f);
  y[6] = static_cast<float>(__popc(0xf0f0u) + __clz(1) + __ffs(8));
  y[7] = __uint_as_float(__float_as_uint(-1.5f));
  y[8] = max(3, 2.5f) + static_cast<float>(min(7u, 4));
  y[9] = max(1.0f, nanf(""));
  y[10] = static_cast<float>(__umulhi(0x80000000u, 6u));
}

TEST_F(EmulationTest, ConversionsAndMathematics) {
  const DeviceArray<float> y(11);
  gpu::launch(convert, 1, 1, 0, nullptr, y.get());
  EXPECT_EQ(y.values(), (std::vector<float>{1.0f, -3.0f, 65504.5f, 7.0f, 7.5f, 0.75f, 43.0f, -1.5f, 7.0f, 1.0f, 3.0f}));
}

__device__ float sum_of_block(float value) {
  __shared__ float total;
  if (threadIdx.x == 0) total = 0;
  __syncthreads();
  atomicAdd(&total, value);
  __syncthreads();
  return total;
}

template <int Scale>
__global__ void use_device_function(float* y) {
  const float total = sum_of_block(static_cast<float>(Scale));
  if (threadIdx.x == 0) y[blockIdx.x] = total;
}

TEST_F(EmulationTest, DeviceFunctionsMayHaveSharedArrays) {
  const DeviceArray<float> y(2);
  gpu::launch(use_device_function<1>, 2, 32, 0, nullptr, y.get());
  EXPECT_EQ(y.values(), (std::vector<float>{32, 32}));
  gpu::launch(use_device_function<2>, 2, 32, 0, nullptr, y.get());
  EXPECT_EQ(y.values(), (std::vector<float>{64, 64}));
  EXPECT_EQ(emulation::report_count(), 0);
}

__global__ void use_much_shared(float* y) {
  GPU_DYN_SHARED(float, values);
  values[threadIdx.x * 400] = static_cast<float>(threadIdx.x);
  __syncthreads();
  y[threadIdx.x] = values[(threadIdx.x ^ 1) * 400];
}

TEST_F(EmulationTest, SharedMemoryBeyond48KilobytesMustBeAskedFor) {
  const size_t bytes = 64 * 400 * sizeof(float);
  const DeviceArray<float> y(64);
  const auto* kernel = reinterpret_cast<const void*>(use_much_shared);
  EXPECT_EQ(gpu::launch(use_much_shared, 1, 64, bytes, nullptr, y.get()), cudaErrorInvalidValue);
  EXPECT_EQ(emulation::report_count("launch limit"), 1);
  emulation::clear_reports();
  EXPECT_EQ(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 228 << 10),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
            cudaSuccess);
  EXPECT_EQ(gpu::launch(use_much_shared, 1, 64, bytes, nullptr, y.get()), cudaSuccess);
  EXPECT_EQ(y.values()[6], 7.0f);
  EXPECT_EQ(gpu::launch(use_much_shared, 1, 64, bytes + 4, nullptr, y.get()), cudaErrorInvalidValue);
}

__global__ void scale_by_constants(float* y) {
  y[threadIdx.x] = factors[threadIdx.x];
}

TEST_F(EmulationTest, ConstantsCanBeSet) {
  const float values[] = {5, 6, 7, 8}, before[] = {1, 2, 3, 4};
  const DeviceArray<float> y(4);
  EXPECT_EQ(cudaMemcpyToSymbol(factors, values, sizeof values, 0, cudaMemcpyHostToDevice), cudaSuccess);
  gpu::launch(scale_by_constants, 1, 4, 0, nullptr, y.get());
  EXPECT_EQ(y.values(), (std::vector<float>{5, 6, 7, 8}));
  EXPECT_EQ(cudaMemcpyToSymbol(factors, before, sizeof before, 0, cudaMemcpyHostToDevice), cudaSuccess);
}

}  // namespace
}  // namespace riffle
