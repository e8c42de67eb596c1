// Launches: the limits that CUDA checks when a kernel is queued, and where dynamic shared memory lies.
#pragma once

#include <cstddef>

namespace riffle::emulation {

// Dynamic shared memory of the next grid. It ends at a guard page; the check build knows its exact bounds.
void place_dynamic_shared(size_t bytes);
// cudaFuncAttributeMaxDynamicSharedMemorySize. False if it is more than a block may have.
bool allow_dynamic_shared(const void* kernel, int bytes);

}  // namespace riffle::emulation
