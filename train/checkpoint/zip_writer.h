// ZipWriter: archives of stored entries as PyTorch and numpy write them, replaced atomically. libzip writes archives too,
// but not with data aligned for memory mapping, which PyTorch's readers expect.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "train/checkpoint/file_io.h"

namespace riffle {

class ZipWriter {
 public:
  // Contents begin at multiples of `alignment` (at most 4096).
  explicit ZipWriter(const std::string& path, uint32_t alignment = 1);

  // Throws where the archive would leave 4 GiB, or the entries 65,535.
  void add(const std::string& name, const void* contents, uint64_t size);
  // Writes the directory and puts the file in its place. Without it nothing changes.
  void commit();

 private:
  struct Written {
    std::string name;
    uint32_t offset, size, checksum;
  };
  void write(const std::string& bytes);

  std::string path_;
  uint32_t alignment_;
  AtomicFile file_;
  uint64_t position_ = 0;
  std::vector<Written> entries_;
};

}  // namespace riffle
