// Folders of images: one folder a class, or one folder for all with a file of labels.
#include <algorithm>
#include <filesystem>
#include <utility>

#include "core/check.h"
#include "data/sources.h"

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

}  // namespace

std::vector<std::string> list_folders(const std::string& root) {
  return list(root, [](const fs::directory_entry& entry, const std::string&) {
    std::error_code ignored;  // a dangling link is no folder
    return entry.is_directory(ignored);
  });
}

Listing list_image_folder(const std::string& root) {
  std::error_code error;
  const fs::file_status status = fs::status(root, error);
  if (!fs::exists(status)) fail(root, ": no such folder (it should hold one folder of images for each class)");
  if (!fs::is_directory(status)) fail(root, ": not a folder (it should hold one folder of images for each class)");
  Listing listing;
  listing.kind = "ImageFolder";
  listing.root = root;
  listing.files = {root};
  listing.stamps.push_back(stamp_of(root));
  listing.classes = list_folders(root);
  if (listing.classes.empty())
    fail(root, ": no class folders here; expected ", root, "/<class>/*.jpg (or .jpeg, .png)");
  for (size_t label = 0; label < listing.classes.size(); ++label) {
    const std::string folder = join(root, "/", listing.classes[label]);
    listing.stamps.push_back(stamp_of(folder));
    const auto images = list_images(folder);
    if (images.empty()) fail_without_images(folder);
    Listing::Sample sample;
    sample.container = listing.add_container(0, listing.classes[label] + "/");
    sample.label = static_cast<int32_t>(label);
    for (const std::string& image : images) listing.add(image, sample);
  }
  warn_about_numeric_names(listing);
  return listing;
}

Listing list_flat_folder(const std::string& folder, const FlatLabelSource& labels) {
  Listing listing;
  listing.kind = "flat folder";
  listing.root = folder;
  listing.files = {folder};
  listing.stamps.push_back(stamp_of(folder));
  const std::vector<std::string> images = list_images(folder);
  if (images.empty()) fail(folder, ": no images here (*.jpg, *.jpeg, *.png)");
  FlatLabels found = read_flat_labels(labels, images, folder);
  listing.classes = std::move(found.classes);
  listing.numbered = found.numbered;
  listing.labelled_by_file = true;
  listing.stamps.insert(listing.stamps.end(), found.stamps.begin(), found.stamps.end());
  Listing::Sample sample;
  sample.container = listing.add_container(0, "");
  for (size_t i = 0; i < images.size(); ++i) {
    sample.label = found.labels[i];
    listing.add(images[i], sample);
  }
  sort_by_label_and_name(listing);
  return listing;
}

std::unique_ptr<Dataset> open_image_folder(const std::string& root, int channels,
                                           const std::vector<std::string>& classes) {
  DatasetOptions options;
  options.classes = classes;
  return open_listing(std::make_shared<const Listing>(list_image_folder(root)), channels, options);
}

}  // namespace riffle
