// What is inside tar files: four layouts, told apart by their members.
#include <algorithm>
#include <filesystem>
#include <iterator>
#include <map>
#include <set>
#include <unordered_map>
#include <utility>

#include "core/check.h"
#include "data/sources.h"
#include "data/tar.h"

namespace riffle {
namespace {

// A file in a tar file, or in a tar file within it; `folder` ends in '/' or is empty.
struct Found {
  uint32_t file;
  uint64_t offset, size;
  std::string folder, name;
};

struct Contents {
  std::vector<Found> images, labels;  // labels: *.cls
  bool nested = false, plain = false;
};

std::string extension_of(const std::string& name) {
  std::string extension = std::filesystem::path(name).extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return extension;
}

class Collector {
 public:
  explicit Collector(const std::vector<std::string>& paths) : paths_(paths) {}

  Contents collect() {
    for (size_t i = 0; i < paths_.size(); ++i) {
      const RandomAccessFile file(paths_[i]);
      walk_tar(file, [&](const TarMember& member) { visit(file, static_cast<uint32_t>(i), member); });
    }
    return std::move(contents_);
  }

 private:
  void visit(const RandomAccessFile& file, uint32_t index, const TarMember& member) {
    if (extension_of(member.name) != ".tar" || member.type != TarMember::Type::kFile) {
      add(index, member, "");
      return;
    }
    const std::string inner = std::filesystem::path(member.name).filename().string();
    contents_.nested = true;
    walk_tar(file, member.offset, member.offset + member.size, join(file.path(), ":", inner),
             [&](const TarMember& image) { add(index, image, inner); });
  }

  void add(uint32_t file, const TarMember& member, const std::string& inner) {
    const size_t slash = member.name.rfind('/');
    const std::string name = slash == std::string::npos ? member.name : member.name.substr(slash + 1);
    if (name.empty() || name.front() == '.') return;  // folders; ".hidden", "._name" of macOS
    const bool image = is_image_name(name);
    if (!image && extension_of(name) != ".cls") return;
    if (member.type == TarMember::Type::kLink)
      fail(paths_[file], ": '", member.name, "' is a link; only files are read from tar files");
    if (member.type != TarMember::Type::kFile) return;
    if (inner.empty()) contents_.plain = true;
    const std::string folder = slash == std::string::npos ? "" : member.name.substr(0, slash + 1);
    (image ? contents_.images : contents_.labels)
        .push_back({file, member.offset, member.size, inner.empty() ? folder : inner + "/", name});
  }

  const std::vector<std::string>& paths_;
  Contents contents_;
};

Listing::Sample sample_of(const Found& found, int32_t label, uint32_t container) {
  Listing::Sample sample;
  sample.offset = found.offset;
  sample.size = found.size;
  sample.label = label;
  sample.container = container;
  return sample;
}

// Containers of a listing by file and prefix.
class Containers {
 public:
  explicit Containers(Listing& listing) : listing_(listing) {}
  uint32_t of(const Found& found) {
    const auto [entry, added] = known_.emplace(std::make_pair(found.file, found.folder), 0);
    if (added) entry->second = listing_.add_container(found.file, found.folder);
    return entry->second;
  }

