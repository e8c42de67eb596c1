// Data specifications: finds the files that "idx:DIR", "folder:DIR" or "DIR" and a split mean.
#include "data/dataset.h"

#include <filesystem>

#include "core/check.h"

namespace riffle {
namespace {

namespace fs = std::filesystem;

bool is_folder(const std::string& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

bool is_file(const std::string& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

// The split's names for IDX files and for folders, the latter in order of preference.
struct Split {
  std::string idx_prefix;
  std::vector<std::string> folders;
};

Split parse_split(const std::string& split) {
  if (split == "train") return {"train", {"train"}};
  if (split == "val") return {"t10k", {"val", "test"}};
  if (split == "test") return {"t10k", {"test", "val"}};
  fail_usage("unknown split \"", split, "\"; use train, val or test");
}

struct IdxPaths {
  std::string images, labels;
};

// Where a file of the pair is missing, its path is empty.
IdxPaths find_idx(const std::string& folder, const Split& split) {
  const auto find = [&](const char* suffix) -> std::string {
    std::string plain = join(folder, "/", split.idx_prefix, suffix);
    if (is_file(plain)) return plain;
    return is_file(plain + ".gz") ? plain + ".gz" : "";
  };
  return {find("-images-idx3-ubyte"), find("-labels-idx1-ubyte")};
}

std::unique_ptr<Dataset> open_idx_split(const std::string& folder, const Split& split, int channels,
                                        const std::vector<std::string>& classes) {
  if (!is_folder(folder)) fail(folder, ": no such folder; it should hold IDX files such as train-images-idx3-ubyte");
  const IdxPaths paths = find_idx(folder, split);
  if (paths.images.empty()) fail(folder, ": no file ", split.idx_prefix, "-images-idx3-ubyte, plain or .gz, here");
  if (paths.labels.empty()) fail(folder, ": no file ", split.idx_prefix, "-labels-idx1-ubyte, plain or .gz, here");
  return open_idx(paths.images, paths.labels, classes, channels);
}

struct Contents {
  bool folders = false, files = false;  // visible ones
};

Contents contents(const std::string& folder) {
  Contents found;
  std::error_code error;
  fs::directory_iterator entry(folder, error);
  for (; !error && !found.folders && entry != fs::directory_iterator(); entry.increment(error)) {
    if (entry->path().filename().string().front() == '.') continue;
    std::error_code ignored;
    (entry->is_directory(ignored) ? found.folders : found.files) = true;
  }
  if (error) fail(folder, ": cannot list the folder: ", error.message());
  return found;
}

// A class may be called "train"; its folder holds files only.
bool is_split_folder(const std::string& folder) {
  if (!is_folder(folder)) return false;
  const Contents found = contents(folder);
  return found.folders || !found.files;
}

std::unique_ptr<Dataset> open_folder_split(const std::string& folder, const Split& split, int channels,
                                           const std::vector<std::string>& classes) {
  for (const std::string& name : split.folders) {
    const std::string part = join(folder, "/", name);
    if (is_split_folder(part)) return open_image_folder(part, channels, classes);
  }
  for (const char* name : {"train", "val", "test"})
    if (is_split_folder(join(folder, "/", name)))
      fail(folder, ": has a folder ", name, ", but no ", split.folders.front(), " beside it");
  return open_image_folder(folder, channels, classes);
}

}  // namespace

std::unique_ptr<Dataset> open_dataset(const std::string& spec, const std::string& split, int channels,
                                      const std::vector<std::string>& classes) {
  const Split parsed = parse_split(split);
  const auto after = [&spec](const char* prefix) { return spec.substr(std::char_traits<char>::length(prefix)); };
  if (spec.rfind("idx:", 0) == 0) return open_idx_split(after("idx:"), parsed, channels, classes);
  if (spec.rfind("folder:", 0) == 0) return open_folder_split(after("folder:"), parsed, channels, classes);

  if (spec.empty()) fail_usage("no data given; use idx:DIR, folder:DIR or DIR");
  if (!is_folder(spec)) fail(spec, ": no such folder (data is given as idx:DIR, folder:DIR or DIR)");
  const IdxPaths idx = find_idx(spec, parsed);
  if (!idx.images.empty() || !idx.labels.empty()) return open_idx_split(spec, parsed, channels, classes);
  if (contents(spec).folders) return open_folder_split(spec, parsed, channels, classes);
  fail(spec, ": no data here: looked for ", parsed.idx_prefix, "-images-idx3-ubyte[.gz], for ", parsed.folders.front(),
       "/<class>/*.jpg and for <class>/*.jpg (or .jpeg, .png)");
}

}  // namespace riffle
