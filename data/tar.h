// Tar files: where each member's bytes lie, so that they can be read in any order without unpacking; and a writer. Reads
// ustar and its predecessor, GNU long names, pax headers (path, size), and base-256 sizes, which files above 8 GiB have.
// https://www.gnu.org/software/tar/manual/html_node/Standard.html and POSIX.1-2017, pax.
#pragma once

#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>

#include "data/file_pool.h"

namespace riffle {

struct TarMember {
  std::string name;  // with '/' between folders; no "./" in front
  enum class Type { kFile, kFolder, kLink, kOther } type = Type::kFile;
  uint64_t offset = 0, size = 0;  // of the contents, in the file that holds the tar file
};

// Calls `visit` for each member of the tar file that fills bytes [begin, end) of `file`, in order. A tar file inside a
// tar file is walked by giving its member's range. `what` names the tar file for messages. Throws, with the offset, for
// what is no tar file, wrong checksums, members that reach beyond the end, and a missing end mark (truncated).
void walk_tar(const RandomAccessFile& file, uint64_t begin, uint64_t end, const std::string& what,
              const std::function<void(const TarMember&)>& visit);
void walk_tar(const RandomAccessFile& file, const std::function<void(const TarMember&)>& visit);

// Writes regular files with fixed owner, mode and time, so that the same members give the same bytes.
class TarWriter {
 public:
  explicit TarWriter(const std::string& path);  // replaces the file
  // Returns where the contents begin in the file. Names of up to 100 bytes.
  uint64_t add(const std::string& name, const void* bytes, size_t size);
  uint64_t finish();  // writes the end mark, flushes to the disk; returns the file's size

 private:
  void write(const void* bytes, size_t size);

  std::string path_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_;
  uint64_t position_ = 0;
};

}  // namespace riffle
