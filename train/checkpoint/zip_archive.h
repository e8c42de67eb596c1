// ZipArchive: reading a zip archive that is in memory, through libzip, and believing nothing that its directory claims
// until the archive's own size supports it. PyTorch's and numpy's files are such archives.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

struct zip;

namespace riffle {

class ZipArchive {
 public:
  struct Entry {
    std::string name;
    uint64_t size = 0, stored_size = 0;  // of its contents, and of those in the archive
  };

  // Only the central directory counts: PyTorch leaves sizes out of local headers. `name` stands for the file in messages.
  // The bytes must outlive the archive. Throws for what is not a zip archive, for entries that are encrypted or
  // compressed otherwise than by deflate, and where sizes contradict each other or the archive: all entries together may
  // unpack to 32 times the archive's size (or 64 MiB), so that a zip bomb costs nothing.
  ZipArchive(const uint8_t* bytes, size_t size, const std::string& name);
  ~ZipArchive();
  ZipArchive(const ZipArchive&) = delete;
  ZipArchive& operator=(const ZipArchive&) = delete;

  const std::vector<Entry>& entries() const { return entries_; }
  // The index of the entry of this name, or -1.
  int64_t find(const std::string& entry) const;
  // The contents, checksum verified. Throws naming file and entry.
  std::vector<uint8_t> read(size_t index) const;

 private:
  void check_claims(size_t size) const;

  std::string name_;
  zip* archive_ = nullptr;
  std::vector<Entry> entries_;
};

}  // namespace riffle
