// What this processor can do, and which inner loops follow from it.
#include <dnnl.h>
#include <omp.h>

#include <cstdlib>
#include <cstring>
#include <fstream>

#include "core/cpu/cpu_backend.h"

namespace riffle {

#define RIFFLE_DECLARE_KERNELS(isa)                \
  namespace isa {                                  \
  extern const RowKernels kRowKernels;             \
  extern const DepthwiseKernels kDepthwiseKernels; \
  extern const PoolingKernels kPoolingKernels;     \
  extern const NarrowKernels kNarrowKernels;       \
  }
#define RIFFLE_KERNELS(isa) \
  { isa::kRowKernels, isa::kDepthwiseKernels, isa::kPoolingKernels, isa::kNarrowKernels }

#if RIFFLE_HAVE_X86
RIFFLE_DECLARE_KERNELS(simd_avx512)
RIFFLE_DECLARE_KERNELS(simd_avx2)
#endif
RIFFLE_DECLARE_KERNELS(simd_baseline)

namespace {

struct Isa {
  const char* option;  // value of RIFFLE_ISA
  dnnl_cpu_isa_t one_dnn_limit;
  const char* name;
  bool available;
  SimdKernels kernels;
};

Isa choose_isa() {
  const Isa isas[] = {
#if RIFFLE_HAVE_X86
    {"avx512", dnnl_cpu_isa_all, "AVX-512",
     __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl"),
     RIFFLE_KERNELS(simd_avx512)},
    {"avx2", dnnl_cpu_isa_avx2, "AVX2", __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"),
     RIFFLE_KERNELS(simd_avx2)},
#endif
    {"baseline", dnnl_cpu_isa_sse41, "baseline", true, RIFFLE_KERNELS(simd_baseline)},
  };
  const char* wanted = std::getenv("RIFFLE_ISA");
  for (const Isa& isa : isas) {
    if (wanted && std::strcmp(wanted, isa.option) != 0) continue;
    if (isa.available) {
      if (wanted) dnnl_set_max_cpu_isa(isa.one_dnn_limit);  // has an effect before oneDNN's first primitive only
      return isa;
    }
    if (wanted) fail_usage("RIFFLE_ISA=", wanted, ": this processor lacks it");
  }
  fail_usage("RIFFLE_ISA=", wanted, " is unknown; use avx512, avx2 or baseline");
}

const Isa& isa() {
  static const Isa chosen = choose_isa();
  return chosen;
}

}  // namespace

const SimdKernels& simd_kernels() {
  return isa().kernels;
}

std::string cpu_isa() {
  return isa().name;
}

bool cpu_has_bf16() {
#if RIFFLE_HAVE_X86
  return std::strcmp(isa().option, "avx512") == 0 && __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

std::string cpu_model() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    const size_t colon = line.find(": ");
    if (line.rfind("model name", 0) == 0 && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown processor";
}

std::string one_dnn_version() {
  const dnnl_version_t* version = dnnl_version();
  return join(version->major, ".", version->minor, ".", version->patch);
}

namespace {
// Read before anything runs: gemm() sets the calling thread's number to 1.
const int kOmpThreads = omp_get_max_threads();
}  // namespace

int default_cpu_threads() {
  return kOmpThreads;
}

}  // namespace riffle
