// Faults of kernels (reports, which become the error of the next synchronisation) and status codes of refused calls.
#pragma once

#include <cuda_runtime_api.h>

#include "cuda/emulation/control.h"

namespace riffle::emulation {

// Notes a fault, with kernel, block and thread where one is running.
void report(const char* kind, const char* format, ...) __attribute__((format(printf, 2, 3)));

// Notes a launch that was refused: nothing runs.
void report_refused(const char* kind, const char* format, ...) __attribute__((format(printf, 2, 3)));

// What cudaGetLastError will say; returns `status`.
cudaError_t refuse(cudaError_t status);
// Returns the error that waits to be told, a kernel's before a refused call's, and forgets it if `forget`.
cudaError_t last_error(bool forget);
// What a synchronising call returns: the error of a kernel that ran, if any did wrong.
cudaError_t kernel_error();

}  // namespace riffle::emulation
