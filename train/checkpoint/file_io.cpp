// Reading, atomic replacement and appending of files, on POSIX system calls: streams report neither the reason nor a
// failed close.
#include "train/checkpoint/file_io.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "core/check.h"

namespace riffle {
namespace {

std::string reason(int error) {
  return std::generic_category().message(error);
}

int open_retrying(const std::string& path, int flags, mode_t mode = 0) {
  int fd;
  do {
    fd = open(path.c_str(), flags | O_CLOEXEC, mode);
  } while (fd < 0 && errno == EINTR);
  return fd;
}

std::string folder_of(const std::string& path) {
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  return folder.empty() ? "." : folder.string();
}

int create_temporary(const std::string& path, const std::string& folder, const std::string& temporary) {
  std::error_code ignored;
  if (!std::filesystem::exists(folder, ignored) && !ignored)
    fail("cannot write ", path, ": the folder ", folder, " does not exist");
  unlink(temporary.c_str());  // left by a killed process that had our process id
  const int fd = open_retrying(temporary, O_WRONLY | O_CREAT | O_EXCL, 0666);
  if (fd < 0) fail("cannot write ", path, ": cannot create a file in the folder ", folder, ": ", reason(errno));
  return fd;
}

}  // namespace

FileDescriptor::~FileDescriptor() {
  close();
}

int FileDescriptor::close() {
  if (fd_ < 0) return 0;
  const int fd = fd_;
  fd_ = -1;
  return ::close(fd);
}

InputFile::InputFile(const std::string& path) : path_(path), fd_(open_retrying(path, O_RDONLY)) {
  if (!fd_.valid()) fail("cannot read ", path, ": ", reason(errno));
  struct stat status {};
  if (fstat(fd_.get(), &status) != 0) fail("cannot read ", path, ": ", reason(errno));
  if (S_ISDIR(status.st_mode)) fail("cannot read ", path, ": it is a folder, expected a file");
  if (!S_ISREG(status.st_mode)) fail("cannot read ", path, ": it is not a regular file");
  size_ = static_cast<uint64_t>(status.st_size);
}

void InputFile::read(void* destination, size_t size) {
  auto* to = static_cast<uint8_t*>(destination);
  while (size > 0) {
    const ssize_t count = ::read(fd_.get(), to, size);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail("cannot read ", path_, ": ", reason(errno));
    if (count == 0)
      fail("cannot read ", path_, ": the file ended ", size, " bytes early; was it cut while being read?");
    to += count;
    size -= static_cast<size_t>(count);
    position_ += static_cast<uint64_t>(count);
  }
}

void InputFile::read_at(uint64_t offset, void* destination, size_t size) {
  if (lseek(fd_.get(), static_cast<off_t>(offset), SEEK_SET) < 0) fail("cannot read ", path_, ": ", reason(errno));
  position_ = offset;
  read(destination, size);
}

std::vector<uint8_t> file_contents(const std::string& path) {
  return parse_within_memory(path, [&path] {
    InputFile input(path);
    std::vector<uint8_t> bytes(input.size());
    input.read(bytes.data(), bytes.size());
    return bytes;
  });
}

namespace {

// Renaming over a device or a pipe would replace it by a file, as root even /dev/null.
const std::string& checked_target(const std::string& path) {
  struct stat status {};
  if (stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode))
    fail("cannot write ", path, ": it is ", S_ISDIR(status.st_mode) ? "a folder" : "not a regular file");
  return path;
}

}  // namespace

AtomicFile::AtomicFile(const std::string& path)
    : path_(checked_target(path)),
      folder_(folder_of(path)),
      temporary_(join(path, ".tmp-", getpid())),
      fd_(create_temporary(path_, folder_, temporary_)) {}

AtomicFile::~AtomicFile() {
  if (!renamed_) unlink(temporary_.c_str());
}

void AtomicFile::fail_with_errno(const char* operation) const {
  const int error = errno;
  fail("cannot write ", path_, ": ", operation, ": ", reason(error),
       error == ENOSPC || error == EDQUOT ? " (free some space)" : "", "; the previous file, if any, is unchanged");
}

void AtomicFile::write(const void* source, size_t size) {
  const auto* from = static_cast<const uint8_t*>(source);
  while (size > 0) {
    const ssize_t count = ::write(fd_.get(), from, size);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_with_errno("write");
    if (count == 0) fail("cannot write ", path_, ": the system accepts no more bytes");
    from += count;
    size -= static_cast<size_t>(count);
  }
}

void AtomicFile::commit() {
  if (fsync(fd_.get()) != 0) fail_with_errno("fsync");
  if (fd_.close() != 0) fail_with_errno("close");
  if (rename(temporary_.c_str(), path_.c_str()) != 0) fail_with_errno("rename");
  renamed_ = true;

  const FileDescriptor folder(open_retrying(folder_, O_RDONLY | O_DIRECTORY));
  // EINVAL: a file system that cannot flush folders, and so promises nothing that we could wait for. EACCES: a folder
  // that we may write but not list.
  const bool flushed = folder.valid() ? fsync(folder.get()) == 0 || errno == EINVAL : errno == EACCES;
  if (!flushed) fail("wrote ", path_, ", but cannot flush its folder to the disk: ", reason(errno));
}

namespace {

[[noreturn]] void fail_to_append(const std::string& path, int error, bool cut) {
  fail("cannot write ", path, ": ", reason(error), cut ? "" : "; nor can what was written be cut off again");
}

}  // namespace

void append_to_file(const FileDescriptor& file, int64_t end, std::string_view bytes, const std::string& path) {
  lseek(file.get(), static_cast<off_t>(end), SEEK_SET);  // fails where there are no places, in a pipe
  while (!bytes.empty()) {
    const ssize_t count = ::write(file.get(), bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count > 0) {
      bytes.remove_prefix(static_cast<size_t>(count));
      continue;
    }
    const int error = count < 0 ? errno : EIO;
    // EINVAL: a device or a pipe, which keeps nothing that could be cut.
    fail_to_append(path, error, ftruncate(file.get(), static_cast<off_t>(end)) == 0 || errno == EINVAL);
  }
}

void append_to_file(const std::string& path, std::string_view bytes) {
  FileDescriptor file(open_retrying(path, O_WRONLY | O_CREAT, 0666));
  struct stat status {};
  if (!file.valid() || fstat(file.get(), &status) != 0) fail("cannot write ", path, ": ", reason(errno));
  append_to_file(file, status.st_size, bytes, path);
  if (file.close() == 0) return;  // else a network's file system has not taken what it was given
  const int error = errno;
  fail_to_append(path, error, truncate(path.c_str(), status.st_size) == 0);
}

}  // namespace riffle
