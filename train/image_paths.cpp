// Finding image files.
#include "train/image_paths.h"

#include <glob.h>

#include <algorithm>
#include <cctype>
#include <filesystem>

#include "core/check.h"

namespace riffle {
namespace {

namespace fs = std::filesystem;

bool hidden(const fs::path& path) {
  return path.filename().string().rfind('.', 0) == 0;
}

void add_folder(const std::string& folder, std::vector<std::string>& images) {
  std::vector<std::string> found;
  std::error_code error;
  fs::recursive_directory_iterator entry(folder, fs::directory_options::follow_directory_symlink, error);
  for (; !error && entry != fs::recursive_directory_iterator(); entry.increment(error)) {
    std::error_code ignored;  // of a dangling link, which is no image
    if (hidden(entry->path())) {
      if (entry->is_directory(ignored)) entry.disable_recursion_pending();
      continue;
    }
    const std::string path = entry->path().string();
    if (has_image_extension(path) && entry->is_regular_file(ignored)) found.push_back(path);
  }
  if (error) fail(folder, ": cannot read the folder: ", error.message());
  if (found.empty()) fail(folder, ": no .jpg, .jpeg or .png files here, nor in its folders");
  std::sort(found.begin(), found.end());
  images.insert(images.end(), found.begin(), found.end());
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

bool has_image_extension(const std::string& path) {
  std::string extension = fs::path(path).extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return extension == ".jpg" || extension == ".jpeg" || extension == ".png";
}

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