 private:
  Listing& listing_;
  std::map<std::pair<uint32_t, std::string>, uint32_t> known_;
};

// "a/b/c/" -> {"a", "b", "c"}
std::vector<std::string> components(const std::string& folder) {
  std::vector<std::string> parts;
  for (size_t at = 0; at < folder.size();) {
    const size_t slash = folder.find('/', at);
    parts.push_back(folder.substr(at, slash - at));
    at = slash + 1;
  }
  return parts;
}

// The part of the data set that a class folder lies in: "train" of "cifar/train/airplane/"; "" where none is named.
std::string split_word(const std::string& folder) {
  const std::vector<std::string> parts = components(folder);
  for (size_t i = parts.size(); i-- > 0;) {
    const bool class_folder = i + 1 == parts.size();
    for (const char* word : {"train", "val", "validation", "test"}) {
      if (!class_folder && parts[i] == word) return word;
    }
  }
  return "";
}

// Keeps the images of the split, where folders name more than one.
void select_split(const std::string& root, const Split& split, std::vector<Found>& images) {
  std::set<std::string> words;
  for (const Found& image : images) words.insert(split_word(image.folder));
  const auto wanted = std::find_if(split.words.begin(), split.words.end(),
                                   [&words](const std::string& word) { return words.count(word) > 0; });
  if (wanted == split.words.end()) {
    if (words.count("") == 0)
      fail(root, ": has images below '", *words.begin(), "/' only, none for '", split.name, "'");
    return;
  }
  images.erase(std::remove_if(images.begin(), images.end(),
                              [&](const Found& image) { return split_word(image.folder) != *wanted; }),
               images.end());
}

std::string without_extension(const std::string& path) {
  return std::filesystem::path(path).stem().string();
}

// What names an image's class: the folder, inner tar file, or tar file that it lies in.
enum class ClassBy { kFolder, kInnerTar, kTar };

std::string class_of(const Found& image, ClassBy by, const std::vector<std::string>& paths) {
  if (by == ClassBy::kTar) return without_extension(paths[image.file]);
  const std::string name = components(image.folder).back();
  return by == ClassBy::kInnerTar ? without_extension(name) : name;
}

void add_by_class(const Contents& contents, ClassBy by, Listing& listing) {
  std::set<std::string> names;
  for (const Found& image : contents.images) names.insert(class_of(image, by, listing.files));
  listing.classes.assign(names.begin(), names.end());
  std::unordered_map<std::string, int32_t> label_of;
  for (const std::string& name : listing.classes) label_of.emplace(name, static_cast<int32_t>(label_of.size()));
  Containers containers(listing);
  for (const Found& image : contents.images)
    listing.add(image.name, sample_of(image, label_of.at(class_of(image, by, listing.files)), containers.of(image)));
  sort_by_label_and_name(listing);
  warn_about_numeric_names(listing);
}

void add_flat(Contents& contents, Listing& listing, const FlatLabelSource& labels) {
  std::sort(contents.images.begin(), contents.images.end(),
            [](const Found& a, const Found& b) { return a.name < b.name; });
  std::vector<std::string> names;
  for (const Found& image : contents.images) names.push_back(image.name);
  FlatLabels found = read_flat_labels(labels, names, listing.root);
  listing.classes = std::move(found.classes);
  listing.numbered = found.numbered;
  listing.stamps.insert(listing.stamps.end(), found.stamps.begin(), found.stamps.end());
  Containers containers(listing);
  for (size_t i = 0; i < names.size(); ++i)
    listing.add(names[i], sample_of(contents.images[i], found.labels[i], containers.of(contents.images[i])));
  sort_by_label_and_name(listing);
}

// WebDataset: files that share a name up to its first dot are one sample.
std::string sample_key(const Found& found) {
  return join(found.file, ":", found.folder, found.name.substr(0, found.name.find('.')));
}

int32_t read_class_number(const RandomAccessFile& file, const Found& found) {
  constexpr size_t kMostDigits = 9;
  const std::vector<uint8_t> bytes = file.read(found.offset, std::min<uint64_t>(found.size, 64));
  std::string text(bytes.begin(), bytes.end());
  text.erase(std::remove_if(text.begin(), text.end(), [](unsigned char c) { return std::isspace(c) != 0; }),
             text.end());
  const bool number =
      !text.empty() && text.size() <= kMostDigits && text.find_first_not_of("0123456789") == std::string::npos;
  if (!number) fail(file.path(), ":", found.folder, found.name, ": holds '", text, "'; expected a class number from 0");
  return static_cast<int32_t>(std::stol(text));
}

void add_samples(const Contents& contents, Listing& listing) {
  const FilePool files(listing.files);
  std::unordered_map<std::string, int32_t> label_of;
  int32_t largest = 0;
  for (const Found& label : contents.labels) {
    const int32_t number = read_class_number(*files.open(label.file), label);
    largest = std::max(largest, number);
    if (!label_of.emplace(sample_key(label), number).second)
      fail(listing.files[label.file], ": has two labels for '", label.folder, label.name, "'");
  }
  Containers containers(listing);
  std::set<std::string> seen;
  for (const Found& image : contents.images) {
    const std::string key = sample_key(image);
    const auto label = label_of.find(key);
    if (label == label_of.end())
      fail(listing.files[image.file], ": '", image.folder, image.name, "' has no label, a file of that name in .cls");
    listing.add(image.name, sample_of(image, label->second, containers.of(image)));
  }
  if (label_of.size() != contents.images.size())
    fail(listing.root, ": has ", contents.images.size(), " images, but ", label_of.size(),
         " labels (*.cls); expected one of each in a sample");
  listing.numbered = true;
  listing.classes = number_names(int64_t{largest} + 1);
}

}  // namespace

Listing list_tars(const std::string& root, const std::vector<std::string>& paths, const Split& split,
                  const FlatLabelSource& labels) {
  Listing listing;
  listing.kind = "tar";
  listing.root = root;
  listing.in_tars = true;
  listing.files = paths;
  for (const std::string& path : paths) listing.stamps.push_back(stamp_of(path));
  Contents contents = Collector(paths).collect();
  if (contents.images.empty()) fail(root, ": no images (*.jpg, *.jpeg, *.png) in this tar file");
  if (contents.nested && contents.plain)
    fail(root, ": holds tar files and other files; expected a tar file for each class, or images");
  if (!contents.labels.empty()) {
    listing.kind = paths.size() == 1 ? "WebDataset" : join("WebDataset of ", paths.size(), " shards");
    add_samples(contents, listing);
    return listing;
  }
  const bool flat = std::all_of(contents.images.begin(), contents.images.end(), [](const Found& image) {
    const std::vector<std::string> parts = components(image.folder);
    return parts.empty() || (parts.size() == 1 && (parts[0] == "val" || parts[0] == "test"));
  });
  if (flat && !contents.nested) {
    // What ImageNet's training tar file unpacks to: a tar file for each class.
    const bool class_tars = paths.size() > 1 && find_label_file(labels).empty();
    if (class_tars) {
      listing.kind = "a tar for each class";
      add_by_class(contents, ClassBy::kTar, listing);
    } else {
      add_flat(contents, listing, labels);
    }
    return listing;
  }
  if (contents.nested) {
    listing.kind = "tar of tars";
  } else {
    select_split(root, split, contents.images);
  }
  for (const Found& image : contents.images) {
    if (image.folder.empty()) fail(root, ": '", image.name, "' lies in no class folder, though other images do");
  }
  add_by_class(contents, contents.nested ? ClassBy::kInnerTar : ClassBy::kFolder, listing);
  return listing;
}

std::vector<std::string> tar_class_names(const std::vector<std::string>& paths) {
  std::set<std::string> names;
  for (const std::string& path : paths) {
    walk_tar(RandomAccessFile(path), [&](const TarMember& member) {
      const std::string name = std::filesystem::path(member.name).filename().string();
      if (extension_of(name) == ".tar") names.insert(without_extension(name));
      const size_t slash = member.name.rfind('/');
      if (is_image_name(name) && slash != std::string::npos)
        names.insert(components(member.name.substr(0, slash + 1)).back());
    });
  }
  if (names.empty() && paths.size() > 1)
    std::transform(paths.begin(), paths.end(), std::inserter(names, names.end()), without_extension);
  return {names.begin(), names.end()};
}

}  // namespace riffle
