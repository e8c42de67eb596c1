// The order in which an epoch visits a data set: a pure function of (seed, epoch). Several processes of one run compute
// the same order and take their parts of it.
#pragma once

#include <cstdint>
#include <vector>

namespace riffle {

// kFull: a permutation of all images. kShards: of those that lie in shards (tar files), which are opened in random order,
// `window` at a time; each is read from front to back, and which of the open ones gives the next image is drawn.
enum class Shuffle { kFull, kShards };

// Of a training epoch. `shards`: the images of each shard in the order in which they lie there, as Dataset::shards();
// read with kShards only. A shard is entered at a random image and read on from its beginning, so its images are read in
// order, with one step back.
std::vector<int64_t> full_order(int64_t size, uint64_t seed, int64_t epoch);
std::vector<int64_t> shard_order(const std::vector<std::vector<int64_t>>& shards, int window, uint64_t seed,
                                 int64_t epoch);

// One process of several that share an epoch. Image i of the process is image i * ranks + rank of all of them, so that
// the union of everybody's batch s is batch s of a single process with the batches of all together.
struct RankPart {
  int rank = 0, ranks = 1;

  int64_t global(int64_t position) const { return position * ranks + rank; }
  // How many of `size` images are the process's when every image is used exactly once: parts differ by one at most.
  int64_t count(int64_t size) const { return (size - rank + ranks - 1) / ranks; }
};

}  // namespace riffle
