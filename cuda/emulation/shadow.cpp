#include "cuda/emulation/shadow.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "cuda/emulation/block.h"
#include "cuda/emulation/device_memory.h"
#include "cuda/emulation/image.h"
#include "cuda/emulation/report.h"

namespace riffle::emulation {
namespace {

constexpr size_t kGranule = 2;  // bytes of device memory to a cell; shared memory has a cell a byte

// Epochs of cells that no kernel wrote; those of kernels are larger (Running::epoch).
constexpr uint32_t kUntouched = 0, kWrittenInOrder = 2, kFirstEpoch = 8;

enum Readers : uint32_t { kOneThread, kOneWarp, kManyWarps };

// Who wrote last and who has read since the last barrier. All zero: untouched.
struct Cell {
  uint32_t write_epoch, write_warp_epoch, read_epoch, read_warp_epoch;
  uint32_t write_thread : 10, read_thread : 10, atomic : 1, readers : 2, half : 1;  // half: only one byte is allocated
};

Cell* device_cells;
uint64_t access_count;

std::vector<Cell>& static_shared_cells() {
  static std::vector<Cell> cells(image().shared_size());
  return cells;
}

std::vector<Cell>& dynamic_shared_cells() {
  static std::vector<Cell> cells(kMaxDynamicShared + kPageBytes);
  return cells;
}

// Did an access happen before the running thread's next one? Shared memory: since the block began (`base`).
bool is_ordered(uint32_t base, uint32_t epoch, uint32_t warp_epoch, uint32_t thread) {
  if (epoch < base || (epoch < running.block_epoch && running.fenced)) return true;
  if (epoch < running.block_epoch) return false;  // of another block in this launch
  const auto me = static_cast<uint32_t>(running.thread);
  return epoch < running.epoch || thread == me || (thread / 32 == me / 32 && warp_epoch < running.warp_epoch[me / 32]);
}

bool reads_are_ordered(const Cell& cell, uint32_t base) {
  if (cell.read_epoch < kFirstEpoch || cell.read_epoch < base) return true;
  if (cell.read_epoch < running.block_epoch) return running.fenced;
  const auto me = static_cast<uint32_t>(running.thread);
  switch (cell.readers) {
    case kManyWarps:
      return cell.read_epoch != running.epoch;
    case kOneWarp:
      return cell.read_epoch != running.epoch ||
             (cell.read_thread / 32 == me / 32 && cell.read_warp_epoch != running.warp_epoch[me / 32]);
    default:
      return is_ordered(base, cell.read_epoch, cell.read_warp_epoch, cell.read_thread);
  }
}

void note_read(Cell* cell) {
  const auto me = static_cast<uint32_t>(running.thread);
  const uint32_t warp_epoch = running.warp_epoch[me / 32];
  if (cell->read_epoch != running.epoch) {
    cell->read_epoch = running.epoch;
    cell->read_warp_epoch = warp_epoch;
    cell->read_thread = me;
    cell->readers = kOneThread;
  } else if (cell->read_thread == me) {
    return;
  } else if (cell->read_thread / 32 != me / 32) {
    cell->readers = kManyWarps;
  } else if (cell->readers != kManyWarps) {
    const bool earlier_is_ordered = cell->read_warp_epoch < warp_epoch;
    cell->readers = earlier_is_ordered ? kOneThread : kOneWarp;
    if (!earlier_is_ordered) return;
    cell->read_thread = me;
    cell->read_warp_epoch = warp_epoch;
  }
}

void note_write(Cell* cell, bool atomic) {
  const auto me = static_cast<uint32_t>(running.thread);
  cell->write_epoch = running.epoch;
  cell->write_warp_epoch = running.warp_epoch[me / 32];
  cell->write_thread = me;
  cell->atomic = atomic;
}

// Reports a race of this access with an earlier one, and notes it. Returns whether there was one.
bool check_race(Cell* cell, Access access, const void* address, bool shared) {
  const uint32_t base = shared ? running.block_epoch : running.launch_epoch;
  const bool write = access != Access::kRead;
  const bool both_atomic = access == Access::kAtomic && cell->atomic != 0;
  const char* what = nullptr;
  uint32_t other = cell->write_thread;
  if (cell->write_epoch >= kFirstEpoch && !both_atomic &&
      !is_ordered(base, cell->write_epoch, cell->write_warp_epoch, cell->write_thread)) {
    what = write ? "write after write" : "read after write";
  } else if (write && !reads_are_ordered(*cell, base)) {
    what = "write after read";
    other = cell->read_thread;
  }
  if (what != nullptr)
    report("race", "%s without a barrier in between, %s memory %p, other thread %u", what, shared ? "shared" : "device",
           address, other);
  if (write)
    note_write(cell, access == Access::kAtomic);
  else
    note_read(cell);
  return what != nullptr;
}

const char* name_of(Access access) {
  return access == Access::kRead ? "read" : access == Access::kWrite ? "write" : "atomic access";
}

// A first look at a cell: is there an allocation, and does it end within the cell? Reports where there is none.
bool begin_cell(Cell* cell, const char* address, int bytes, Access access) {
  const char* begin = nullptr;
  const int device = device_of(address);
  const Allocation* allocation = memory_of(device).find(address, &begin);
  if (allocation == nullptr || !allocation->accessible) {
    report("out of bounds", "%s of %d bytes at %p, outside every allocation", name_of(access), bytes,
           static_cast<const void*>(address));
    return false;
  }
  const char* granule = address - arena_offset(address) % kGranule;
  cell->half = granule + 1 == begin + allocation->bytes;
  return true;
}

void check_device_memory(const char* address, int bytes, Access access) {
  if (device_of(address) != running.device)
    return report("wrong device", "%s of memory of device %d on device %d", name_of(access), device_of(address),
                  running.device);
  const size_t begin = arena_offset(address), end = begin + static_cast<size_t>(bytes);
  for (size_t granule = begin / kGranule; granule <= (end - 1) / kGranule; ++granule) {
    Cell& cell = device_cells[granule];
    if (cell.write_epoch == kUntouched && cell.read_epoch == 0) {
      if (!begin_cell(&cell, address + (std::max(granule * kGranule, begin) - begin), bytes, access)) return;
    }
    if (cell.half != 0 && end > granule * kGranule + 1)
      return report("out of bounds", "%s of %d bytes at %p, behind the end of an allocation", name_of(access), bytes,
                    static_cast<const void*>(address));
    if (cell.write_epoch == kUntouched && access != Access::kWrite) {
      report("uninitialised", "%s of device memory %p that nobody wrote", name_of(access),
             static_cast<const void*>(address));
      cell.write_epoch = kWrittenInOrder;
      return;
    }
    if (bytes == 1) {  // the cell's other byte may be another thread's: no race can be told
      if (cell.write_epoch == kUntouched) cell.write_epoch = kWrittenInOrder;
      return;
    }
    if (check_race(&cell, access, address, false)) return;
  }
}

// `describe` gives the text of where an address is.
template <class Describe>
void check_shared(Cell* cells, const char* address, int bytes, Access access, const Describe& describe) {
  for (int i = 0; i < bytes; ++i) {
    if (access != Access::kWrite && cells[i].write_epoch < running.block_epoch) {
      report("uninitialised", "%s of shared memory that nobody wrote: %s", name_of(access), describe().c_str());
      cells[i] = {};
      cells[i].write_epoch = running.block_epoch;
      return;
    }
    if (check_race(&cells[i], access, address, true)) return;
  }
}

void check_static_shared(const char* address, int bytes, Access access) {
  const auto offset = static_cast<size_t>(address - image().shared_begin());
  if (!image().is_shared(offset)) return;  // a guard variable
  const int owner = image().owner(offset);
  if (owner != 0 && image().is_other_kernel(owner, running.owner))
    return report("out of bounds", "%s of static shared memory of another kernel: %s", name_of(access),
                  image().describe_shared(offset).c_str());
  check_shared(&static_shared_cells()[offset], address, bytes, access, [&] { return image().describe_shared(offset); });
}

void check_dynamic_shared(const char* address, int bytes, Access access) {
  const auto offset = static_cast<size_t>(address - reinterpret_cast<const char*>(running.dynamic_shared));
  if (offset + static_cast<size_t>(bytes) > running.dynamic_shared_bytes)
    return report("out of bounds", "%s of dynamic shared memory at offset %zu of %zu", name_of(access), offset,
                  running.dynamic_shared_bytes);
  check_shared(&dynamic_shared_cells()[offset], address, bytes, access,
               [&] { return "dynamic, offset " + std::to_string(offset); });
}

bool is_within(const char* address, const void* begin, size_t bytes) {
  return static_cast<size_t>(address - static_cast<const char*>(begin)) < bytes;
}

}  // namespace

void create_shadow(size_t bytes) {
  void* cells = mmap(nullptr, bytes / kGranule * sizeof(Cell), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (cells == MAP_FAILED) {
    std::perror("[emulation] no address space for the memory checks");
    std::abort();
  }
  device_cells = static_cast<Cell*>(cells);
}

void forget_shadow(const void* address, size_t bytes) {
  Cell* first = device_cells + arena_offset(address) / kGranule;
  Cell* last = first + (bytes + kGranule - 1) / kGranule;
  auto* begin = reinterpret_cast<char*>(first);
  auto* end = reinterpret_cast<char*>(last);
  // Whole pages go back to the system, which makes them zero.
  const auto beyond_page = [](const char* position) { return reinterpret_cast<uintptr_t>(position) % kPageBytes; };
  char* whole_begin = begin + (kPageBytes - beyond_page(begin)) % kPageBytes;
  char* whole_end = end - beyond_page(end);
  if (whole_begin >= whole_end) {
    std::memset(begin, 0, end - begin);
    return;
  }
  std::memset(begin, 0, whole_begin - begin);
  madvise(whole_begin, whole_end - whole_begin, MADV_DONTNEED);
  std::memset(whole_end, 0, end - whole_end);
}

void mark_written(const void* address, size_t bytes) {
  const size_t begin = arena_offset(address), end = begin + bytes;
  const auto* allocation_begin = static_cast<const char*>(nullptr);
  const Allocation* allocation = memory_of(device_of(address)).find(address, &allocation_begin);
  if (allocation == nullptr) return;
  const size_t allocation_end = arena_offset(allocation_begin) + allocation->bytes;
  for (size_t granule = begin / kGranule; granule * kGranule < end; ++granule) {
    device_cells[granule] = {};
    device_cells[granule].write_epoch = kWrittenInOrder;
    device_cells[granule].half = granule * kGranule + 1 == allocation_end;
  }
}

void check_access(const void* location, int bytes, Access access, bool must_be_aligned) {
  const auto* address = static_cast<const char*>(location);
  if (!in_kernel) {
    if (device_of(address) >= 0) report("host access", "host code touches device memory %p", location);
    return;
  }
  if (on_fiber_stack(address)) return;
  ++access_count;
  if (must_be_aligned && reinterpret_cast<uintptr_t>(address) % static_cast<unsigned>(bytes) != 0)
    report("misaligned", "%s of %d bytes at %p", name_of(access), bytes, location);
  if (device_of(address) >= 0) return check_device_memory(address, bytes, access);
  if (is_within(address, image().shared_begin(), image().shared_size()))
    return check_static_shared(address, bytes, access);
  if (is_within(address, running.dynamic_shared, running.dynamic_shared_bytes + kPageBytes))
    return check_dynamic_shared(address, bytes, access);
  if (is_within(address, running.closure, running.closure_bytes) || image().contains(address) || is_pinned(address))
    return;
  report("out of bounds", "%s of %d bytes at %p, which is not device memory", name_of(access), bytes, location);
}

uint64_t checked_accesses() {
  return access_count;
}

}  // namespace riffle::emulation
