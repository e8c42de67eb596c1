// The memory of the emulated devices: allocations within one address range a device. Behind each lies a guard page, and
// what surrounds it within its own pages is checked when it is freed. Freed ranges are reused as late as possible.
#pragma once

#include <cstddef>
#include <map>
#include <string>

namespace riffle::emulation {

constexpr int kMaxDevices = 8;
constexpr size_t kArenaBytes = size_t{4} << 30;  // a device's address range
constexpr size_t kPageBytes = 4096;
constexpr size_t kAllocationAlignment = 256;  // as cudaMalloc's

struct Allocation {
  size_t bytes = 0;         // as asked for
  char* pages = nullptr;    // first page
  size_t page_bytes = 0;    // without the guard page
  bool accessible = false;  // in stream order it exists now
  bool given_back = false;  // cudaFreeAsync was called
};

class DeviceMemory {
 public:
  DeviceMemory(char* arena, size_t total_bytes);

  // Takes an address range that nobody may touch yet; null if the device has no such memory left.
  char* reserve(size_t bytes);
  // Marks an allocation, which must begin at `address`, as given back; false if there is none or it already is.
  bool give_back(void* address);
  void make_accessible(char* address);  // contents: NaN
  // Nobody may touch it any more; reports writes outside it.
  void make_inaccessible(char* address);
  void release(char* address);
  // The allocation that holds `address`, else null.
  const Allocation* find(const void* address, const char** begin = nullptr) const;

  size_t total_bytes() const { return total_bytes_; }
  size_t bytes_in_use() const { return bytes_in_use_; }
  void set_total_bytes(size_t bytes) { total_bytes_ = bytes; }

 private:
  char* arena_;
  size_t total_bytes_, bytes_in_use_ = 0;
  std::map<char*, Allocation> allocations_;
  std::map<char*, size_t> free_;  // ranges by address, neighbours merged
  char* cursor_;                  // where the search for a free range begins
};

// Which device's memory holds `address`; -1: none's.
int device_of(const void* address);
// The offset from the begin of device 0's range.
size_t arena_offset(const void* address);
DeviceMemory& memory_of(int device);
int device_count();

// Memory that cudaMallocHost, cudaHostAlloc or cudaHostRegister made known.
void add_pinned(void* address, size_t bytes, bool registered);
// False if it is not the begin of such memory.
bool remove_pinned(void* address, bool registered);
bool is_pinned(const void* address, size_t bytes = 1);

}  // namespace riffle::emulation
