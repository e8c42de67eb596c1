// Files, read in one pass, replaced atomically or appended to: a reader never sees half a checkpoint, and a full disk or a
// crash never costs the previous one. Every system call is checked; errors name the path and the reason.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "core/check.h"

namespace riffle {

// Owns a POSIX file descriptor.
class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  ~FileDescriptor();

  bool valid() const { return fd_ >= 0; }
  int get() const { return fd_; }
  int close();  // like close(2); the destructor then does nothing

 private:
  int fd_;
};

// A regular file, read from its beginning.
class InputFile {
 public:
  explicit InputFile(const std::string& path);

  const std::string& path() const { return path_; }
  uint64_t size() const { return size_; }
  uint64_t position() const { return position_; }  // bytes read so far
  // The next `size` bytes; throws if the file ends before.
  void read(void* destination, size_t size);
  // Goes to byte `offset` and reads there.
  void read_at(uint64_t offset, void* destination, size_t size);

 private:
  std::string path_;
  FileDescriptor fd_;
  uint64_t size_ = 0, position_ = 0;
};

std::vector<uint8_t> file_contents(const std::string& path);

// What `parse` returns. Memory that is not there becomes an Error which names the file: a damaged file may ask for any.
template <class Parse>
auto parse_within_memory(const std::string& name, const Parse& parse) -> decltype(parse()) {
  try {
    return parse();
  } catch (const std::bad_alloc&) {
    fail("cannot read ", name, ": not enough memory for what it holds");
  } catch (const std::length_error&) {
    fail("cannot read ", name, ": not enough memory for what it claims to hold");
  }
}

// Replaces `path` by what is written. Until commit() succeeds `path` is untouched; without it, and after any failure,
// the temporary file (`path`.tmp-<pid>) is removed.
class AtomicFile {
 public:
  // Throws where the path is something other than a regular file or nothing.
  explicit AtomicFile(const std::string& path);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  void write(const void* source, size_t size);
  // Flushes the data, renames, and flushes the folder, so that the new file survives a power failure.
  void commit();

 private:
  [[noreturn]] void fail_with_errno(const char* operation) const;

  std::string path_, folder_, temporary_;
  FileDescriptor fd_;
  bool renamed_ = false;
};

// Adds to the end of a file, which is created where there is none. All of it or nothing: if that fails, what was written
// is cut off again, so that what comes next does not follow half a record.
void append_to_file(const std::string& path, std::string_view bytes);
// Likewise, to an open file that ends at byte `end`. `path` is for messages.
void append_to_file(const FileDescriptor& file, int64_t end, std::string_view bytes, const std::string& path);

}  // namespace riffle
