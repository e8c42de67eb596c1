// Permutations of images and of shards.
#include "data/epoch_order.h"

#include <algorithm>
#include <utility>

#include "core/check.h"
#include "core/rng.h"

namespace riffle {
namespace {

constexpr uint64_t kShardStream = 1;  // full_order() draws from stream 0 of the same purpose

// A shard that is being read.
struct OpenShard {
  const std::vector<int64_t>* images;
  int64_t start;  // where reading began
  int64_t done = 0;

  int64_t size() const { return static_cast<int64_t>(images->size()); }
  int64_t left() const { return size() - done; }
  int64_t take() { return (*images)[static_cast<size_t>((start + done++) % size())]; }
};

// The shard that holds the `drawn`-th of all images left in the open ones.
OpenShard& shard_of(std::vector<OpenShard>& open, int64_t drawn) {
  auto shard = open.begin();
  for (; drawn >= shard->left(); ++shard) drawn -= shard->left();
  return *shard;
}

}  // namespace

std::vector<int64_t> full_order(int64_t size, uint64_t seed, int64_t epoch) {
  return random_permutation(size, seed, RandomPurpose::kShuffleEpoch, static_cast<uint64_t>(epoch));
}

std::vector<int64_t> shard_order(const std::vector<std::vector<int64_t>>& shards, int window, uint64_t seed,
                                 int64_t epoch) {
  RIFFLE_CHECK(window > 0, "a window of ", window, " shards");
  RandomStream random(seed, RandomPurpose::kShuffleEpoch, static_cast<uint64_t>(epoch), kShardStream);
  std::vector<const std::vector<int64_t>*> waiting;
  size_t images = 0;
  for (const std::vector<int64_t>& shard : shards) {
    images += shard.size();
    if (!shard.empty()) waiting.push_back(&shard);
  }
  std::vector<int64_t> order;
  order.reserve(images);
  std::vector<OpenShard> open;
  int64_t left = 0;  // in the open shards
  while (order.size() < images) {
    while (open.size() < static_cast<size_t>(window) && !waiting.empty()) {
      std::swap(waiting[static_cast<size_t>(random.below(static_cast<int64_t>(waiting.size())))], waiting.back());
      const std::vector<int64_t>* shard = waiting.back();
      waiting.pop_back();
      open.push_back({shard, random.below(static_cast<int64_t>(shard->size()))});
      left += open.back().size();
    }
    OpenShard& shard = shard_of(open, random.below(left--));
    order.push_back(shard.take());
    if (shard.left() == 0) {
      std::swap(shard, open.back());
      open.pop_back();
    }
  }
  return order;
}

}  // namespace riffle
