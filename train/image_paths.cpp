// Finding image files.
#include "train/image_paths.h"

#include <glob.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "core/check.h"
#include "data/image.h"

namespace riffle {
namespace {

namespace fs = std::filesystem;

// The images below a folder. Links to folders are followed after everything else, so that an image is found under its
// real name where both are below.
class FolderSearch {
 public:
  explicit FolderSearch(const std::string& root) : links_{root} {
    for (size_t i = 0; i < links_.size(); ++i) search(fs::path(links_[i]));
    std::sort(images_.begin(), images_.end());
  }
  const std::vector<std::string>& images() const { return images_; }

 private:
  void search(const fs::path& folder) {
    std::error_code error;
    const fs::path real = fs::canonical(folder, error);
    if (!error && !seen_.insert(real.string()).second) return;
    fs::directory_iterator entry(folder, error);
    for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
      const std::string path = entry->path().string();
      if (entry->path().filename().string().front() == '.') continue;  // hidden
      std::error_code ignored;                                         // of a dangling link, which is no image
      if (!entry->is_directory(ignored)) {
        if (is_image_name(path) && entry->is_regular_file(ignored)) images_.push_back(path);
      } else if (entry->is_symlink(ignored)) {
        links_.push_back(path);
      } else {
        search(entry->path());
      }
    }
    if (error) fail(folder.string(), ": cannot read the folder: ", error.message());
  }

  std::vector<std::string> links_, images_;
  std::set<std::string> seen_;  // real paths
};

void add_folder(const std::string& folder, std::vector<std::string>& images) {
  const FolderSearch search(folder);
  if (search.images().empty()) fail(folder, ": no .jpg, .jpeg or .png files here, nor in its folders");
  images.insert(images.end(), search.images().begin(), search.images().end());
}

void add_path(const std::string& path, std::vector<std::string>& images) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) {
    add_folder(path, images);
  } else {
    images.push_back(path);
  }
}

std::vector<std::string> expand_glob(const std::string& pattern) {
  glob_t matches{};
  const int status = glob(pattern.c_str(), 0, nullptr, &matches);
  std::vector<std::string> paths;
  for (size_t i = 0; status == 0 && i < matches.gl_pathc; ++i) paths.emplace_back(matches.gl_pathv[i]);
  globfree(&matches);
  return paths;
}

}  // namespace

std::vector<std::string> find_images(const std::vector<std::string>& words) {
  std::vector<std::string> images;
  for (const std::string& word : words) {
    std::error_code ignored;
    if (fs::exists(word, ignored)) {  // first: a file's name may contain brackets
      add_path(word, images);
      continue;
    }
    const std::vector<std::string> paths = expand_glob(word);
    if (paths.empty()) fail(word, ": no such file or folder, and no match as a pattern");
    for (const std::string& path : paths) add_path(path, images);
  }
  return images;
}

}  // namespace riffle
