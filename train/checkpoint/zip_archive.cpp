// Reading zip archives.
#include "train/checkpoint/zip_archive.h"

#include <zip.h>

#include <algorithm>

#include "core/check.h"

namespace riffle {
namespace {

constexpr uint64_t kLargestExpansion = 32, kSmallArchive = uint64_t{64} << 20;

struct EntryCloser {
  void operator()(zip_file_t* entry) const { zip_fclose(entry); }
};

std::string message_of(zip_error_t& error) {
  std::string message = zip_error_strerror(&error);
  zip_error_fini(&error);
  return message;
}

}  // namespace

ZipArchive::ZipArchive(const uint8_t* bytes, size_t size, const std::string& name) : name_(name) {
  // libzip takes nothing at all for an archive without entries.
  if (size == 0) fail("cannot read ", name, " as a zip archive: it is empty; was it truncated?");
  zip_error_t error;
  zip_error_init(&error);
  zip_source_t* source = zip_source_buffer_create(bytes, size, /*freep=*/0, &error);
  if (source == nullptr) fail("cannot read ", name, " as a zip archive: ", message_of(error));
  archive_ = zip_open_from_source(source, ZIP_RDONLY, &error);
  if (archive_ == nullptr) {
    zip_source_free(source);
    fail("cannot read ", name, " as a zip archive: ", message_of(error), "; was it truncated?");
  }
  zip_error_fini(&error);
  try {
    check_claims(size);
    const zip_int64_t count = zip_get_num_entries(archive_, 0);
    for (zip_uint64_t index = 0; index < static_cast<zip_uint64_t>(count); ++index) {
      zip_stat_t status;
      zip_stat_init(&status);
      if (zip_stat_index(archive_, index, 0, &status) != 0)
        fail("cannot read entry ", index, " of ", name, ": ", zip_strerror(archive_));
      entries_.push_back({status.name, status.size, status.comp_size});
    }
  } catch (...) {
    zip_discard(archive_);
    throw;
  }
}

ZipArchive::~ZipArchive() {
  zip_discard(archive_);
}

void ZipArchive::check_claims(size_t size) const {
  constexpr zip_uint64_t kNeeded =
      ZIP_STAT_NAME | ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD | ZIP_STAT_ENCRYPTION_METHOD;
  const uint64_t largest_total = std::max(kLargestExpansion * size, kSmallArchive);
  uint64_t total = 0, total_stored = 0;
  const zip_int64_t count = zip_get_num_entries(archive_, 0);
  for (zip_uint64_t index = 0; index < static_cast<zip_uint64_t>(count); ++index) {
    zip_stat_t status;
    zip_stat_init(&status);
    if (zip_stat_index(archive_, index, 0, &status) != 0 || (status.valid & kNeeded) != kNeeded)
      fail(name_, ": the archive's directory does not describe its entry ", index);
    const std::string where = join(name_, "[", status.name, "]");
    if (status.encryption_method != ZIP_EM_NONE) fail(where, " is encrypted; expected a plain archive");
    if (status.comp_method != ZIP_CM_STORE && status.comp_method != ZIP_CM_DEFLATE)
      fail(where, " is compressed by zip method ", status.comp_method, "; expected stored or deflated");
    const bool stored = status.comp_method == ZIP_CM_STORE;
    if (status.comp_size > size || (stored && status.size != status.comp_size))
      fail(where, " claims ", status.size, " bytes, stored in ", status.comp_size, ", in a file of ", size,
           " bytes; the archive is corrupt");
    // No overflow: both sums are checked while they are small.
    total_stored += status.comp_size;
    if (total_stored > size) fail(name_, ": its entries claim more than its ", size, " bytes; the archive is corrupt");
    if (status.size > largest_total || (total += status.size) > largest_total)
      fail(where, " claims ", status.size, " bytes in an archive of ", size,
           "; no checkpoint shrinks that far (at most ", kLargestExpansion, " times is accepted)");
  }
}

int64_t ZipArchive::find(const std::string& entry) const {
  const auto found =
      std::find_if(entries_.begin(), entries_.end(), [&entry](const Entry& other) { return other.name == entry; });
  return found == entries_.end() ? -1 : found - entries_.begin();
}

std::vector<uint8_t> ZipArchive::read(size_t index) const {
  const std::string where = join(name_, "[", entries_.at(index).name, "]");
  const uint64_t size = entries_[index].size;
  const std::unique_ptr<zip_file_t, EntryCloser> entry(zip_fopen_index(archive_, index, 0));
  if (entry == nullptr) fail("cannot read ", where, ": ", zip_strerror(archive_));
  std::vector<uint8_t> bytes(size);
  size_t filled = 0;
  while (true) {
    // At the end one more byte is asked for: libzip checks the checksum there, and there should be none.
    uint8_t beyond = 0;
    const bool at_end = filled == size;
    const zip_int64_t count =
        at_end ? zip_fread(entry.get(), &beyond, 1) : zip_fread(entry.get(), bytes.data() + filled, size - filled);
    if (count < 0) fail("cannot read ", where, ": ", zip_file_strerror(entry.get()), "; is the archive damaged?");
    if (at_end && count > 0) fail(where, " holds more than the ", size, " bytes that the archive claims");
    if (!at_end && count == 0) fail(where, " ends after ", filled, " of ", size, " bytes; is the archive truncated?");
    if (at_end) return bytes;
    filled += static_cast<size_t>(count);
  }
}

}  // namespace riffle
