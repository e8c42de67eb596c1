// Packed data: WebDataset-compatible tar files (NUMBER.jpg or .png, and NUMBER.cls) with one index of all their images
// and their checksums, so that opening reads no tar header and every read is checked.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "data/sources.h"

namespace riffle {

// Whether `folder`, or folder/<split>, has an index.
bool is_packed(const std::string& folder, const Split& split);
// The index alone decides; a shard that is missing or has another size is an error now, a damaged image when it is read.
std::unique_ptr<Dataset> open_packed(const std::string& folder, const Split& split, int channels,
                                     const DatasetOptions& options);

struct PackOptions {
  int short_edge = 0;  // images whose short edge is longer are resized to it; 0: none are
  int quality = 90;    // of the JPEG that a resized image becomes
  int64_t shards = 0;  // 0: one for every kImagesPerShard images
  int threads = 1;
  bool shuffle = false;  // of images among shards, which other programs read in order; riffle's order is the index's
  std::function<void(int64_t images)> progress;  // after some images, from any thread, one at a time
};
constexpr int64_t kImagesPerShard = 5000;

struct PackResult {
  int64_t images = 0, resized = 0, shards = 0, kept_shards = 0;
  uint64_t bytes = 0;  // of all shards
};

// Writes `data` to `folder`. Bytes are copied as they are, but for images that are resized; images without an encoding
// (IDX, CIFAR-10) become PNG. The same images come out in the same order. What an interrupted call with the same options
// finished is read, checked and kept. Throws for images that cannot be read or (where resized) decoded.
PackResult pack(const Dataset& data, const std::string& folder, const PackOptions& options);

}  // namespace riffle
