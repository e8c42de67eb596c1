// Which unit reads which channel: routes against a simulation of the units on labels, written from their definitions; and
// the order in which channels are stored.
#include <gtest/gtest.h>

#include <numeric>
#include <utility>
#include <vector>

#include "layers/channel_routing.h"

namespace riffle {
namespace {

// A channel of a branch's output.
using Label = std::pair<size_t, int64_t>;
using Labels = std::vector<Label>;

// What each unit's main branch reads (but the first unit's) and, last, what leaves the stage.
using StageInputs = std::vector<Labels>;

Labels concatenated(const Labels& a, const Labels& b) {
  Labels all = a;
  all.insert(all.end(), b.begin(), b.end());
  return all;
}

Labels from_branch(size_t branch, int64_t channels) {
  Labels labels;
  for (int64_t c = 0; c < channels; ++c) labels.emplace_back(branch, c);
  return labels;
}

// Channels first, first + 2, ...
Labels every_second(const Labels& labels, size_t first) {
  Labels some;
  for (size_t i = first; i < labels.size(); i += 2) some.push_back(labels[i]);
  return some;
}

Labels riffled(const Labels& a, const Labels& b) {
  Labels all;
  for (size_t i = 0; i < a.size(); ++i) {
    all.push_back(a[i]);
    all.push_back(b[i]);
  }
  return all;
}

// Halves pass and are processed; after a unit the halves are shuffled like cards.
StageInputs simulate_torchvision(int64_t units, int64_t channels) {
  const auto half = static_cast<ptrdiff_t>(channels / 2);
  StageInputs inputs;
  Labels now = riffled(from_branch(0, half), from_branch(1, half));
  for (int64_t unit = 1; unit < units; ++unit) {
    inputs.emplace_back(now.begin() + half, now.end());
    const Labels made = from_branch(static_cast<size_t>(unit) + 1, half);
    now = riffled(Labels(now.begin(), now.begin() + half), made);
  }
  inputs.push_back(now);
  return inputs;
}

// Even channels pass, odd ones are processed; a unit's result is not shuffled.
StageInputs simulate_megvii(int64_t units, int64_t channels, int64_t projected) {
  StageInputs inputs;
  Labels now = concatenated(from_branch(0, projected), from_branch(1, channels - projected));
  for (int64_t unit = 1; unit < units; ++unit) {
    inputs.push_back(every_second(now, 1));
    now = concatenated(every_second(now, 0), from_branch(static_cast<size_t>(unit) + 1, channels / 2));
  }
  inputs.push_back(now);
  return inputs;
}

// Halves pass and are processed; after a unit come its even channels, then its odd ones.
StageInputs simulate_tensorpack(int64_t units, int64_t channels, int64_t projected) {
  const auto half = static_cast<ptrdiff_t>(channels / 2);
  const auto evens_first = [](const Labels& x) { return concatenated(every_second(x, 0), every_second(x, 1)); };
  StageInputs inputs;
  Labels now = evens_first(concatenated(from_branch(0, projected), from_branch(1, channels - projected)));
  for (int64_t unit = 1; unit < units; ++unit) {
    inputs.emplace_back(now.begin() + half, now.end());
    const Labels made = from_branch(static_cast<size_t>(unit) + 1, half);
    now = evens_first(concatenated(Labels(now.begin(), now.begin() + half), made));
  }
  inputs.push_back(now);
  return inputs;
}

struct Stage {
  Dialect dialect;
  int64_t units, channels, projected;

