#include "cuda/emulation/image.h"

#include <cxxabi.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace riffle::emulation {
namespace {

// The distance from this to the start of thread-local storage is the same in all OS threads.
thread_local char tls_anchor;

std::string demangle(const std::string& symbol) {
  int status = 0;
  char* readable = abi::__cxa_demangle(symbol.c_str(), nullptr, nullptr, &status);
  std::string result = readable != nullptr ? readable : symbol;
  std::free(readable);
  return result;
}

// Calls body(program header info) for the program itself, which comes first; shared libraries hold no kernels.
template <class Body>
void visit_program(Body body) {
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* data) {
        (*static_cast<Body*>(data))(*info);
        return 1;
      },
      &body);
}

}  // namespace

Image::Image() {
  read_segments();
  is_shared_.assign(tls_size_, false);
  owner_.assign(tls_size_, 0);
  read_symbols();
  if (functions_.empty()) {
    std::fprintf(stderr, "[emulation] the program is stripped; __shared__ arrays are found by its symbol table\n");
    std::abort();
  }
  find_owners();
}

void Image::read_segments() {
  visit_program([this](const dl_phdr_info& info) {
    base_ = info.dlpi_addr;
    for (int i = 0; i < info.dlpi_phnum; ++i) {
      const auto& header = info.dlpi_phdr[i];
      const uintptr_t address = base_ + header.p_vaddr;
      if (header.p_type == PT_TLS) {
        tls_size_ = header.p_memsz;
        anchor_offset_ = &tls_anchor - static_cast<char*>(info.dlpi_tls_data);
      }
      if (header.p_type == PT_LOAD) {
        begin_ = std::min(begin_, address);
        end_ = std::max<uintptr_t>(end_, address + header.p_memsz);
      }
    }
  });
}

void Image::read_symbols() {
  const int descriptor = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  struct stat status {};
  if (descriptor < 0 || fstat(descriptor, &status) != 0) return;
  const auto size = static_cast<size_t>(status.st_size);
  void* mapped = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
  close(descriptor);
  if (mapped == MAP_FAILED) return;
  const char* file = static_cast<const char*>(mapped);
  const auto* header = reinterpret_cast<const Elf64_Ehdr*>(file);
  const auto* sections = reinterpret_cast<const Elf64_Shdr*>(file + header->e_shoff);
  for (int i = 0; i < header->e_shnum; ++i) {
    if (sections[i].sh_type != SHT_SYMTAB) continue;
    const char* names = file + sections[sections[i].sh_link].sh_offset;
    read_symbol_table(file, sections[i].sh_offset, sections[i].sh_size / sizeof(Elf64_Sym), names);
  }
  munmap(mapped, size);
}

void Image::read_symbol_table(const char* file, size_t table, size_t entries, const char* names) {
  const auto* symbols = reinterpret_cast<const Elf64_Sym*>(file + table);
  std::string source;  // local symbols follow the entry of the source file that they come from
  for (size_t i = 0; i < entries; ++i) {
    const Elf64_Sym& symbol = symbols[i];
    const char* name = names + symbol.st_name;
    const int type = ELF64_ST_TYPE(symbol.st_info);
    const bool local = ELF64_ST_BIND(symbol.st_info) == STB_LOCAL;
    const std::string scope = (local ? source : std::string()) + ":";
    if (type == STT_FILE) source = std::to_string(i);
    // _ZZ<function>E<variable>; guard variables (_ZGV...) and other thread-locals stay out.
    if (type == STT_TLS && symbol.st_size > 0 && std::strncmp(name, "_ZZ", 3) == 0)
      arrays_.push_back({symbol.st_value, symbol.st_value + symbol.st_size, name, scope});
    if (type == STT_FUNC && symbol.st_value != 0) {
      functions_[base_ + symbol.st_value].name = name;
      function_by_scope_[scope + name] = base_ + symbol.st_value;
    }
  }
}

void Image::find_owners() {
  int owners = 0;
  for (const SharedArray& array : arrays_) {
    std::fill(is_shared_.begin() + array.begin, is_shared_.begin() + array.end, true);
    // The mangled name has no separator of its own: the longest function that fits is the one.
    for (size_t end = array.symbol.rfind('E'); end != std::string::npos && end > 3;
         end = array.symbol.rfind('E', end - 1)) {
      const std::string symbol = "_Z" + array.symbol.substr(3, end - 3);
      auto function = function_by_scope_.find(array.scope + symbol);
      if (function == function_by_scope_.end()) function = function_by_scope_.find(":" + symbol);
      if (function == function_by_scope_.end()) continue;
      Kernel& owner = functions_[function->second];
      if (owner.id == 0) owner.id = ++owners;
      owner.shared_bytes += array.end - array.begin;
      std::fill(owner_.begin() + array.begin, owner_.begin() + array.end, owner.id);
      break;
    }
  }
  is_launched_kernel_.assign(owners + 1, false);
}

const Kernel& Image::kernel(const void* function) {
  const auto address = reinterpret_cast<uintptr_t>(function);
  const auto known = described_.find(address);
  if (known != described_.end()) return known->second;
  const auto found = functions_.find(address);
  Kernel kernel = found != functions_.end() ? found->second : Kernel{"a kernel without a symbol"};
  kernel.name = demangle(kernel.name);
  is_launched_kernel_[kernel.id] = true;
  return described_.emplace(address, std::move(kernel)).first->second;
}

char* Image::shared_begin() const {
  return &tls_anchor - anchor_offset_;
}

std::string Image::describe_shared(size_t offset) const {
  for (const SharedArray& array : arrays_)
    if (offset >= array.begin && offset < array.end)
      return demangle(array.symbol) + " byte " + std::to_string(offset - array.begin);
  return "?";
}

void Image::poison_shared(const Kernel& kernel, bool first_block) const {
  for (const SharedArray& array : arrays_) {
    const int owner = owner_[array.begin];
    if (owner != 0 && owner != kernel.id && (!first_block || is_other_kernel(owner, kernel.id))) continue;
    std::memset(shared_begin() + array.begin, 0xff, array.end - array.begin);
  }
}

bool Image::contains(const void* address) const {
  const auto position = reinterpret_cast<uintptr_t>(address);
  return position >= begin_ && position < end_;
}

Image& image() {
  static Image image;
  return image;
}

}  // namespace riffle::emulation
