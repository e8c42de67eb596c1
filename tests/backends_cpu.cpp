// The CPU backends that parity tests compare with the reference.
#include "core/cpu/cpu_backend.h"
#include "tests/parity.h"

namespace riffle::parity {

std::vector<BackendUnderTest> backends_under_test() {
  return {{"CpuOneThread", [] { return make_cpu_backend(1, /*poison=*/true); }},
          {"CpuTwoThreads", [] { return make_cpu_backend(2, /*poison=*/true); }}};
}

std::vector<BackendUnderTest> backends_under_product_test() {
  return backends_under_test();
}

}  // namespace riffle::parity
