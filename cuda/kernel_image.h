// A build holds machine code for a list of GPU architectures, and PTX from which the driver makes code for later ones.
#pragma once

#include <string>

namespace riffle {

// The architectures that this build was compiled for, as CMake takes them: "80-real;90".
const char* built_architectures();

// Why this build's kernels do not run on the calling thread's device; empty if they do.
std::string why_kernels_do_not_run();

}  // namespace riffle
