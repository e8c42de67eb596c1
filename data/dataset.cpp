// Data specifications: finds out what kind of data a specification and a split mean, and opens it.
#include "data/dataset.h"

#include <filesystem>

#include "core/check.h"
#include "data/pack.h"
#include "data/sources.h"

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

const char* idx_prefix(const Split& split) {
  return split.training() ? "train" : "t10k";
}

struct IdxPaths {
  std::string images, labels;
};

// Where a file of the pair is missing, its path is empty.
IdxPaths find_idx(const std::string& folder, const Split& split) {
  const auto find = [&](const char* suffix) -> std::string {
    std::string plain = join(folder, "/", idx_prefix(split), suffix);
    if (is_file(plain)) return plain;
    return is_file(plain + ".gz") ? plain + ".gz" : "";
  };
  return {find("-images-idx3-ubyte"), find("-labels-idx1-ubyte")};
}

std::unique_ptr<Dataset> open_idx_split(const std::string& folder, const Split& split, int channels,
                                        const std::vector<std::string>& classes) {
  if (!is_folder(folder)) fail(folder, ": no such folder; it should hold IDX files such as train-images-idx3-ubyte");
  const IdxPaths paths = find_idx(folder, split);
  if (paths.images.empty()) fail(folder, ": no file ", idx_prefix(split), "-images-idx3-ubyte, plain or .gz, here");
  if (paths.labels.empty()) fail(folder, ": no file ", idx_prefix(split), "-labels-idx1-ubyte, plain or .gz, here");
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

// Whether a folder holds images and no folders.
bool is_flat_folder(const std::string& folder) {
  if (!is_folder(folder) || contents(folder).folders) return false;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error); !error && entry != fs::directory_iterator();
       entry.increment(error)) {
    if (is_image_name(entry->path().filename().string())) return true;
  }
  return false;
}

// What every opening function needs.
struct Request {
  Split split;
  int channels;
  const DatasetOptions& options;

  std::unique_ptr<Dataset> open(const std::string& key, const std::function<Listing()>& scan) const {
    const std::string full_key = join(key, "\nsplit ", split.name);
    return open_listing(std::make_shared<const Listing>(cached_listing(options.index_cache, full_key, scan)), channels,
                        options);
  }
  std::unique_ptr<Dataset> open_class_folders(const std::string& folder) const {
    return open(absolute("folder", folder), [&] { return list_image_folder(folder); });
  }
  std::unique_ptr<Dataset> open_flat(const std::string& folder, const FlatLabelSource& labels) const {
    return open(join(absolute("flat", folder), "\nlabels ", find_label_file(labels)),
                [&] { return list_flat_folder(folder, labels); });
  }
  // Relative paths mean another place elsewhere; names in messages stay as the user wrote them.
  static std::string absolute(const char* kind, const std::string& path) {
    std::error_code ignored;
    return join(kind, " ", fs::absolute(path, ignored).string(), "\nas ", path);
  }
};

// Where labels of flat images in `folder`, a part of `root`, may lie.
FlatLabelSource flat_labels(const Request& request, const std::string& folder, const std::string& root) {
  FlatLabelSource labels;
  labels.file = request.options.val_labels;
  labels.search = {folder};
  if (root != folder) labels.search.push_back(root);
  return labels;
}

std::string parent_of(const std::string& path) {
  const std::string parent = fs::path(path).lexically_normal().parent_path().string();
  return parent.empty() ? "." : parent;
}

std::unique_ptr<Dataset> open_flat_part(const Request& request, const std::string& part, const std::string& folder) {
  FlatLabelSource labels = flat_labels(request, part, folder);
  labels.search.push_back(parent_of(folder));
  const std::string train = folder + "/train";
  labels.train_paths = {train};
  labels.train_classes = [train] { return is_split_folder(train) ? list_folders(train) : std::vector<std::string>{}; };
  return request.open_flat(part, labels);
}

std::unique_ptr<Dataset> open_folder_split(const Request& request, const std::string& folder) {
  const Split& split = request.split;
  for (const std::string& name : split.words) {
    const std::string part = join(folder, "/", name);
    if (is_split_folder(part)) return request.open_class_folders(part);
    // A class may be called "val"; a folder of images beside training classes is none.
    const bool flat =
        !split.training() && is_flat_folder(part) &&
        (is_split_folder(folder + "/train") || !find_label_file(flat_labels(request, part, folder)).empty());
    if (flat) return open_flat_part(request, part, folder);
  }
  for (const char* name : {"train", "val", "test"})
    if (is_split_folder(join(folder, "/", name)))
      fail(folder, ": has a folder ", name, ", but no ", split.words.front(), " beside it");
  const bool flat =
      !split.training() && is_flat_folder(folder) && !find_label_file(flat_labels(request, folder, folder)).empty();
  if (flat) return open_flat_part(request, folder, folder);
  return request.open_class_folders(folder);
}

// Kaggle's archive unpacks to ILSVRC/Data/CLS-LOC/{train,val,test}, with the labels in the folder above ILSVRC; its
// test images have no labels.
std::string kaggle_images(const std::string& folder) {
  for (const char* below : {"/ILSVRC/Data/CLS-LOC", "/Data/CLS-LOC"}) {
    if (is_folder(folder + below)) return folder + below;
  }
  return "";
}

std::unique_ptr<Dataset> open_kaggle(const Request& request, const std::string& root, const std::string& images) {
  if (request.split.training()) return request.open_class_folders(images + "/train");
  const std::string part = images + "/val";
  if (is_split_folder(part)) return request.open_class_folders(part);
  if (!is_flat_folder(part)) fail(part, ": no images here; Kaggle's archive has its validation images in this folder");
  FlatLabelSource labels = flat_labels(request, part, root);
  labels.search.push_back(parent_of(root));
  labels.train_paths = {images + "/train"};
  labels.train_classes = [images] { return list_folders(images + "/train"); };
  return request.open_flat(part, labels);
}

