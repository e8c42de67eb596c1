// What the running program's ELF file tells: which thread-local bytes are __shared__ arrays, whose they are, and where
// the program itself lies. A function-local thread_local of host code looks the same and would be poisoned: have none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace riffle::emulation {

struct Kernel {
  std::string name;         // as written in the source, or an address where the symbol table has none
  int id = 0;               // of the owner of shared arrays; 0 where it has none
  size_t shared_bytes = 0;  // of its __shared__ arrays
};

class Image {
 public:
  Image();  // of the running program; aborts where it was stripped

  const Kernel& kernel(const void* function);  // one that is being launched
  // The calling OS thread's copy of thread-local storage.
  char* shared_begin() const;
  size_t shared_size() const { return tls_size_; }
  // Of the byte at an offset from shared_begin(): whether it is of an array, and whose (0: a device function's).
  bool is_shared(size_t offset) const { return is_shared_[offset]; }
  int owner(size_t offset) const { return owner_[offset]; }
  // Owners other than kernels are device functions, whose arrays any kernel may have.
  bool is_other_kernel(int owner, int kernel) const { return owner != kernel && is_launched_kernel_[owner]; }
  std::string describe_shared(size_t offset) const;
  // Fills what a block of `kernel` may use with NaN (in float, half and bfloat16): its own arrays and those of device
  // functions. Which functions are kernels shows when they are launched, so all others' are filled once a launch.
  void poison_shared(const Kernel& kernel, bool first_block) const;
  // Code and global variables, among them __constant__ and __device__ ones.
  bool contains(const void* address) const;

 private:
  struct SharedArray {
    size_t begin, end;
    std::string symbol, scope;
  };
  void read_segments();
  void read_symbols();
  void read_symbol_table(const char* file, size_t table, size_t entries, const char* names);
  void find_owners();

  uintptr_t base_ = 0, begin_ = ~uintptr_t{0}, end_ = 0;
  size_t tls_size_ = 0;
  ptrdiff_t anchor_offset_ = 0;
  std::vector<SharedArray> arrays_;
  std::map<uintptr_t, Kernel> functions_;               // by address; names mangled until asked for
  std::map<std::string, uintptr_t> function_by_scope_;  // "file:mangled name", file empty for global symbols
  std::vector<bool> is_shared_;
  std::vector<int> owner_;
  std::vector<bool> is_launched_kernel_;  // by owner
  std::map<uintptr_t, Kernel> described_;
};

// Read at the first call.
Image& image();

}  // namespace riffle::emulation