  StageInputs simulate() const {
    if (dialect == Dialect::kTorchvision) return simulate_torchvision(units, channels);
    if (dialect == Dialect::kMegvii) return simulate_megvii(units, channels, projected);
    return simulate_tensorpack(units, channels, projected);
  }
};

// The published widths' stages and small ones with odd halves and quarters.
std::vector<Stage> stages() {
  std::vector<Stage> all;
  for (int64_t units = 1; units <= 8; ++units) {
    for (int64_t channels : {2, 6, 8, 20, 48, 116, 232, 352, 488})
      all.push_back({Dialect::kTorchvision, units, channels, channels / 2});
    for (Dialect dialect : {Dialect::kMegvii, Dialect::kTensorpack})
      for (const auto& [projected, channels] : std::vector<std::pair<int64_t, int64_t>>{
               {1, 2}, {5, 6}, {3, 8}, {9, 20}, {24, 48}, {24, 116}, {116, 232}, {24, 176}, {244, 488}})
        all.push_back({dialect, units, channels, projected});
  }
  return all;
}

template <class Body>
void for_each_stage(const Body& body) {
  for (const Stage& s : stages()) {
    SCOPED_TRACE(
        join(name_of(s.dialect), ", ", s.units, " units of ", s.channels, " channels, ", s.projected, " projected"));
    body(s, route_channels(s.dialect, s.units, s.channels, s.projected));
  }
}

bool is_permutation_of_all(const Permutation& order, int64_t size) {
  std::vector<int> seen(static_cast<size_t>(size));
  for (int64_t i : order) {
    if (i < 0 || i >= size) return false;
    ++seen[static_cast<size_t>(i)];
  }
  return seen == std::vector<int>(static_cast<size_t>(size), 1);
}

TEST(ChannelRouting, DeliversWhatTheUnitsWouldRead) {
  for_each_stage([](const Stage& stage, const ChannelRouting& routing) {
    const StageInputs wanted = stage.simulate();
    ASSERT_EQ(routing.consumer_orders.size(), wanted.size());
    std::vector<Labels> delivered;  // to each consumer, as stored
    for (const Labels& input : wanted) delivered.emplace_back(input.size(), Label{99, -1});
    for (size_t branch = 0; branch < routing.slices.size(); ++branch)
      for (const ChannelRouting::Slice& slice : routing.slices[branch])
        for (int64_t i = 0; i < slice.count; ++i) {
          const int64_t channel = routing.branch_orders[branch].at(static_cast<size_t>(slice.first + i));
          Label& place = delivered.at(slice.consumer).at(static_cast<size_t>(slice.begin + i));
          EXPECT_EQ(place.second, -1) << "two branches write to one place";
          place = {branch, channel};
        }
    for (size_t consumer = 0; consumer < wanted.size(); ++consumer) {
      const Permutation& order = routing.consumer_orders[consumer];
      ASSERT_TRUE(is_permutation_of_all(order, static_cast<int64_t>(wanted[consumer].size())));
      for (size_t i = 0; i < order.size(); ++i)
        ASSERT_EQ(delivered[consumer][i], wanted[consumer][static_cast<size_t>(order[i])])
            << "consumer " << consumer << ", stored channel " << i;
    }
  });
}

TEST(ChannelRouting, EveryChannelHasOneConsumer) {
  for_each_stage([](const Stage& stage, const ChannelRouting& routing) {
    ASSERT_EQ(routing.branch_orders.size(), static_cast<size_t>(stage.units) + 1);
    ASSERT_EQ(routing.slices.size(), routing.branch_orders.size());
    int64_t made = 0;
    for (size_t branch = 0; branch < routing.slices.size(); ++branch) {
      const int64_t first_unit = branch == 0 ? stage.projected : stage.channels - stage.projected;
      const int64_t channels = branch < 2 ? first_unit : stage.channels / 2;
      ASSERT_TRUE(is_permutation_of_all(routing.branch_orders[branch], channels)) << "branch " << branch;
      int64_t next = 0;
      size_t consumers_before = 0;
      for (const ChannelRouting::Slice& slice : routing.slices[branch]) {
        EXPECT_EQ(slice.first, next) << "branch " << branch;
        EXPECT_GT(slice.count, 0);
        EXPECT_GE(slice.consumer, consumers_before) << "one slice for each consumer, in order";
        EXPECT_GE(slice.consumer + 1, branch) << "branch " << branch << " feeds a unit that has run";
        consumers_before = slice.consumer + 1;
        next += slice.count;
      }
      EXPECT_EQ(next, channels) << "branch " << branch;
      made += channels;
    }
    int64_t read = 0;
    ASSERT_EQ(routing.consumer_channels.size(), static_cast<size_t>(stage.units));
    for (size_t consumer = 0; consumer < routing.consumer_channels.size(); ++consumer) {
      const bool exit = consumer + 1 == routing.consumer_channels.size();
      EXPECT_EQ(routing.consumer_channels[consumer], exit ? stage.channels : stage.channels / 2);
      read += routing.consumer_channels[consumer];
    }
    EXPECT_EQ(read, made);
  });
}

// By hand: 8 channels a0..a3, b0..b3 in two units of torchvision's. After the first: a0 b0 a1 b1 | a2 b2 a3 b3; the
// second half is processed to c0..c3, and the stage ends with a0 c0 b0 c1 a1 c2 b1 c3.
TEST(ChannelRouting, TwoUnitsByHand) {
  const ChannelRouting routing = route_channels(Dialect::kTorchvision, 2, 8, 4);
  EXPECT_EQ(routing.branch_orders, (std::vector<Permutation>{{2, 3, 0, 1}, {2, 3, 0, 1}, {0, 1, 2, 3}}));
  EXPECT_EQ(routing.consumer_orders, (std::vector<Permutation>{{0, 2, 1, 3}, {0, 4, 2, 6, 1, 3, 5, 7}}));
  ASSERT_EQ(routing.slices[1].size(), 2u);
  const ChannelRouting::Slice& last = routing.slices[1][1];  // b0 b1, behind a0 a1 at the exit
  EXPECT_EQ(last.consumer, 1u);
  EXPECT_EQ(last.first, 2);
  EXPECT_EQ(last.count, 2);
  EXPECT_EQ(last.begin, 2);
}

TEST(ChannelOrder, ByHand) {
  const Shape filter{2, 1, 1, 3};
  const std::vector<int> stored{1, 2, 3, 4, 5, 6};
  // Stored row 0 is output 1; stored column 0 is input 2, and so on.
  EXPECT_EQ(to_published_order(stored, filter, {{1, 0}, {2, 0, 1}}), (std::vector<int>{5, 6, 4, 2, 3, 1}));
  EXPECT_EQ(to_published_order(stored, filter, {{}, {2, 0, 1}}), (std::vector<int>{2, 3, 1, 5, 6, 4}));
  EXPECT_EQ(to_published_order(stored, filter, {{1, 0}, {}}), (std::vector<int>{4, 5, 6, 1, 2, 3}));
  EXPECT_EQ(to_published_order(stored, filter, {}), stored);
  EXPECT_EQ(to_published_order(stored, {1, 1, 2, 3}, {{}, {2, 0, 1}}), (std::vector<int>{2, 3, 1, 5, 6, 4}));
}

TEST(ChannelOrder, RoundTrips) {
  for (const Shape& shape : {Shape{4, 1, 1, 6}, Shape{1, 3, 3, 6}, Shape{1, 1, 1, 6}, Shape{4, 2, 3, 6}}) {
    std::vector<int> values(static_cast<size_t>(shape.elements()));
    std::iota(values.begin(), values.end(), 0);
    const Permutation rows{2, 0, 3, 1}, columns{5, 1, 0, 4, 3, 2};
    for (const StoredOrder& order :
         {StoredOrder{}, StoredOrder{{}, columns}, StoredOrder{shape.n == 4 ? rows : Permutation{}, columns}}) {
      const std::vector<int> published = to_published_order(values, shape, order);
      EXPECT_EQ(to_stored_order(published, shape, order), values);
      EXPECT_EQ(to_published_order(to_stored_order(values, shape, order), shape, order), values);
      EXPECT_EQ(published == values, order.c.empty());
    }
  }
}

TEST(ChannelOrder, RejectsOrdersOfOtherSizes) {
  const std::vector<int> values(6);
  EXPECT_THROW(to_published_order(values, {2, 1, 1, 3}, {{}, {1, 0}}), Error);
  EXPECT_THROW(to_stored_order(values, {2, 1, 1, 3}, {{0, 1, 2}, {}}), Error);
}

}  // namespace
}  // namespace riffle
