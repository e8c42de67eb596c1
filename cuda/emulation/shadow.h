// The check build's memory of who touched what: every access of a kernel (sanitizer_callbacks.cpp) is compared with the
// last write and a summary of the reads since. Finds races, reads of memory nobody wrote, accesses outside allocations
// or in another device's or the host's memory, and misaligned ones.
#pragma once

#include <cstddef>
#include <cstdint>

namespace riffle::emulation {

#ifdef RIFFLE_EMULATION_CHECK
constexpr bool kCheckBuild = true;
#else
constexpr bool kCheckBuild = false;
#endif

// For `bytes` of device memory, beginning at device 0's range.
void create_shadow(size_t bytes);
// Nobody has written these bytes of device memory.
void forget_shadow(const void* address, size_t bytes);
// A copy or a fill wrote them, in order with everything else.
void mark_written(const void* address, size_t bytes);

enum class Access { kRead, kWrite, kAtomic };
void check_access(const void* address, int bytes, Access access, bool must_be_aligned = true);
uint64_t checked_accesses();

}  // namespace riffle::emulation
