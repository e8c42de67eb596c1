// What -fsanitize=thread,bounds,alignment makes kernels call; the sanitizers' own libraries are not linked. Every load
// and store goes to the shadow; atomics of host code in .cu files are plain operations; what bounds and alignment find
// becomes a report.
#include <cstddef>
#include <cstdint>

#include "cuda/emulation/block.h"
#include "cuda/emulation/report.h"
#include "cuda/emulation/shadow.h"

using riffle::emulation::Access;
using riffle::emulation::check_access;

namespace {

void check_range(const void* begin, size_t bytes, Access access) {
  const auto* byte = static_cast<const char*>(begin);
  while (bytes > 0) {
    const auto address = reinterpret_cast<uintptr_t>(byte);
    const int step = bytes >= 4 && address % 4 == 0 ? 4 : bytes >= 2 && address % 2 == 0 ? 2 : 1;
    check_access(byte, step, access);
    byte += step;
    bytes -= static_cast<size_t>(step);
  }
}

// As the compiler lays them out.
struct SourcePlace {
  const char* file;
  uint32_t line, column;
};
struct TypeDescription {
  uint16_t kind, info;
  char name[1];
};
struct BoundsFault {
  SourcePlace place;
  const TypeDescription *array, *index;
};
struct AlignmentFault {
  SourcePlace place;
  const TypeDescription* type;
  unsigned char log_alignment, access;
};

}  // namespace

// The compiler chose the names; T is a type.
// NOLINTBEGIN(bugprone-reserved-identifier, bugprone-macro-parentheses)
extern "C" {

void __ubsan_handle_out_of_bounds(BoundsFault* fault, uintptr_t index) {
  riffle::emulation::report("out of bounds", "%s:%u: index %td of %s", fault->place.file, fault->place.line,
                            static_cast<ptrdiff_t>(index), fault->array->name);
}
void __ubsan_handle_type_mismatch_v1(AlignmentFault* fault, uintptr_t address) {
  riffle::emulation::report("misaligned", "%s:%u: %s at 0x%tx, which needs a multiple of %u", fault->place.file,
                            fault->place.line, fault->type->name, static_cast<ptrdiff_t>(address),
                            1u << fault->log_alignment);
}

void __tsan_init() {}
void __tsan_func_entry(void*) {
  if (riffle::emulation::in_kernel) ++riffle::emulation::running.instrumented_calls;
}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
void __tsan_read_range(void* begin, size_t bytes) {
  check_range(begin, bytes, Access::kRead);
}
void __tsan_write_range(void* begin, size_t bytes) {
  check_range(begin, bytes, Access::kWrite);
}
void __tsan_atomic_thread_fence(int) {}

#define RIFFLE_ACCESSES(bytes)                     \
  void __tsan_read##bytes(void* p) {               \
    check_access(p, bytes, Access::kRead);         \
  }                                                \
  void __tsan_write##bytes(void* p) {              \
    check_access(p, bytes, Access::kWrite);        \
  }                                                \
  void __tsan_volatile_read##bytes(void* p) {      \
    check_access(p, bytes, Access::kRead);         \
  }                                                \
  void __tsan_volatile_write##bytes(void* p) {     \
    check_access(p, bytes, Access::kWrite);        \
  }                                                \
  void __tsan_unaligned_read##bytes(void* p) {     \
    check_access(p, bytes, Access::kRead, false);  \
  }                                                \
  void __tsan_unaligned_write##bytes(void* p) {    \
    check_access(p, bytes, Access::kWrite, false); \
  }
RIFFLE_ACCESSES(1)
RIFFLE_ACCESSES(2)
RIFFLE_ACCESSES(4)
RIFFLE_ACCESSES(8)
RIFFLE_ACCESSES(16)

#define RIFFLE_ATOMICS(bits, T)                                                             \
  T __tsan_atomic##bits##_load(const volatile T* p, int) {                                  \
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                            \
  }                                                                                         \
  void __tsan_atomic##bits##_store(volatile T* p, T v, int) {                               \
    __atomic_store_n(p, v, __ATOMIC_SEQ_CST);                                               \
  }                                                                                         \
  T __tsan_atomic##bits##_exchange(volatile T* p, T v, int) {                               \
    return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST);                                     \
  }                                                                                         \
  T __tsan_atomic##bits##_fetch_add(volatile T* p, T v, int) {                              \
    return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST);                                      \
  }                                                                                         \
  T __tsan_atomic##bits##_fetch_sub(volatile T* p, T v, int) {                              \
    return __atomic_fetch_sub(p, v, __ATOMIC_SEQ_CST);                                      \
  }                                                                                         \
  T __tsan_atomic##bits##_fetch_or(volatile T* p, T v, int) {                               \
    return __atomic_fetch_or(p, v, __ATOMIC_SEQ_CST);                                       \
  }                                                                                         \
  T __tsan_atomic##bits##_fetch_and(volatile T* p, T v, int) {                              \
    return __atomic_fetch_and(p, v, __ATOMIC_SEQ_CST);                                      \
  }                                                                                         \
  int __tsan_atomic##bits##_compare_exchange_strong(volatile T* p, T* e, T v, int, int) {   \
    return __atomic_compare_exchange_n(p, e, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
  }                                                                                         \
  int __tsan_atomic##bits##_compare_exchange_weak(volatile T* p, T* e, T v, int, int) {     \
    return __atomic_compare_exchange_n(p, e, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
  }
RIFFLE_ATOMICS(8, uint8_t)
RIFFLE_ATOMICS(16, uint16_t)
RIFFLE_ATOMICS(32, uint32_t)
RIFFLE_ATOMICS(64, uint64_t)

}  // extern "C"
// NOLINTEND(bugprone-reserved-identifier, bugprone-macro-parentheses)
