// Faults planted in kernels, and who notices: the result, the device's checks, or only the check build's. The right
// versions stay silent. Every row runs in three orders of threads.
#include <functional>
#include <string>

#include "tests/emulation/device_array.h"
#include "tests/emulation/sample_kernels.h"

namespace riffle {
namespace {

using emulation::ThreadOrder;

enum class Result { kRight, kWrong, kEither };

struct Row {
  const char* name;
  std::function<bool()> run;  // returns whether the result is right
  Result result = Result::kRight;
  const char* reported = "";           // by both builds; "": nothing
  const char* reported_by_check = "";  // by the check build, in addition
};

unsigned blocks(int work, int size) {
  return static_cast<unsigned>((work + size - 1) / size);
}

template <int Fault>
bool run_shuffle() {
  const int pixels = 37, C = 24, vectors = C / 8;
  const auto input = sample_values<__half>(static_cast<size_t>(pixels) * C);
  const DeviceArray<__half> x(input), y(input.size());
  gpu::launch(shuffle_channels<Fault>, blocks(pixels * vectors, 256), 256, 0, nullptr,
              reinterpret_cast<uint4*>(x.get()), reinterpret_cast<uint4*>(y.get()), pixels, vectors);
  const auto output = y.values();
  bool right = true;
  for (int p = 0; p < pixels; ++p)
    for (int c = 0; c < C; ++c)
      right &= is_near(__half2float(output[p * C + c]), __half2float(input[p * C + c % 2 * (C / 2) + c / 2]), 0);
  return right;
}

template <class T, int Fault>
bool run_sums() {
  const int rows = 100, C = 40;
  const auto input = sample_values<T>(static_cast<size_t>(rows) * C);
  const DeviceArray<T> x(input);
  DeviceArray<float> sum(C), squares(C);
  sum.zero();
  squares.zero();
  gpu::launch(column_sums<T, Fault>, dim3(blocks(C, 32), 2), dim3(32, 8), 0, nullptr, x.get(), sum.get(), squares.get(),
              rows, C);
  const auto sums = sum.values(), sums_of_squares = squares.values();
  bool right = true;
  for (int c = 0; c < C; ++c) {
    double expected = 0, expected_squares = 0;
    for (int r = 0; r < rows; ++r) {
      const double value = static_cast<float>(input[r * C + c]);
      expected += value;
      expected_squares += value * value;
    }
    right &= is_near(sums[c], expected, 1e-4) && is_near(sums_of_squares[c], expected_squares, 1e-4);
  }
  return right;
}

template <class T, int Fault>
bool run_depthwise(size_t shared_bytes = 3 * 10 * 32 * sizeof(T)) {
  const int N = 2, H = 6, W = 11, C = 40;
  const auto input = sample_values<T>(static_cast<size_t>(N) * H * W * C), filter = sample_values<T>(9 * C, 7);
  const DeviceArray<T> x(input), w(filter), y(input.size());
  const cudaError_t status = gpu::launch(depthwise_rows<T, Fault>, dim3(blocks(C, 32), blocks(W, 8), N), dim3(32, 8),
                                         shared_bytes, nullptr, x.get(), w.get(), y.get(), H, W, C);
  if (status != cudaSuccess) return false;
  const auto output = y.values();
  const auto index = [=](int n, int h, int column, int c) { return ((n * H + h) * W + column) * C + c; };
  bool right = true;
  for (int n = 0; n < N; ++n)
    for (int h = 0; h < H; ++h)
      for (int column = 0; column < W; ++column)
        for (int c = 0; c < C; ++c) {
          float expected = 0;
          for (int r = 0; r < 3; ++r)
            for (int s = 0; s < 3; ++s) {
              const int from_row = h + r - 1, from = column + s - 1;
              if (from_row < 0 || from_row >= H || from < 0 || from >= W) continue;
              expected += static_cast<float>(input[index(n, from_row, from, c)]) *
                          static_cast<float>(filter[(r * 3 + s) * C + c]);
            }
          const double tolerance = sizeof(T) == 4 ? 1e-5 : 1e-2;
          right &= is_near(static_cast<float>(output[index(n, h, column, c)]), expected, tolerance);
        }
  return right;
}

template <class T, int Fault>
bool run_transpose() {
  const int rows = 45, columns = 70;
  const auto input = sample_values<T>(static_cast<size_t>(rows) * columns);
  const DeviceArray<T> x(input), y(input.size());
  gpu::launch(transpose<T, Fault>, dim3(blocks(columns, 32), blocks(rows, 32)), dim3(32, 8), 0, nullptr, x.get(),
              y.get(), rows, columns);
  const auto output = y.values();
  bool right = true;
  for (int r = 0; r < rows; ++r)
    for (int c = 0; c < columns; ++c)
      right &= static_cast<float>(output[c * rows + r]) == static_cast<float>(input[r * columns + c]);
  return right;
}

template <int Fault>
bool run_swap() {
  const DeviceArray<float> y(32);
  gpu::launch(swap_neighbours<Fault>, 1, 32, 0, nullptr, y.get());
  const auto output = y.values();
  bool right = true;
  for (int i = 0; i < 32; ++i) right &= output[i] == static_cast<float>(i ^ 1);
  return right;
}

template <int Fault>
bool run_last_block() {
  const DeviceArray<float> parts(16), y(1);
  DeviceArray<unsigned> finished(1);
  finished.zero();
  gpu::launch(add_in_last_block<Fault>, 16, 32, 0, nullptr, parts.get(), finished.get(), y.get());
  return y.values()[0] == 120;
}

// An odd number of bytes, in allocations that end within a two-byte cell.
template <int Fault>
bool run_bytes() {
  const std::vector<uint8_t> input(77, 5), expected(77, 250);
  const DeviceArray<uint8_t> x(input), y(input.size());
  gpu::launch(invert_bytes<Fault>, 1, 96, 0, nullptr, x.get(), y.get(), static_cast<int>(input.size()));
  return y.values() == expected;
}

bool pass_host_pointer() {
  const DeviceArray<float> y(1024);
  const std::vector<float> host(1024);
  gpu::launch(transpose<float, 0>, 1, dim3(32, 8), 0, nullptr, host.data(), y.get(), 32, 32);
  return y.values() == host;
}

bool read_on_host() {
  DeviceArray<float> x(4);
  x.zero();
  cudaDeviceSynchronize();
  const volatile float value = x.get()[1];
  return value == 0;
}

bool pass_misaligned() {
  DeviceArray<__half> x(1032);
  const DeviceArray<__half> y(1032);
  x.zero();
  gpu::launch(shuffle_channels<0>, 1, 32, 0, nullptr, reinterpret_cast<uint4*>(x.get()),
              reinterpret_cast<uint4*>(y.get() + 4), 8, 2);
  cudaDeviceSynchronize();
  return true;
}

bool use_freed_memory() {
  DeviceArray<float> x(64);
  const DeviceArray<float> y(64);
  x.zero();
  float* freed = nullptr;
  cudaMalloc(&freed, 64 * sizeof(float));
  cudaFree(freed);
  gpu::launch(transpose<float, 0>, 1, dim3(32, 8), 0, nullptr, x.get(), freed, 8, 8);
  cudaDeviceSynchronize();
  return true;
}

bool overflow_stack() {
  const DeviceArray<float> y(1);
  gpu::launch(deep_stack, 1, 1, 0, nullptr, y.get(), 5);
  cudaDeviceSynchronize();
  return true;
}

bool launch_2048_threads() {
  const DeviceArray<float> x(4);
  return gpu::launch(transpose<float, 0>, 1, dim3(32, 64), 0, nullptr, x.get(), x.get(), 1, 1) == cudaSuccess;
}

const Row kRows[] = {
    {"shuffle", run_shuffle<0>},
    {"sums of float", run_sums<float, 0>},
    {"sums of half", run_sums<__half, 0>},
    {"sums of bfloat16", run_sums<__nv_bfloat16, 0>},
    {"depthwise float", [] { return run_depthwise<float, 0>(); }},
    {"depthwise half", [] { return run_depthwise<__half, 0>(); }},
    {"depthwise bfloat16", [] { return run_depthwise<__nv_bfloat16, 0>(); }},
    {"transpose float", run_transpose<float, 0>},
    {"transpose half", run_transpose<__half, 0>},
    {"swap", run_swap<0>},
    {"last block", run_last_block<0>},
    {"bytes", run_bytes<0>},

    {"sums: no barrier", run_sums<float, 1>, Result::kWrong, "", "race"},
    {"depthwise: no barrier after loading", [] { return run_depthwise<float, 1>(); }, Result::kWrong, "", "race"},
    {"depthwise: no barrier before loading", [] { return run_depthwise<float, 2>(); }, Result::kWrong, "", "race"},
    {"depthwise half: no barrier", [] { return run_depthwise<__half, 1>(); }, Result::kWrong, "", "race"},
    {"transpose: no barrier", run_transpose<float, 1>, Result::kWrong, "", "race"},
    {"swap: no __syncwarp", run_swap<3>, Result::kEither, "", "race"},
    {"swap: overwritten too early", run_swap<4>, Result::kEither, "", "race"},
    {"sums: no atomic", run_sums<float, 5>, Result::kRight, "", "race"},
    {"transpose: two writers", run_transpose<float, 2>, Result::kWrong, "", "race"},
    {"last block: no fence", run_last_block<1>, Result::kRight, "", "race"},

    {"sums: divergent barrier", run_sums<float, 2>, Result::kWrong, "barrier divergence"},
    {"sums: return before the barrier", run_sums<float, 9>, Result::kWrong, "barrier divergence"},
    {"swap: half shuffles, half waits", run_swap<1>, Result::kWrong, "deadlock"},
    {"swap: shuffle against ballot", run_swap<2>, Result::kWrong, "warp divergence"},
    {"sums: lane outside its mask", run_sums<float, 3>, Result::kWrong, "warp mask"},
    {"sums: wrong width", run_sums<float, 4>, Result::kWrong},

    {"shuffle: unwritten vector", run_shuffle<2>, Result::kWrong},
    {"sums: forgotten channel", run_sums<float, 6>, Result::kWrong},
    {"depthwise: unwritten row", [] { return run_depthwise<float, 4>(); }, Result::kWrong},
    {"sums: unwritten shared memory", run_sums<float, 8>, Result::kWrong, "", "uninitialised"},

    {"shuffle: index too large", run_shuffle<1>, Result::kEither, "out of bounds"},
    {"depthwise: column too large", [] { return run_depthwise<float, 3>(); }, Result::kWrong, "out of bounds"},
    {"sums: shared index too large", run_sums<float, 7>, Result::kWrong, "", "out of bounds"},
    {"depthwise: too little dynamic shared memory", [] { return run_depthwise<float, 0>(2 * 10 * 32 * 4); },
     Result::kWrong, "out of bounds"},
    {"bytes: one too many", run_bytes<1>, Result::kRight, "out of bounds"},
    {"freed memory", use_freed_memory, Result::kRight, "out of bounds"},
    {"stack overflow", overflow_stack, Result::kRight, "stack overflow"},
    {"misaligned vector", pass_misaligned, Result::kRight, "", "misaligned"},

    {"host pointer", pass_host_pointer, Result::kEither, "host pointer", "out of bounds"},
    {"device memory on the host", read_on_host, Result::kRight, "", "host access"},

    {"60 KB of shared memory", [] { return run_depthwise<float, 0>(60 << 10); }, Result::kWrong, "launch limit"},
    {"2048 threads", launch_2048_threads, Result::kWrong, "launch limit"},
};

std::string identifier(const testing::TestParamInfo<Row>& row) {
  std::string name;
  for (const char* letter = row.param.name; *letter != '\0'; ++letter)
    name += std::isalnum(static_cast<unsigned char>(*letter)) ? *letter : '_';
  return name;
}

// What a failing test prints of a row.
void PrintTo(const Row& row, std::ostream* out) {
  *out << row.name;
}

class Faults : public EmulationTest, public testing::WithParamInterface<Row> {};

TEST_P(Faults, ShowThemselves) {
  const Row& row = GetParam();
  for (const ThreadOrder order : {ThreadOrder::kForward, ThreadOrder::kReverse, ThreadOrder::kRandom}) {
    SCOPED_TRACE(static_cast<int>(order));
    emulation::clear_reports();
    emulation::options().threads = order;
    const bool right = row.run();
    if (row.result != Result::kEither) {
      EXPECT_EQ(right, row.result == Result::kRight);
    }
    const std::string by_check = emulation::is_check_build() ? row.reported_by_check : "", by_both = row.reported;
    if (by_check.empty() && by_both.empty()) {
      EXPECT_EQ(emulation::report_count(), 0);
      for (const auto& report : emulation::first_reports()) ADD_FAILURE() << report.kind << ": " << report.text;
    }
    for (const std::string& kind : {by_check, by_both}) {
      if (!kind.empty()) {
        EXPECT_GT(emulation::report_count(kind), 0) << kind;
      }
    }
    if (by_both != "launch limit" && emulation::report_count() > 0) {
      EXPECT_EQ(cudaPeekAtLastError(), cudaErrorLaunchFailure);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, Faults, testing::ValuesIn(kRows), identifier);

}  // namespace
}  // namespace riffle
