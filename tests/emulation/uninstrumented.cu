// Linked with the check build but compiled as for the plain one: this must not pass for checked.
#include "tests/emulation/device_array.h"
#include "tests/emulation/sample_kernels.h"

namespace riffle {
namespace {

TEST_F(EmulationTest, MissingInstrumentationIsReported) {
  ASSERT_TRUE(emulation::is_check_build());
  const DeviceArray<float> y(32);
  gpu::launch(swap_neighbours<0>, 1, 32, 0, nullptr, y.get());
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
  EXPECT_EQ(emulation::report_count("not instrumented"), 1);
}

}  // namespace
}  // namespace riffle
