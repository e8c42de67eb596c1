// .npz: a zip archive of .npy files, through libzip. What the archive's directory claims is checked before it is
// believed.
#include <zip.h>

#include <memory>
#include <new>

#include "train/checkpoint/file_io.h"
#include "train/checkpoint/numpy.h"

namespace riffle {
namespace {

struct ArchiveCloser {
  void operator()(zip_t* archive) const { zip_discard(archive); }
};
struct EntryCloser {
  void operator()(zip_file_t* entry) const { zip_fclose(entry); }
};

std::unique_ptr<zip_t, ArchiveCloser> open_archive(const std::string& path) {
  int code = 0;
  std::unique_ptr<zip_t, ArchiveCloser> archive(zip_open(path.c_str(), ZIP_RDONLY, &code));
  if (archive == nullptr) {
    zip_error_t error;
    zip_error_init_with_code(&error, code);
    const std::string reason = zip_error_strerror(&error);
    zip_error_fini(&error);
    fail("cannot read ", path, " as an .npz archive: ", reason);
  }
  return archive;
}

// Refuses what an entry claims if the archive cannot hold it. Deflate shrinks at most 1032 times.
void check_claims(const zip_stat_t& status, uint64_t archive_bytes, const std::string& name) {
  constexpr zip_uint64_t kNeeded =
      ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD | ZIP_STAT_ENCRYPTION_METHOD;
  constexpr uint64_t kMaxDeflateRatio = 1032;
  if ((status.valid & kNeeded) != kNeeded) fail(name, ": the archive does not say how large it is");
  if (status.encryption_method != ZIP_EM_NONE) fail(name, " is encrypted; expected a plain .npz");
  if (status.comp_method != ZIP_CM_STORE && status.comp_method != ZIP_CM_DEFLATE)
    fail(name, " is compressed by zip method ", status.comp_method, "; expected stored or deflated");
  const bool stored = status.comp_method == ZIP_CM_STORE;
  const uint64_t limit = stored ? status.comp_size : status.comp_size * kMaxDeflateRatio;
  if (status.comp_size > archive_bytes || status.size > limit)
    fail(name, " claims ", status.size, " bytes, stored in ", status.comp_size, ", in a file of ", archive_bytes,
         " bytes; the archive is corrupt");
}

std::vector<uint8_t> read_entry(zip_t* archive, zip_uint64_t index, uint64_t size, const std::string& name) {
  const std::unique_ptr<zip_file_t, EntryCloser> entry(zip_fopen_index(archive, index, 0));
  if (entry == nullptr) fail("cannot read ", name, ": ", zip_strerror(archive));
  std::vector<uint8_t> bytes;
  try {
    bytes.resize(size);
  } catch (const std::bad_alloc&) {
    fail("cannot read ", name, ": not enough memory for its ", size, " bytes");
  }
  size_t filled = 0;
  uint8_t beyond = 0;
  while (true) {
    // At the end one more byte is asked for: libzip checks the checksum there, and there should be none.
    const bool at_end = filled == bytes.size();
    const zip_int64_t count =
        at_end ? zip_fread(entry.get(), &beyond, 1) : zip_fread(entry.get(), bytes.data() + filled, size - filled);
    if (count < 0) fail("cannot read ", name, ": ", zip_file_strerror(entry.get()), "; is the archive damaged?");
    if (at_end && count > 0) fail(name, " holds more than the ", size, " bytes that the archive claims");
    if (!at_end && count == 0) fail(name, " ends after ", filled, " of ", size, " bytes; is the archive truncated?");
    if (at_end) return bytes;
    filled += static_cast<size_t>(count);
  }
}

}  // namespace

TensorMap read_npz(const std::string& path) {
  const uint64_t archive_bytes = InputFile(path).size();
  const auto archive = open_archive(path);
  const zip_int64_t count = zip_get_num_entries(archive.get(), 0);
  TensorMap tensors;
  for (zip_uint64_t index = 0; index < static_cast<zip_uint64_t>(count); ++index) {
    zip_stat_t status;
    zip_stat_init(&status);
    if (zip_stat_index(archive.get(), index, 0, &status) != 0)
      fail("cannot read entry ", index, " of ", path, ": ", zip_strerror(archive.get()));
    const std::string entry_name = status.name, suffix = ".npy", name = join(path, "[", entry_name, "]");
    if (entry_name.size() <= suffix.size() || entry_name.substr(entry_name.size() - suffix.size()) != suffix)
      fail(path, " holds '", entry_name, "'; expected only .npy arrays in an .npz archive");
    check_claims(status, archive_bytes, name);
    const std::string key = entry_name.substr(0, entry_name.size() - suffix.size());
    if (!tensors.emplace(key, parse_npy(read_entry(archive.get(), index, status.size, name), name)).second)
      fail(path, " holds '", key, "' twice");
  }
  return tensors;
}

}  // namespace riffle