std::unique_ptr<Dataset> open_tar_split(const Request& request, const std::string& spec) {
  const std::vector<std::string> paths = find_tars(spec, request.split);
  if (paths.empty())
    fail(spec, ": no tar file for '", request.split.name, "' here; expected one whose name, or folder, has the word ",
         request.split.words.front());
  const std::string folder = parent_of(paths.front());
  FlatLabelSource labels = flat_labels(request, folder, is_folder(spec) ? spec : folder);
  // A single file is no training data; where none is found, labels that are numbers stay so.
  const bool has_parts = is_folder(spec) || spec.find("{split}") != std::string::npos;
  if (has_parts) labels.train_paths = find_tars(spec, parse_split("train"));
  labels.train_classes = [train = labels.train_paths] { return tar_class_names(train); };
  // A shard more makes another set, so the key names them all.
  std::string key = join(Request::absolute("tar", spec), "\nlabels ", find_label_file(labels));
  for (const std::string& path : paths) key += "\n" + path;
  for (const std::string& path : labels.train_paths) key += "\ntrain " + path;
  return request.open(
      key, [&] { return list_tars(paths.size() == 1 ? paths.front() : spec, paths, request.split, labels); });
}

bool looks_like_tars(const std::string& spec) {
  const bool named = spec.size() > 4 && spec.compare(spec.size() - 4, 4, ".tar") == 0;
  return named && !is_folder(spec);
}

// "DIR", or what it unpacks to.
std::string cifar10_folder(const std::string& folder) {
  const std::string below = folder + "/cifar-10-batches-bin";
  return !is_cifar10_folder(folder) && is_cifar10_folder(below) ? below : folder;
}

std::unique_ptr<Dataset> open_detected(const Request& request, const std::string& spec) {
  const Split& split = request.split;
  if (looks_like_tars(spec)) return open_tar_split(request, spec);
  if (!is_folder(spec))
    fail(spec, ": no such folder (data is given as DIR, FILE.tar, or with its kind: idx:DIR, folder:DIR, tar:PATH, ",
         "cifar10:DIR, pack:DIR)");
  if (is_packed(spec, split)) return open_packed(spec, split, request.channels, request.options);
  const IdxPaths idx = find_idx(spec, split);
  if (!idx.images.empty() || !idx.labels.empty())
    return open_idx_split(spec, split, request.channels, request.options.classes);
  if (is_cifar10_folder(cifar10_folder(spec)))
    return open_cifar10(cifar10_folder(spec), split, request.channels, request.options.classes);
  const std::string kaggle = kaggle_images(spec);
  if (!kaggle.empty()) return open_kaggle(request, spec, kaggle);
  const bool class_folders = is_split_folder(join(spec, "/", split.words.front()));
  if (!find_tars(spec, split).empty() && !(class_folders && contents(spec).folders))
    return open_tar_split(request, spec);
  const bool flat = is_flat_folder(spec) && !find_label_file(flat_labels(request, spec, spec)).empty();
  if (contents(spec).folders || flat) return open_folder_split(request, spec);
  // Tar files of another part only: the message of this function is the one that helps.
  if (!find_tars(spec, parse_split(split.training() ? "val" : "train")).empty()) return open_tar_split(request, spec);
  fail(spec, ": no data here: looked for ", idx_prefix(split), "-images-idx3-ubyte[.gz], for ", split.words.front(),
       "/<class>/*.jpg and for <class>/*.jpg (or .jpeg, .png), for *.tar, for CIFAR-10's *.bin, and for images with a ",
       "file of labels");
}

std::unique_ptr<Dataset> open_spec(const Request& request, const std::string& spec) {
  const std::string kind = spec.substr(0, spec.find(':') == std::string::npos ? 0 : spec.find(':'));
  const std::string rest = kind.empty() ? spec : spec.substr(kind.size() + 1);
  if (spec.empty())
    fail_usage("no data given; use DIR, FILE.tar, idx:DIR, folder:DIR, tar:PATH, cifar10:DIR or pack:DIR");
  if (kind == "idx") return open_idx_split(rest, request.split, request.channels, request.options.classes);
  if (kind == "folder") {
    const std::string kaggle = kaggle_images(rest);
    return kaggle.empty() ? open_folder_split(request, rest) : open_kaggle(request, rest, kaggle);
  }
  if (kind == "tar" || kind == "webdataset") return open_tar_split(request, rest);
  if (kind == "cifar10")
    return open_cifar10(cifar10_folder(rest), request.split, request.channels, request.options.classes);
  if (kind == "pack") return open_packed(rest, request.split, request.channels, request.options);
  return open_detected(request, spec);
}

}  // namespace

Split parse_split(const std::string& name) {
  if (name == "train") return {name, {"train"}};
  if (name == "val") return {name, {"val", "validation", "test"}};
  if (name == "test") return {name, {"test", "val", "validation"}};
  fail_usage("unknown split \"", name, "\"; use train, val or test");
}

EncodedImage Dataset::encoded(int64_t) const {
  return nullptr;
}

std::unique_ptr<Dataset> open_dataset(const std::string& spec, const std::string& split, int channels,
                                      const DatasetOptions& options) {
  const Request request{parse_split(split), channels, options};
  std::unique_ptr<Dataset> data = open_spec(request, spec);
  if (!options.val_labels.empty() && !request.split.training() && !data->labelled_by_file())
    fail_usage(options.val_labels, ": these labels are not used, since ", data->description(),
               " has labels of its own; ", "leave out data.val_labels (--val-labels)");
  return data;
}

}  // namespace riffle
