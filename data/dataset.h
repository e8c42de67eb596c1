// Dataset: where images come from, behind one interface. load() may be called from many threads at once.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/encoded_cache.h"
#include "data/image.h"

namespace riffle {

class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual int64_t size() const = 0;
  virtual int channels() const = 0;                             // of the images load() returns: 1 or 3
  virtual const std::vector<std::string>& classes() const = 0;  // index -> name
  virtual int label(int64_t index) const = 0;                   // 0 .. classes-1
  virtual Image load(int64_t index) const = 0;                  // throws Error naming the image
  // The image's bytes as they are stored; null where pixels are stored (IDX, CIFAR-10). Throws as load().
  virtual EncodedImage encoded(int64_t index) const;
  virtual std::string name(int64_t index) const = 0;  // path, or "file.gz[17]", for messages
  // As name(), with what else helps to find the image: its name in the source of packed data.
  virtual std::string name_in_errors(int64_t index) const { return name(index); }
  virtual uint64_t encoded_size(int64_t) const { return 0; }  // of encoded(), without reading it; 0: not known
  // The images of each shard (a tar file, or one inside a tar file) in the order in which they lie there; empty: the data
  // is not in shards. For Shuffle::kShards.
  virtual std::vector<std::vector<int64_t>> shards() const { return {}; }
  virtual TruncatedImages truncated_images() const { return TruncatedImages::kError; }  // what load() makes of them
  virtual bool numbered() const { return false; }          // the classes are just numbers, which any names may replace
  virtual bool labelled_by_file() const { return false; }  // by DatasetOptions::val_labels, or a file beside the images
  virtual std::string description() const = 0;             // "ImageFolder /data/val: 50000 images, 1000 classes"
  virtual std::vector<std::string> warnings() const { return {}; }  // for people, once
};

struct DatasetOptions {
  std::vector<std::string> classes;  // as for open_image_folder() and open_idx()
  // The labels of validation images without class folders; "": a file beside them. An error where they have folders.
  std::string val_labels;
  std::string index_cache;             // folder in which listings are kept; "": none
  std::shared_ptr<CacheBudget> cache;  // memory for encoded images; null: none
  TruncatedImages truncated = TruncatedImages::kError;
  bool shards_in_order = false;  // each shard will be read from front to back, so read ahead in it
};

// root/<class>/*.{jpg,jpeg,png} (any case), classes in byte order of their names, files in byte order; hidden files are
// ignored. Throws: missing root, no class folders, a class folder without images (named), unreadable folders.
// `classes` may be empty: the folders' names. Else, where it contains every folder's name, labels are positions in it
// (a part of ImageNet keeps ImageNet's labels); where it contains none and is as long, it renames the folders in order.
std::unique_ptr<Dataset> open_image_folder(const std::string& root, int channels,
                                           const std::vector<std::string>& classes = {});

// IDX (as MNIST and Fashion-MNIST ship), plain or gzip: images u8 (N,H,W), labels u8 (N). Kept in memory. `classes` may
// be empty: then "0", "1", ... up to the largest label. Throws: wrong magic, truncated, counts that differ, label out
// of range of `classes` (index and value named). channels 3 repeats the gray value.
std::unique_ptr<Dataset> open_idx(const std::string& images_path, const std::string& labels_path,
                                  std::vector<std::string> classes, int channels = 1);

// The training or evaluation part of a data specification (docs/data.md shows each layout):
//   "idx:DIR"        DIR/{train,t10k}-{images-idx3,labels-idx1}-ubyte[.gz]
//   "folder:DIR"     DIR/{train,val}/<class>/..., or DIR/<class>/... where DIR has no train/val; validation images may
//                    lie in DIR/val itself, with a file of labels (data/label_files.h); Kaggle's ILSVRC tree
//   "tar:PATH"       a tar file, a pattern of them or a folder of them (find_tars() and list_tars() in data/sources.h):
//                    ImageNet's as published, class folders in a tar file, WebDataset's shards
//   "cifar10:DIR"    CIFAR-10's binary version
//   "pack:DIR"       what `riffle data pack` made
//   "DIR", "X.tar"   whichever of these fits; an error that says what was looked for, if none does
// split: "train", "val" or "test"; the last two are the same, except where the data has both.
std::unique_ptr<Dataset> open_dataset(const std::string& spec, const std::string& split, int channels,
                                      const DatasetOptions& options);

}  // namespace riffle
