#include "cuda/emulation/device_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "cuda/emulation/control.h"
#include "cuda/emulation/report.h"
#include "cuda/emulation/shadow.h"

namespace riffle::emulation {
namespace {

constexpr unsigned char kUnwritten = 0xff;     // NaN in float, half and bfloat16
constexpr unsigned char kSurroundings = 0xfe;  // NaN in half, -1.7e38 in float and bfloat16

size_t round_up(size_t value, size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

size_t whole_number_from_environment(const char* name, size_t otherwise, size_t least, size_t most) {
  const char* text = std::getenv(name);
  if (text == nullptr) return otherwise;
  char* end = nullptr;
  const size_t value = std::strtoull(text, &end, 10);
  if (end == text || *end != '\0' || value < least || value > most) {
    std::fprintf(stderr, "[emulation] %s=%s is not a whole number from %zu to %zu\n", name, text, least, most);
    std::abort();
  }
  return value;
}

struct Devices {
  int count = static_cast<int>(whole_number_from_environment("RIFFLE_EMULATION_DEVICES", 1, 1, kMaxDevices));
  size_t memory_bytes = whole_number_from_environment("RIFFLE_EMULATION_MEMORY_MB", 2048, 1, kArenaBytes >> 20) << 20;
  char* arenas = nullptr;
  std::vector<std::unique_ptr<DeviceMemory>> memories;  // empty until first used
};

// Never destroyed: other objects with static lifetime may free device memory.
Devices& devices() {
  static auto* devices = new Devices;
  return *devices;
}

void create_memories() {
  Devices& all = devices();
  const size_t bytes = kArenaBytes * all.count;
  void* arenas = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (arenas == MAP_FAILED) {
    std::perror("[emulation] no address space for the devices' memory");
    std::abort();
  }
  all.arenas = static_cast<char*>(arenas);
  for (int device = 0; device < all.count; ++device)
    all.memories.push_back(std::make_unique<DeviceMemory>(all.arenas + device * kArenaBytes, all.memory_bytes));
  if constexpr (kCheckBuild) create_shadow(bytes);
}

struct Pinned {
  size_t bytes;
  bool registered;
};

std::map<char*, Pinned>& pinned() {
  static auto* ranges = new std::map<char*, Pinned>;
  return *ranges;
}

}  // namespace

DeviceMemory::DeviceMemory(char* arena, size_t total_bytes) : arena_(arena), total_bytes_(total_bytes), cursor_(arena) {
  free_[arena] = kArenaBytes;
}

char* DeviceMemory::reserve(size_t bytes) {
  if (bytes > total_bytes_ || bytes_in_use_ > total_bytes_ - bytes) return nullptr;
  const size_t page_bytes = round_up(bytes, kPageBytes), needed = page_bytes + kPageBytes;
  const auto fits = [&](const auto& range) { return range.second >= needed; };
  auto range = std::find_if(free_.lower_bound(cursor_), free_.end(), fits);
  if (range == free_.end()) range = std::find_if(free_.begin(), free_.end(), fits);
  if (range == free_.end()) return nullptr;
  char* pages = range->first;
  const size_t left = range->second - needed;
  free_.erase(range);
  if (left > 0) free_[pages + needed] = left;
  cursor_ = pages + needed;

  char* address = pages + page_bytes - round_up(bytes, kAllocationAlignment);
  allocations_[address] = {bytes, pages, page_bytes, false, false};
  bytes_in_use_ += bytes;
  return address;
}

bool DeviceMemory::give_back(void* address) {
  const auto allocation = allocations_.find(static_cast<char*>(address));
  if (allocation == allocations_.end() || allocation->second.given_back) return false;
  allocation->second.given_back = true;
  return true;
}

void DeviceMemory::make_accessible(char* address) {
  Allocation& allocation = allocations_.at(address);
  mprotect(allocation.pages, allocation.page_bytes, PROT_READ | PROT_WRITE);
  char* const end = address + allocation.bytes;
  std::memset(allocation.pages, kSurroundings, address - allocation.pages);
  std::memset(end, kSurroundings, allocation.pages + allocation.page_bytes - end);
  std::memset(address, kUnwritten, allocation.bytes);
  allocation.accessible = true;
}

void DeviceMemory::make_inaccessible(char* address) {
  Allocation& allocation = allocations_.at(address);
  const auto changed = [](char byte) { return static_cast<unsigned char>(byte) != kSurroundings; };
  char* const end = address + allocation.bytes;
  char* const pages_end = allocation.pages + allocation.page_bytes;
  const char* before = std::find_if(allocation.pages, address, changed);
  const char* behind = std::find_if(end, pages_end, changed);
  if (before != address)
    report("out of bounds", "something wrote %td bytes before an allocation of %zu bytes", address - before,
           allocation.bytes);
  if (behind != pages_end)
    report("out of bounds", "something wrote %td bytes behind the end of an allocation of %zu bytes", behind - end,
           allocation.bytes);
  madvise(allocation.pages, allocation.page_bytes, MADV_DONTNEED);
  mprotect(allocation.pages, allocation.page_bytes, PROT_NONE);
  if constexpr (kCheckBuild) forget_shadow(allocation.pages, allocation.page_bytes);
  allocation.accessible = false;
}

void DeviceMemory::release(char* address) {
  const auto allocation = allocations_.find(address);
  bytes_in_use_ -= allocation->second.bytes;
  auto range = free_.emplace(allocation->second.pages, allocation->second.page_bytes + kPageBytes).first;
  allocations_.erase(allocation);
  const auto next = std::next(range);
  if (next != free_.end() && range->first + range->second == next->first) {
    range->second += next->second;
    free_.erase(next);
  }
  if (range == free_.begin()) return;
  const auto previous = std::prev(range);
  if (previous->first + previous->second != range->first) return;
  previous->second += range->second;
  free_.erase(range);
}

const Allocation* DeviceMemory::find(const void* address, const char** begin) const {
  const auto* byte = static_cast<const char*>(address);
  auto allocation = allocations_.upper_bound(const_cast<char*>(byte));
  if (allocation == allocations_.begin()) return nullptr;
  --allocation;
  if (byte >= allocation->first + allocation->second.bytes) return nullptr;
  if (begin != nullptr) *begin = allocation->first;
  return &allocation->second;
}

int device_count() {
  if (devices().memories.empty()) create_memories();
  return devices().count;
}

int device_of(const void* address) {
  const size_t offset = arena_offset(address);
  return offset < kArenaBytes * devices().memories.size() ? static_cast<int>(offset / kArenaBytes) : -1;
}

size_t arena_offset(const void* address) {
  return reinterpret_cast<uintptr_t>(address) - reinterpret_cast<uintptr_t>(devices().arenas);
}

DeviceMemory& memory_of(int device) {
  device_count();
  return *devices().memories.at(device);
}

void set_device_count(int count) {
  if (!devices().memories.empty() || count < 1 || count > kMaxDevices) {
    std::fprintf(stderr, "[emulation] set_device_count(%d): 1 to %d, before the first CUDA call\n", count, kMaxDevices);
    std::abort();
  }
  devices().count = count;
}

void set_device_memory(size_t bytes) {
  devices().memory_bytes = std::min(bytes, kArenaBytes);
  for (auto& memory : devices().memories) memory->set_total_bytes(devices().memory_bytes);
}

void add_pinned(void* address, size_t bytes, bool registered) {
  pinned()[static_cast<char*>(address)] = {bytes, registered};
}

bool remove_pinned(void* address, bool registered) {
  const auto range = pinned().find(static_cast<char*>(address));
  if (range == pinned().end() || range->second.registered != registered) return false;
  pinned().erase(range);
  return true;
}

bool is_pinned(const void* address, size_t bytes) {
  auto* byte = const_cast<char*>(static_cast<const char*>(address));
  auto range = pinned().upper_bound(byte);
  if (range == pinned().begin()) return false;
  --range;
  return byte + bytes <= range->first + range->second.bytes;
}

}  // namespace riffle::emulation
