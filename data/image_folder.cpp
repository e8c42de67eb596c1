// ImageFolder: one folder a class. Names are kept in one block of text: ImageNet has 1.3 million of them.
#include <algorithm>
#include <filesystem>
#include <utility>

#include "core/check.h"
#include "data/dataset.h"

namespace riffle {
namespace {

namespace fs = std::filesystem;

// Sorted names of the visible entries of a folder that `wanted` accepts.
template <class Predicate>
std::vector<std::string> list(const std::string& folder, Predicate wanted) {
  std::vector<std::string> names;
  std::error_code error;
  fs::directory_iterator entry(folder, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    std::string name = entry->path().filename().string();
    if (name.front() != '.' && wanted(*entry, name)) names.push_back(std::move(name));
  }
  if (error) fail(folder, ": cannot list the folder: ", error.message());
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::string> list_folders(const std::string& root) {
  return list(root, [](const fs::directory_entry& entry, const std::string&) {
    std::error_code ignored;  // a dangling link is no folder
    return entry.is_directory(ignored);
  });
}

std::vector<std::string> list_images(const std::string& folder) {
  return list(folder, [](const fs::directory_entry& entry, const std::string& name) {
    std::error_code ignored;
    return is_image_name(name) && !entry.is_directory(ignored);
  });
}

[[noreturn]] void fail_without_images(const std::string& folder) {
  const auto others = list(folder, [](const fs::directory_entry&, const std::string&) { return true; });
  const std::string found =
      others.empty() ? "it is empty" : join("it holds ", others.size(), " other files or folders, such as ", others[0]);
  fail(folder, ": this class folder has no images (*.jpg, *.jpeg, *.png); ", found);
}

// The label of each folder under the given class names; see open_image_folder().
std::vector<int> folder_labels(const std::string& root, const std::vector<std::string>& folders,
                               const std::vector<std::string>& classes) {
  std::vector<int> labels;
  const std::string* unknown = nullptr;
  for (const std::string& folder : folders) {
    const auto found = std::find(classes.begin(), classes.end(), folder);
    if (found == classes.end()) unknown = &folder;
    labels.push_back(static_cast<int>(found - classes.begin()));
  }
  if (unknown == nullptr) return labels;
  const auto is_class = [&](int label) { return label < static_cast<int>(classes.size()); };
  if (classes.size() != folders.size() || std::any_of(labels.begin(), labels.end(), is_class))
    fail(root, ": class folder \"", *unknown, "\" is not among the ", classes.size(), " given class names (\"",
         classes.front(), "\", ...), and they cannot rename the ", folders.size(),
         " folders in order: that needs as many names, none of which is a folder's");
  for (size_t i = 0; i < labels.size(); ++i) labels[i] = static_cast<int>(i);
  return labels;
}

class ImageFolder : public Dataset {
 public:
  ImageFolder(const std::string& root, int channels, const std::vector<std::string>& classes)
      : root_(root), channels_(channels), folders_(list_folders(root)) {
    if (folders_.empty()) fail(root, ": no class folders here; expected ", root, "/<class>/*.jpg (or .jpeg, .png)");
    classes_ = classes.empty() ? folders_ : classes;
    labels_ = folder_labels(root, folders_, classes_);
    for (const std::string& folder : folders_) {
      const auto images = list_images(join(root, "/", folder));
      if (images.empty()) fail_without_images(join(root, "/", folder));
      for (const std::string& image : images) {
        names_ += image;
        name_ends_.push_back(names_.size());
      }
      folder_ends_.push_back(static_cast<int64_t>(name_ends_.size()));
    }
  }

  int64_t size() const override { return static_cast<int64_t>(name_ends_.size()); }
  int channels() const override { return channels_; }
  const std::vector<std::string>& classes() const override { return classes_; }
  int label(int64_t index) const override { return labels_[folder_of(index)]; }

  std::string name(int64_t index) const override {
    const std::string& folder = folders_[folder_of(index)];
    const auto i = static_cast<size_t>(index);
    const size_t begin = i == 0 ? 0 : name_ends_[i - 1];
    return join(root_, "/", folder, "/", names_.substr(begin, name_ends_[i] - begin));
  }

  Image load(int64_t index) const override {
    const std::string path = name(index);
    const std::vector<uint8_t> bytes = read_file(path);
    return decode_image(bytes.data(), bytes.size(), path, channels_);
  }

  std::string description() const override {
    return join("ImageFolder ", root_, ": ", size(), " images, ", folders_.size(), " classes");
  }

 private:
  size_t folder_of(int64_t index) const {
    RIFFLE_CHECK(index >= 0 && index < size(), "image ", index, " of ", size());
    const auto end = std::upper_bound(folder_ends_.begin(), folder_ends_.end(), index);
    return static_cast<size_t>(end - folder_ends_.begin());
  }

  std::string root_;
  int channels_;
  std::vector<std::string> folders_, classes_;
  std::vector<int> labels_;           // of each folder
  std::vector<int64_t> folder_ends_;  // index after each folder's last image
  std::string names_;                 // all file names, one after the other
  std::vector<size_t> name_ends_;
};

}  // namespace

std::unique_ptr<Dataset> open_image_folder(const std::string& root, int channels,
                                           const std::vector<std::string>& classes) {
  RIFFLE_CHECK(channels == 1 || channels == 3, root, " asked for with ", channels, " channels");
  std::error_code error;
  const fs::file_status status = fs::status(root, error);
  if (!fs::exists(status)) fail(root, ": no such folder (it should hold one folder of images for each class)");
  if (!fs::is_directory(status)) fail(root, ": not a folder (it should hold one folder of images for each class)");
  return std::make_unique<ImageFolder>(root, channels, classes);
}

}  // namespace riffle
