// The way into cuda/ for code that includes no CUDA header.
#pragma once

#include <memory>
#include <string>

#include "core/backend.h"
#include "cuda/options.h"

namespace riffle {

// Throws an Error where the device does not exist or cannot run this build, and a usage Error for a dtype that is no
// activation's.
std::unique_ptr<Backend> make_cuda_backend(const CudaOptions& options);

// Whether there is a driver and a GPU; if not, `why_not` (may be null) receives a clause for people, without a period.
bool cuda_available(std::string* why_not);

// Whether networks can run on that GPU: also that this build has code for it and that cuBLASLt and cuDNN can be opened.
bool cuda_usable(int device, std::string* why_not);

}  // namespace riffle
