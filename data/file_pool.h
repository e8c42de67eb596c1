// Files read at any offset by many threads, with a bound on how many are open: a data set may have thousands of shards,
// a process by default 1,024 descriptors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

namespace riffle {

// What tells whether a file or folder changed. Folders have size 0: their time changes with every entry.
struct FileStamp {
  std::string path;
  uint64_t size = 0;
  int64_t mtime_ns = 0;

  bool operator==(const FileStamp& other) const {
    return path == other.path && size == other.size && mtime_ns == other.mtime_ns;
  }
};
FileStamp stamp_of(const std::string& path);  // throws with the path and the reason
// Where there is nothing, a stamp that says so: it changes when something appears.
FileStamp stamp_or_absence(const std::string& path);

// What the system is told about the reads to come: nothing is read ahead, or some megabytes beyond each read. Reads in
// order may go on at several places of a file at once.
enum class Access { kRandom, kInOrder };

class RandomAccessFile {
 public:
  // Throws unless it is a readable regular file.
  explicit RandomAccessFile(const std::string& path, Access access = Access::kRandom);
  RandomAccessFile(const RandomAccessFile&) = delete;
  RandomAccessFile& operator=(const RandomAccessFile&) = delete;
  ~RandomAccessFile();

  const std::string& path() const { return path_; }
  uint64_t size() const { return size_; }
  // Thread-safe (pread). Throws where the file ends before.
  void read(uint64_t offset, void* destination, size_t count) const;
  std::vector<uint8_t> read(uint64_t offset, size_t count) const;

 private:
  void read_ahead(uint64_t offset, size_t count) const;

  std::string path_;
  Access access_;
  int fd_;
  uint64_t size_ = 0;
};

// How many files a pool may hold: a quarter of what the process may open, since training and validation data have a pool
// each and leave half; from 64 to 4,096.
size_t default_open_files();

// The least recently used file is closed when one more than `max_open` would be open; a read in progress keeps its own.
class FilePool {
 public:
  explicit FilePool(std::vector<std::string> paths, size_t max_open = default_open_files(),
                    Access access = Access::kRandom);

  const std::vector<std::string>& paths() const { return paths_; }
  std::shared_ptr<const RandomAccessFile> open(size_t file) const;  // thread-safe
  size_t open_count() const;

 private:
  struct Opened {
    uint64_t last_use = 0;
    std::shared_ptr<const RandomAccessFile> handle;
  };
  std::shared_ptr<const RandomAccessFile> find(size_t file) const;  // with the mutex held; null: not open

  std::vector<std::string> paths_;
  size_t max_open_;
  Access access_;
  mutable std::mutex mutex_;
  mutable std::unordered_map<size_t, Opened> opened_;  // by file; guarded by the mutex, as is the clock
  mutable uint64_t clock_ = 0;
};

}  // namespace riffle
