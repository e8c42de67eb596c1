// The kinds of data that open_dataset() finds, each as a function that lists its images.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "data/label_files.h"
#include "data/listing.h"

namespace riffle {

// The words by which files and folders name a part, in order of preference.
struct Split {
  std::string name;                // "train", "val" or "test"
  std::vector<std::string> words;  // {"val", "validation", "test"}
  bool training() const { return name == "train"; }
};
Split parse_split(const std::string& name);  // fails for any other word

// root/<class>/*.jpg; see open_image_folder().
Listing list_image_folder(const std::string& root);
// folder/*.jpg, labelled by a file; class-major, as class folders would be.
Listing list_flat_folder(const std::string& folder, const FlatLabelSource& labels);
// Names of the visible folders in a folder, in byte order.
std::vector<std::string> list_folders(const std::string& root);

// Tar files that hold class folders, a tar file for each class (ImageNet's as published), samples of .jpg and .cls
// (WebDataset), or images alone: then `labels` labels them; several such files without labels are a class each. `root` is what the user named.
Listing list_tars(const std::string& root, const std::vector<std::string>& paths, const Split& split,
                  const FlatLabelSource& labels);
// The tar files that a specification means for a split, in order:
//   FILE.tar; a pattern with *, {split}, {000..127}, {a,b}; or a folder, of which those are taken that name the split
//   in their own names ("imagenet-train-0001.tar") or lie in a folder of that name (train/0001.tar), else all.
// Empty where a folder or pattern has none for this split. Throws for a range with a missing file.
std::vector<std::string> find_tars(const std::string& spec, const Split& split);
// Class names of ImageNet's training tar file, or of class folders in one: read without listing inner files.
std::vector<std::string> tar_class_names(const std::vector<std::string>& paths);

// CIFAR-10's binary version: data_batch_{1..5}.bin, test_batch.bin, batches.meta.txt.
bool is_cifar10_folder(const std::string& folder);
std::unique_ptr<Dataset> open_cifar10(const std::string& folder, const Split& split, int channels,
                                      const std::vector<std::string>& classes);

}  // namespace riffle
