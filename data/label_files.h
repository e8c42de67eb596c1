// Labels of validation images that lie in one folder or tar file without class folders: every kind of file that people
// have for ImageNet's 50,000.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "data/file_pool.h"

namespace riffle {

// Where the labels of a flat set come from.
struct FlatLabelSource {
  std::string file;                 // what the user named; "" to search
  std::vector<std::string> search;  // folders in which a known name is looked for
  // Names of the training classes, for files that number them; may return an empty list. May be slow.
  std::function<std::vector<std::string>()> train_classes;
  std::vector<std::string> train_paths;  // what train_classes() looks at
};

struct FlatLabels {
  std::vector<std::string> classes;
  bool numbered = false;  // labels came as numbers, and no names are known
  std::vector<int32_t> labels;
  std::vector<FileStamp> stamps;  // of the files that were read
};

// The user's file, or the first known one in `search`; "" where there is none.
std::string find_label_file(const FlatLabelSource& source);

// `names`: of the images, in byte order, without folders. The format is found by content:
//   Caffe, PaddleClas     "ILSVRC2012_val_00000001.JPEG 65": class numbers from 0, in the order of sorted names
//   names instead         "ILSVRC2012_val_00000001.JPEG n01751748"
//   Kaggle                CSV whose header is "ImageId,PredictionString": "ILSVRC2012_val_00048981,n03995372 85 1 499 272"
//   TensorFlow            a line for each image, in order of their names: "n01751748"
//   the devkit            a line for each image: "490", an ILSVRC2012_ID from 1, in an order of its own. Needs meta.mat
//                         of the devkit, or a text file synsets.txt ("490 n01751748"), beside it.
// Throws where an image has no label, where a label fits no class, or where there is no file at all (saying what to give).
FlatLabels read_flat_labels(const FlatLabelSource& source, const std::vector<std::string>& names,
                            const std::string& images);

// wnids of ILSVRC2012_IDs 1 to 1000, from the devkit's meta.mat (a MATLAB 5 file).
std::vector<std::string> read_devkit_synsets(const std::string& path);

}  // namespace riffle
