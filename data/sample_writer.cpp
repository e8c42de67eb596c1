// Samples of batches.
#include "data/sample_writer.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>

#include "core/check.h"

namespace riffle {
namespace {

std::vector<std::vector<int64_t>> shards_to_shuffle(const Dataset& dataset, const LoaderOptions& options) {
  if (!options.training || options.shuffle != Shuffle::kShards) return {};
  std::vector<std::vector<int64_t>> shards = dataset.shards();
  if (shards.empty())
    fail_usage(dataset.description(), ": data.shuffle is shards, but these images do not lie in tar files; use full");
  return shards;
}

int64_t index_at(const EpochPlan& plan, int64_t place) {
  return plan.order.empty() ? place : plan.order[static_cast<size_t>(place)];
}

}  // namespace

void RunReport::add(RunReport&& other) {
  const auto append = [](auto& to, auto& from) { std::move(from.begin(), from.end(), std::back_inserter(to)); };
  append(bad, other.bad);
  append(truncated, other.truncated);
  append(errors, other.errors);
}

SampleWriter::SampleWriter(const Dataset& dataset, const LoaderOptions& options)
    : dataset_(dataset), options_(options), shards_(shards_to_shuffle(dataset, options)) {}

int64_t SampleWriter::edge_at(int64_t epoch) const {
  if (!options_.training) return options_.eval_transform.crop;
  int size = options_.train_transform.size;
  for (const SizeChange& change : options_.sizes)
    if (change.epoch <= epoch) size = change.size;
  return size;
}

int64_t SampleWriter::largest_edge() const {
  if (!options_.training) return options_.eval_transform.crop;
  int size = options_.train_transform.size;
  for (const SizeChange& change : options_.sizes) size = std::max(size, change.size);
  return size;
}

std::shared_ptr<const EpochPlan> SampleWriter::plan(int64_t epoch) const {
  auto plan = std::make_shared<EpochPlan>();
  plan->epoch = epoch;
  plan->edge = edge_at(epoch);
  if (!options_.training) return plan;
  plan->order = options_.shuffle == Shuffle::kFull
                    ? full_order(dataset_.size(), options_.seed, epoch)
                    : shard_order(shards_, options_.shuffle_window, options_.seed, epoch);
  plan->transform = options_.train_transform;
  plan->transform.size = static_cast<int>(plan->edge);
  return plan;
}

void SampleWriter::write(const EpochPlan& plan, const SampleRun& run, const std::atomic<bool>& cancelled,
                         RunReport& report) const {
  for (int64_t position = run.begin; position < run.end && !cancelled; ++position) {
    try {
      write_sample(plan, run, position, cancelled, report);
    } catch (...) {
      report.errors.push_back({position, std::current_exception()});
    }
  }
}

void SampleWriter::write_sample(const EpochPlan& plan, const SampleRun& run, int64_t position,
                                const std::atomic<bool>& cancelled, RunReport& report) const {
  const int64_t start = options_.part.global(run.batch * options_.batch + position);
  int64_t index = index_at(plan, place_of(start));
  const std::optional<Image> image = options_.training ? training_image(plan, start, position, index, cancelled, report)
                                                       : evaluation_image(index, position, report);
  if (!image) return;
  const auto bytes = static_cast<size_t>(plan.edge * plan.edge * dataset_.channels());
  RIFFLE_CHECK(image->pixels.size() == bytes, dataset_.name(index), " became ", image->height, "x", image->width, "x",
               image->channels, ", expected ", plan.edge, "x", plan.edge, "x", dataset_.channels());
  std::memcpy(run.images + static_cast<size_t>(position) * bytes, image->pixels.data(), bytes);
  run.labels[position] = dataset_.label(index);
  run.indices[position] = index;
}

Image SampleWriter::training_image(const EpochPlan& plan, int64_t start, int64_t position, int64_t& index,
                                   const std::atomic<bool>& cancelled, RunReport& report) const {
  TrainingImage image = load_replacement_if_bad(plan, start, position, index, cancelled, report);
  try {
    image.resample();
    return image.augment();
  } catch (const Error& error) {
    throw Error(error.kind(), join(dataset_.name_in_errors(index), ": ", error.what()));
  }
}

TrainingImage SampleWriter::load_replacement_if_bad(const EpochPlan& plan, int64_t start, int64_t position,
                                                    int64_t& index, const std::atomic<bool>& cancelled,
                                                    RunReport& report) const {
  const int64_t size = dataset_.size(), place = place_of(start);
  // How far from `place` the i-th try is: 0, then size/2 .. size-1, then 1 .. size/2-1.
  const auto distance = [size](int64_t i) {
    if (i == 0) return int64_t{0};
    const int64_t steps = size / 2 + i - 1;
    return steps < size ? steps : steps - size + 1;
  };
  // More failures than the limit end the epoch when the batch is given out, so looking further is useless.
  const int64_t tries = std::min(size - 1, options_.max_bad_images) + 1;
  for (int64_t i = 0; i < tries; ++i) {
    index = index_at(plan, (place + distance(i)) % size);
    try {
      TrainingImage image = load(plan, index, start % options_.repeats);
      if (image.truncated()) report.truncated.push_back({position, index});
      return image;
    } catch (const Error& error) {
      report.bad.push_back({position, index, error.what()});
    }
    if (cancelled) break;
  }
  fail("no readable image found in place of ", dataset_.name(index_at(plan, place)), " after ", tries, " tries");
}

TrainingImage SampleWriter::load(const EpochPlan& plan, int64_t index, int64_t repeat) const {
  const RandomStream random(options_.seed, RandomPurpose::kAugment, static_cast<uint64_t>(plan.epoch),
                            static_cast<uint64_t>(index) + (static_cast<uint64_t>(repeat) << 48));
  TrainingImage image(dataset_, index, plan.transform, random);
  image.read();
  image.decode();
  return image;
}

std::optional<Image> SampleWriter::evaluation_image(int64_t index, int64_t position, RunReport& report) const {
  Image image;
  try {
    image = dataset_.load(index);
  } catch (const Error& error) {
    report.bad.push_back({position, index, error.what()});
    return std::nullopt;
  }
  if (image.truncated) report.truncated.push_back({position, index});
  try {
    return options_.eval_transform.apply(image);
  } catch (const Error& error) {
    throw Error(error.kind(), join(dataset_.name_in_errors(index), ": ", error.what()));
  }
}

}  // namespace riffle
