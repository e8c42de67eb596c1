// How much memory this process has used.
#pragma once

#include <cstdint>

namespace riffle {

int64_t process_peak_bytes();  // the most that was resident at a time, since it started

}  // namespace riffle
