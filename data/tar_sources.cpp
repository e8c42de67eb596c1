// What is inside tar files: four layouts, told apart by their members.
#include <algorithm>
#include <filesystem>
#include <iterator>
#include <map>
#include <set>
#include <unordered_map>
#include <unordered_set>
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
  std::vector<Found> images, labels;  // labels: KEY.cls
  std::unordered_set<std::string>
      other_samples;  // keys of samples with other files (KEY.json); empty if any has a label
  bool nested = false, plain = false;
};

std::string lower_case(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

std::string extension_of(const std::string& name) {
  return lower_case(std::filesystem::path(name).extension().string());
}

// WebDataset: files that share a name up to its first dot are one sample, and the rest says what each is: ".jpg",
// ".mask.png".
std::string sample_key(const Found& found) {
  return join(found.file, ":", found.folder, found.name.substr(0, found.name.find('.')));
}

std::string sample_extension(const std::string& name) {
  return lower_case(name.substr(std::min(name.find('.'), name.size())));
}

bool is_sample_image(const Found& found) {
  const std::string extension = sample_extension(found.name);
  return extension == ".jpg" || extension == ".jpeg" || extension == ".png";
}

bool is_hidden(const std::string& name) {  // ".hidden", "._name" of macOS
  return name.empty() || name.front() == '.';
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
    const std::string inner = std::filesystem::path(member.name).filename().string();
    if (extension_of(inner) != ".tar" || is_hidden(inner) || member.type != TarMember::Type::kFile) {
      add(index, member, "");
      return;
    }
    contents_.nested = true;
    walk_tar(file, member.offset, member.offset + member.size, join(file.path(), ":", inner),
             [&](const TarMember& image) { add(index, image, inner); });
  }

  void add(uint32_t file, const TarMember& member, const std::string& inner) {
    const size_t slash = member.name.rfind('/');
    const std::string name = slash == std::string::npos ? member.name : member.name.substr(slash + 1);
    if (is_hidden(name)) return;  // a folder's name is empty
    const std::string folder = inner.empty() ? member.name.substr(0, slash + 1) : inner + "/";
    const bool image = is_image_name(name), label = sample_extension(name) == ".cls";
    if (!image && !label) {
      const std::string extension = extension_of(name);
      const bool of_a_sample = extension == ".json" || extension == ".txt" || extension == ".cls";
      if (of_a_sample && contents_.labels.empty())
        contents_.other_samples.insert(sample_key({file, 0, 0, folder, name}));
      return;
    }
    if (member.type == TarMember::Type::kLink)
      fail(paths_[file], ": '", member.name, "' is a link; only files are read from tar files");
    if (member.type != TarMember::Type::kFile) return;
    if (inner.empty()) contents_.plain = true;
    if (label) contents_.other_samples.clear();
    (image ? contents_.images : contents_.labels).push_back({file, member.offset, member.size, folder, name});
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

bool lies_flat_in(const Found& image, const std::string& word) {
  const std::vector<std::string> parts = components(image.folder);
  return split_word(image.folder).empty() && !parts.empty() && parts.back() == word;
}

// The word of the split whose folder holds images without class folders, where other images have a part: "val" of
// train/<class>/*.jpg and val/*.jpg. "" where there is none.
std::string flat_part(const std::vector<Found>& images, const Split& split) {
  const auto has_part = [](const Found& image) { return !split_word(image.folder).empty(); };
  if (std::none_of(images.begin(), images.end(), has_part)) return "";
  for (const std::string& word : split.words) {
    const auto is_wanted = [&word](const Found& image) { return split_word(image.folder) == word; };
    if (std::any_of(images.begin(), images.end(), is_wanted)) return "";
    const auto is_flat = [&word](const Found& image) { return lies_flat_in(image, word); };
    if (std::any_of(images.begin(), images.end(), is_flat)) return word;
  }
  return "";
}

// Keeps the images of the split, where folders name any.
void select_split(const std::string& root, const Split& split, std::vector<Found>& images) {
  std::set<std::string> words;
  for (const Found& image : images) words.insert(split_word(image.folder));
  if (words == std::set<std::string>{""}) return;
  const auto wanted = std::find_if(split.words.begin(), split.words.end(),
                                   [&words](const std::string& word) { return words.count(word) > 0; });
  if (wanted == split.words.end())
    fail(root, ": has images below '", *words.rbegin(), "/' only, none for '", split.name, "'");
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
  listing.labelled_by_file = true;
  listing.stamps.insert(listing.stamps.end(), found.stamps.begin(), found.stamps.end());
  Containers containers(listing);
  for (size_t i = 0; i < names.size(); ++i)
    listing.add(names[i], sample_of(contents.images[i], found.labels[i], containers.of(contents.images[i])));
  sort_by_label_and_name(listing);
}

// Labels the flat images of a part by a file; their numbers mean the class folders of the training part.
void add_flat_part(Contents& contents, const std::string& word, Listing& listing, FlatLabelSource labels) {
  if (find_label_file(labels).empty())
    fail(listing.root, ": images lie in '", word, "/' itself, without class folders as in other parts, and no file ",
         "labels them; name one with data.val_labels, or put a val.txt with lines 'IMAGE CLASS' beside the tar file");
  std::set<std::string> trained;
  std::vector<Found> flat;
  for (Found& image : contents.images) {
    if (split_word(image.folder) == "train") trained.insert(components(image.folder).back());
    if (lies_flat_in(image, word)) flat.push_back(std::move(image));
  }
  contents.images = std::move(flat);
  labels.train_classes = [&trained] { return std::vector<std::string>(trained.begin(), trained.end()); };
  add_flat(contents, listing, labels);
}

int32_t read_class_number(const RandomAccessFile& file, const Found& found) {
  constexpr size_t kMostDigits = 9;
  const std::vector<uint8_t> bytes = file.read(found.offset, std::min<uint64_t>(found.size, 64));
  std::string text(bytes.begin(), bytes.end());
  const char* const blanks = " \t\r\n";
  text.erase(text.find_last_not_of(blanks) + 1);
  text.erase(0, text.find_first_not_of(blanks));
  const bool number =
      !text.empty() && text.size() <= kMostDigits && text.find_first_not_of("0123456789") == std::string::npos;
  if (!number) fail(file.path(), ":", found.folder, found.name, ": holds '", text, "'; expected a class number from 0");
  const long value = std::stol(text);
  if (value >= kMostClasses)
    fail(file.path(), ":", found.folder, found.name, ": class number ", value, "; expected 0 to ", kMostClasses - 1);
  return static_cast<int32_t>(value);
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
  std::unordered_set<std::string> seen;
  for (const Found& image : contents.images) {
    if (!is_sample_image(image)) continue;  // "a.mask.png"
    const std::string key = sample_key(image);
    if (!seen.insert(key).second)
      fail(listing.files[image.file], ": '", image.folder, image.name, "' is a second image of its sample; expected ",
           "one of .jpg, .jpeg and .png for each name up to the first dot");
    const auto label = label_of.find(key);
    if (label == label_of.end())
      fail(listing.files[image.file], ": '", image.folder, image.name, "' has no label, a file of that name in .cls");
    listing.add(image.name, sample_of(image, label->second, containers.of(image)));
  }
  for (const Found& label : contents.labels) {
    if (seen.count(sample_key(label)) == 0)
      fail(listing.files[label.file], ": '", label.folder, label.name, "' has no image, a file of that name in .jpg, ",
           ".jpeg or .png; the name of a sample ends at its first dot");
  }
  listing.numbered = true;
  listing.classes = number_names(int64_t{largest} + 1);
}

// Shards of samples whose labels are elsewhere are no class each.
void check_no_samples(const Contents& contents, const Listing& listing) {
  for (const Found& image : contents.images) {
    if (contents.other_samples.count(sample_key(image)) == 0) continue;
    fail(listing.files[image.file], ": samples have no .cls: '", image.folder, image.name,
         "' has files of other kinds beside it (.json, .txt), as in a WebDataset, but its class is read from KEY.cls, ",
         "a number from 0; write such files, or remove the others if each tar file is a class");
  }
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
    // What ImageNet's training tar file unpacks to: a tar file for each class. A file of labels beside it is for the
    // validation images.
    const bool class_tars = paths.size() > 1 && (split.training() || find_label_file(labels).empty());
    if (class_tars) {
      check_no_samples(contents, listing);
      listing.kind = "a tar for each class";
      add_by_class(contents, ClassBy::kTar, listing);
    } else {
      add_flat(contents, listing, labels);
    }
    return listing;
  }
  if (contents.nested) {
    check_no_samples(contents, listing);
    listing.kind = "tar of tars";
  } else {
    const std::string word = split.training() ? "" : flat_part(contents.images, split);
    if (!word.empty()) {
      add_flat_part(contents, word, listing, labels);
      return listing;
    }
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
      if (is_hidden(name)) return;
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
