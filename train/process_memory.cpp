// Memory of this process.
#include "train/process_memory.h"

#include <sys/resource.h>

#include <cerrno>
#include <cstring>

#include "core/check.h"

namespace riffle {

int64_t process_peak_bytes() {
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) != 0) fail("cannot tell how much memory is in use: ", std::strerror(errno));
  return 1024 * static_cast<int64_t>(usage.ru_maxrss);
}

}  // namespace riffle
