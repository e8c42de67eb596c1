// Listings on disk: a file for each source, named by a hash of its key. Whatever does not fit is scanned anew.
#include <zlib.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <tuple>
#include <type_traits>

#include <unistd.h>

#include "core/check.h"
#include "data/image.h"
#include "data/listing.h"

namespace riffle {
namespace {

namespace fs = std::filesystem;

constexpr char kMagic[] = "riffle-listing-2";

// What is stored of each structure, in this order.
constexpr auto members_of(const Listing::Container&) {
  using C = Listing::Container;
  return std::make_tuple(&C::file, &C::prefix);
}
constexpr auto members_of(const Listing::Sample&) {
  using S = Listing::Sample;
  return std::make_tuple(&S::offset, &S::size, &S::name_end, &S::container, &S::crc32, &S::label);
}
constexpr auto members_of(const FileStamp&) {
  return std::make_tuple(&FileStamp::path, &FileStamp::size, &FileStamp::mtime_ns);
}
constexpr auto members_of(const Listing&) {
  using L = Listing;
  return std::make_tuple(&L::kind, &L::root, &L::classes, &L::numbered, &L::in_tars, &L::has_crc32,
                         &L::labelled_by_file, &L::files, &L::containers, &L::samples, &L::names, &L::warnings,
                         &L::stamps);
}

template <class Archive, class Structure>
void transfer_members(Archive& archive, Structure& structure) {
  std::apply([&](auto... member) { (archive(structure.*member), ...); }, members_of(structure));
}

class Writer {
 public:
  template <class T>
  std::enable_if_t<std::is_arithmetic_v<T>> operator()(T value) {
    bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  void operator()(const std::string& text) {
    (*this)(uint64_t{text.size()});
    bytes += text;
  }
  template <class T>
  std::enable_if_t<std::is_class_v<T>> operator()(const T& structure) {
    transfer_members(*this, structure);
  }
  template <class T>
  void operator()(const std::vector<T>& values) {
    (*this)(uint64_t{values.size()});
    for (const T& value : values) (*this)(value);
  }

  std::string bytes;
};

// Past the end it reads zeros and remembers that.
class Reader {
 public:
  Reader(const uint8_t* bytes, size_t size) : at_(bytes), left_(size) {}
  bool complete() const { return fits_ && left_ == 0; }

  template <class T>
  std::enable_if_t<std::is_arithmetic_v<T>> operator()(T& value) {
    value = T{};
    if (take(sizeof(value))) std::memcpy(&value, at_ - sizeof(value), sizeof(value));
  }
  void operator()(std::string& text) {
    uint64_t size = 0;
    (*this)(size);
    if (take(size)) text.assign(reinterpret_cast<const char*>(at_ - size), size);
  }
  template <class T>
  std::enable_if_t<std::is_class_v<T>> operator()(T& structure) {
    transfer_members(*this, structure);
  }
  template <class T>
  void operator()(std::vector<T>& values) {
    uint64_t count = 0;
    (*this)(count);
    if (count > left_) fits_ = false;  // every element has a byte at least
    if (!fits_) return;
    values.resize(count);
    for (T& value : values) (*this)(value);
  }

 private:
  bool take(uint64_t size) {
    fits_ = fits_ && size <= left_;
    if (!fits_) return false;
    at_ += size;
    left_ -= size;
    return true;
  }

