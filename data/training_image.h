// A training image on its way from a data set into a batch, stage by stage: the first two fail where the image is bad,
// the others where it does not fit the transforms. In quick mode only what the first transform needs is decoded; what is
// drawn at random is the same.
#pragma once

#include <string>

#include "data/augment.h"
#include "data/dataset.h"
#include "data/resize.h"

namespace riffle {

class TrainingImage {
 public:
  // `data` and `transform` must outlive the object. `random` is the sample's own stream.
  TrainingImage(const Dataset& data, int64_t index, const TrainTransform& transform, const RandomStream& random);

  // To be called in this order. They throw Error; the first two name the image, as Dataset::load().
  void read();                                   // the file, where there is one
  void decode();                                 // images that quick mode cannot read in part are decoded whole
  bool truncated() const { return truncated_; }  // the file ended before what was decoded
  void resample();                               // the first transform, if it changes the size
  Image augment();                               // the other transforms

 private:
  bool decode_part();

  const Dataset* data_;
  int64_t index_;
  const TrainTransform* transform_;
  RandomStream random_;
  EncodedImage bytes_;
  Image image_;
  // Of quick mode: the crop in the pixels of image_, and what it becomes; 0 pixels where image_ is whole.
  FractionalBox part_;
  ImageSize target_{0, 0};
  size_t steps_done_ = 0;
  bool truncated_ = false;
};

// "": the transform may be used in quick mode. Else why not.
std::string why_not_quick(const TrainTransform& transform);

}  // namespace riffle
