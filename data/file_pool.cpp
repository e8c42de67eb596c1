// pread on descriptors that are opened on demand.
#include "data/file_pool.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <utility>

#include "core/check.h"

namespace riffle {

namespace {

constexpr uint64_t kReadAheadBytes = 8 << 20, kReadAheadStep = kReadAheadBytes / 2;

bool try_stamp(const std::string& path, FileStamp& stamp) {
  stamp.path = path;
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) return false;
  stamp.size = S_ISDIR(status.st_mode) ? 0 : static_cast<uint64_t>(status.st_size);
  stamp.mtime_ns = int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec;
  return true;
}

}  // namespace

FileStamp stamp_or_absence(const std::string& path) {
  FileStamp stamp;
  if (!try_stamp(path, stamp)) stamp.mtime_ns = std::numeric_limits<int64_t>::min();
  return stamp;
}

FileStamp stamp_of(const std::string& path) {
  FileStamp stamp;
  if (!try_stamp(path, stamp)) fail(path, ": cannot read it: ", std::strerror(errno));
  return stamp;
}

RandomAccessFile::RandomAccessFile(const std::string& path, Access access)
    : path_(path), access_(access), fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
  if (fd_ < 0) fail(path, ": cannot open the file: ", std::strerror(errno));
  struct stat status {};
  const bool known = fstat(fd_, &status) == 0;
  if (known && S_ISREG(status.st_mode)) {
    size_ = static_cast<uint64_t>(status.st_size);
    // Images are far apart; what the system would read ahead is another image, and an index would read everything.
    posix_fadvise(fd_, 0, 0, access == Access::kRandom ? POSIX_FADV_RANDOM : POSIX_FADV_SEQUENTIAL);
    return;
  }
  const int error = errno;
  ::close(fd_);
  if (!known) fail(path, ": cannot read the file: ", std::strerror(error));
  fail(path, ": not a regular file");
}

RandomAccessFile::~RandomAccessFile() {
  ::close(fd_);
}

// The system's own reading ahead follows one reader of a descriptor; here several threads, in several parts of the file,
// share it. Whoever reads across a multiple of the step asks for what comes after.
void RandomAccessFile::read_ahead(uint64_t offset, size_t count) const {
  const uint64_t end = offset + count;
  if (access_ != Access::kInOrder || offset / kReadAheadStep == end / kReadAheadStep) return;
  posix_fadvise(fd_, static_cast<off_t>(end), static_cast<off_t>(kReadAheadBytes), POSIX_FADV_WILLNEED);
}

void RandomAccessFile::read(uint64_t offset, void* destination, size_t count) const {
  read_ahead(offset, count);
  auto* to = static_cast<uint8_t*>(destination);
  while (count > 0) {
    const ssize_t got = ::pread(fd_, to, count, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail(path_, ": cannot read ", count, " bytes at ", offset, ": ", std::strerror(errno));
    if (got == 0) fail(path_, ": the file ends at byte ", offset, ", where ", count, " more bytes were expected");
    to += got;
    offset += static_cast<uint64_t>(got);
    count -= static_cast<size_t>(got);
  }
}

std::vector<uint8_t> RandomAccessFile::read(uint64_t offset, size_t count) const {
  if (offset > size_ || count > size_ - offset)
    fail(path_, ": ", count, " bytes at ", offset, " lie beyond the end of the file, which has ", size_, " bytes");
  std::vector<uint8_t> bytes(count);
  read(offset, bytes.data(), count);
  return bytes;
}

size_t default_open_files() {
  constexpr rlim_t kLeast = 64, kMost = 4096;
  struct rlimit limit {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return kLeast;
  return static_cast<size_t>(std::clamp<rlim_t>(limit.rlim_cur / 4, kLeast, kMost));
}

FilePool::FilePool(std::vector<std::string> paths, size_t max_open, Access access)
    : paths_(std::move(paths)), max_open_(max_open), access_(access) {
  RIFFLE_CHECK(max_open > 0, "a pool of no files");
}

std::shared_ptr<const RandomAccessFile> FilePool::find(size_t file) const {
  const auto found = opened_.find(file);
  if (found == opened_.end()) return nullptr;
  found->second.last_use = ++clock_;
  return found->second.handle;
}

std::shared_ptr<const RandomAccessFile> FilePool::open(size_t file) const {
  RIFFLE_CHECK(file < paths_.size(), "file ", file, " of ", paths_.size());
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (auto handle = find(file)) return handle;
  }
  // Opening may take long on a network disk, and other threads read other files meanwhile.
  auto opened = std::make_shared<const RandomAccessFile>(paths_[file], access_);
  const std::lock_guard<std::mutex> lock(mutex_);
  if (auto handle = find(file)) return handle;
  if (opened_.size() == max_open_) {
    opened_.erase(std::min_element(opened_.begin(), opened_.end(),
                                   [](const auto& a, const auto& b) { return a.second.last_use < b.second.last_use; }));
  }
  opened_[file] = {++clock_, opened};
  return opened;
}

size_t FilePool::open_count() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return opened_.size();
}

}  // namespace riffle