  const uint8_t* at_;
  uint64_t left_;
  bool fits_ = true;
};

// FNV-1a, 64 bits: names files, compares nothing.
uint64_t hash_of(const std::string& text) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  return hash;
}

bool unchanged(const std::vector<FileStamp>& stamps) {
  for (const FileStamp& stamp : stamps) {
    if (!(stamp_or_absence(stamp.path) == stamp)) return false;
  }
  return true;
}

// Whether every number that points into the listing does; the checksum says only that the file is as it was written.
bool is_consistent(const Listing& listing) {
  for (const Listing::Container& container : listing.containers)
    if (container.file >= listing.files.size()) return false;
  uint64_t begin = 0;
  for (const Listing::Sample& sample : listing.samples) {
    const bool known = sample.container < listing.containers.size() && sample.label >= 0 &&
                       static_cast<size_t>(sample.label) < listing.classes.size();
    if (!known || sample.name_end < begin || sample.name_end > listing.names.size()) return false;
    begin = sample.name_end;
  }
  return true;
}

// The file: magic, key, listing, CRC-32 of all that. False: there is none that can be used.
bool read_cached(const std::string& path, const std::string& key, Listing& listing) {
  std::error_code ignored;
  if (!fs::is_regular_file(path, ignored)) return false;
  std::vector<uint8_t> bytes;
  try {
    bytes = read_file(path);
  } catch (const Error&) {
    return false;  // removed or replaced meanwhile
  }
  uint32_t checksum = 0;
  if (bytes.size() < sizeof(checksum)) return false;
  const size_t size = bytes.size() - sizeof(checksum);
  std::memcpy(&checksum, bytes.data() + size, sizeof(checksum));
  if (::crc32_z(0, bytes.data(), size) != checksum) return false;
  Reader reader(bytes.data(), size);
  std::string magic, stored_key;
  reader(magic);
  reader(stored_key);
  if (magic != kMagic || stored_key != key) return false;
  reader(listing);
  return reader.complete() && is_consistent(listing) && unchanged(listing.stamps);
}

// A folder that changed while it was scanned, or within the granularity of the file system's clock, may hold more than
// was seen; its time would not tell.
bool changed_just_now(const std::vector<FileStamp>& stamps) {
  using std::chrono::nanoseconds;
  constexpr int64_t kMargin = 2'000'000'000;
  const int64_t now =
      std::chrono::duration_cast<nanoseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  for (const FileStamp& stamp : stamps) {
    if (stamp.mtime_ns > now - kMargin) return true;
  }
  return !unchanged(stamps);
}

// Returns what prevented it, or "".
std::string store(const std::string& folder, const std::string& path, const std::string& key, const Listing& listing) {
  Writer writer;
  writer(std::string(kMagic));
  writer(key);
  writer(listing);
  writer(
      static_cast<uint32_t>(::crc32_z(0, reinterpret_cast<const uint8_t*>(writer.bytes.data()), writer.bytes.size())));
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return join("cannot make the folder ", folder, ": ", error.message());
  const std::string temporary = join(path, ".tmp-", getpid());
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(temporary.c_str(), "wb"), std::fclose);
  bool written = file != nullptr &&
                 std::fwrite(writer.bytes.data(), 1, writer.bytes.size(), file.get()) == writer.bytes.size() &&
                 std::fflush(file.get()) == 0;
  if (written) fs::rename(temporary, path, error);
  if (written && !error) return "";
  const std::string reason = error ? error.message() : std::strerror(errno);
  fs::remove(temporary, error);
  return join("cannot write ", path, ": ", reason);
}

}  // namespace

std::string default_index_cache() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  if (cache != nullptr && *cache == '/') return join(cache, "/riffle");
  const char* home = std::getenv("HOME");
  return home != nullptr && *home == '/' ? join(home, "/.cache/riffle") : "";
}

Listing cached_listing(const std::string& folder, const std::string& key, const std::function<Listing()>& scan) {
  if (folder.empty()) return scan();
  char name[32];
  std::snprintf(name, sizeof(name), "%016llx.listing", static_cast<unsigned long long>(hash_of(key)));
  const std::string path = folder + "/" + name;
  Listing listing;
  if (read_cached(path, key, listing)) return listing;
  listing = scan();
  if (static_cast<int64_t>(listing.samples.size()) < kSmallestCached || changed_just_now(listing.stamps))
    return listing;
  const std::string problem = store(folder, path, key, listing);
  if (!problem.empty())
    listing.warnings.push_back(join("the index of ", listing.root,
                                    " is not kept, so that the next start lists it again: ", problem,
                                    " (data.index_cache)"));
  return listing;
}

}  // namespace riffle
