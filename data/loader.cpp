// Loader: a ring of slots behind one mutex. Workers claim short runs of samples in order, write them in place, and
// count the slot's remaining samples down; next() hands slots out in order.
#include "data/loader.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <iterator>
#include <mutex>
#include <system_error>
#include <thread>
#include <unordered_set>
#include <utility>

#include "core/check.h"
#include "data/training_image.h"

namespace riffle {
namespace {

constexpr size_t kAlignment = 64;

size_t aligned(size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

std::shared_ptr<void> allocate_aligned(size_t bytes) {
  void* memory = std::aligned_alloc(kAlignment, aligned(bytes));
  if (memory == nullptr) fail("out of memory: the data loader asked for ", bytes, " bytes for one batch");
  return {memory, std::free};
}

struct BadSample {
  int64_t position;  // in the batch
  int64_t index;     // in the dataset
  std::string reason;
};

struct SampleError {
  int64_t position;
  std::exception_ptr error;
};

struct Slot {
  std::shared_ptr<void> memory;
  uint8_t* images = nullptr;
  int32_t* labels = nullptr;
  int64_t* indices = nullptr;
  // Guarded by the mutex.
  int64_t remaining = 0;  // samples not yet written
  std::vector<BadSample> bad;
  std::vector<SampleError> errors;
};

// Samples begin .. end - 1 of a batch.
struct Run {
  int64_t batch, begin, end;
};

// What became of a run, gathered without the lock.
struct RunReport {
  std::vector<BadSample> bad;
  std::vector<SampleError> errors;
};

}  // namespace

struct Loader::Implementation {
  Implementation(const Dataset& source, const LoaderOptions& loader_options);
  ~Implementation();

  void start_workers();
  void start_epoch(int64_t new_epoch, int64_t first_batch);
  bool next(Batch& batch);

  int64_t batch_count() const;
  int64_t samples_in(int64_t batch) const { return std::min(options.batch, dataset.size() - batch * options.batch); }
  Slot& slot_of(int64_t batch) { return slots[static_cast<size_t>(batch % options.prefetch)]; }
  // Of the epoch's order, from its start; in training a place stands for `repeats` positions.
  int64_t place_of(int64_t position) const { return options.training ? position / options.repeats : position; }
  int64_t index_at(int64_t place) const { return options.training ? order[static_cast<size_t>(place)] : place; }

  void work();
  bool claimable() const { return claim_batch < std::min(batch_count(), released + options.prefetch); }
  Run claim();
  void fill(const Run& run, RunReport& report);
  void write_sample(const Run& run, int64_t position, RunReport& report);
  Image evaluation_image(int64_t index) const;
  Image training_image(const Run& run, int64_t position, int64_t& index, RunReport& report) const;
  TrainingImage load_replacement_if_bad(const Run& run, int64_t position, int64_t& index, RunReport& report) const;
  TrainingImage load(int64_t index, int64_t repeat) const;
  void account_for_bad_images(Slot& slot);

  const Dataset& dataset;
  const LoaderOptions options;
  const int64_t edge;  // height and width of a sample
  const size_t sample_bytes;
  const int64_t run_length;  // samples a worker claims at once: long enough to amortise the lock, short enough to share
  std::vector<Slot> slots;
  std::vector<std::thread> workers;

  // Written by start_epoch() while no worker is busy, else constant.
  int64_t epoch = -1;
  std::vector<int64_t> order;  // of this epoch; empty in evaluation

  // The consumer's own.
  int64_t next_batch = 0;
  std::exception_ptr failure;
  std::vector<BadImage> bad_images;
  std::unordered_set<int64_t> bad_indices;

  std::mutex mutex;
  std::condition_variable work_available, progress;
  // Guarded by the mutex.
  bool stopping = false;
  int busy = 0;  // workers between claim and report
  int64_t claim_batch = 0, claim_sample = 0;
  int64_t released = 0;                // batches below this have been given back by the consumer
  std::atomic<bool> cancelled{false};  // start_epoch() or the destructor waits: abandon the run
};

// A batch never holds more than the data; in training more than that is an error.
LoaderOptions checked_options(const Dataset& dataset, LoaderOptions options) {
  if (dataset.size() == 0) fail(dataset.description(), ": there is nothing to load");
  if (options.training && options.batch > dataset.size())
    fail(dataset.description(), ": a training batch of ", options.batch,
         " is larger than the data; use a batch (train.batch) of at most ", dataset.size());
  options.batch = std::min(options.batch, dataset.size());
  return options;
}

Loader::Implementation::Implementation(const Dataset& source, const LoaderOptions& loader_options)
    : dataset(source),
      options(checked_options(source, loader_options)),
      edge(options.training ? options.train_transform.size : options.eval_transform.crop),
      sample_bytes(static_cast<size_t>(edge * edge * dataset.channels())),
      run_length(std::clamp<int64_t>(options.batch / (int64_t{4} * std::max(options.threads, 1)), 1, 16)) {
  RIFFLE_CHECK(options.batch > 0 && options.threads > 0 && options.prefetch > 0 && options.max_bad_images >= 0 &&
                   edge > 0 && options.repeats > 0,
               "batch ", options.batch, ", threads ", options.threads, ", prefetch ", options.prefetch,
               ", max_bad_images ", options.max_bad_images, ", image size ", edge);
  claim_batch = batch_count();  // nothing to do before start_epoch()

  const auto batch = static_cast<size_t>(options.batch);
  const size_t label_offset = aligned(batch * sample_bytes);
  const size_t index_offset = label_offset + aligned(batch * sizeof(int32_t));
  const size_t bytes = index_offset + batch * sizeof(int64_t);
  slots.resize(static_cast<size_t>(options.prefetch));
  for (Slot& slot : slots) {
    slot.memory = options.allocate ? options.allocate(bytes) : allocate_aligned(bytes);
    RIFFLE_CHECK(slot.memory != nullptr, "no memory for a batch of ", bytes, " bytes");
    auto* base = static_cast<uint8_t*>(slot.memory.get());
    slot.images = base;
    slot.labels = reinterpret_cast<int32_t*>(base + label_offset);
    slot.indices = reinterpret_cast<int64_t*>(base + index_offset);
  }
}

Loader::Implementation::~Implementation() {
  {
    const std::lock_guard<std::mutex> lock(mutex);
    stopping = true;
    cancelled = true;
  }
  work_available.notify_all();
  for (std::thread& worker : workers) worker.join();
}

void Loader::Implementation::start_workers() {
  try {
    for (int i = 0; i < options.threads; ++i) workers.emplace_back([this] { work(); });
  } catch (const std::system_error& error) {
    fail("cannot start ", options.threads, " data loader threads: ", error.what());
  }
}

int64_t Loader::Implementation::batch_count() const {
  const int64_t rounded_up = options.training ? 0 : options.batch - 1;
  return (dataset.size() + rounded_up) / options.batch;
}

void Loader::Implementation::start_epoch(int64_t new_epoch, int64_t first_batch) {
  RIFFLE_CHECK(new_epoch >= 0 && first_batch >= 0 && first_batch <= batch_count(), "epoch ", new_epoch, ", batch ",
               first_batch, " of ", batch_count());
  std::vector<int64_t> new_order;
  if (options.training)
    new_order = random_permutation(dataset.size(), options.seed, RandomPurpose::kShuffleEpoch,
                                   static_cast<uint64_t>(new_epoch));
  std::unique_lock<std::mutex> lock(mutex);
  cancelled = true;
  claim_batch = batch_count();  // nothing more to claim
  progress.wait(lock, [this] { return busy == 0; });

  order.swap(new_order);
  epoch = new_epoch;
  next_batch = released = claim_batch = first_batch;
  claim_sample = 0;
  failure = nullptr;
  bad_images.clear();
  bad_indices.clear();
  for (Slot& slot : slots) {
    slot.bad.clear();
    slot.errors.clear();
  }
  cancelled = false;
  lock.unlock();
  work_available.notify_all();
}

bool Loader::Implementation::next(Batch& batch) {
  RIFFLE_CHECK(epoch >= 0, "next() before start_epoch()");
  batch = Batch{};
  if (failure) std::rethrow_exception(failure);
  const auto begin = std::chrono::steady_clock::now();
  std::unique_lock<std::mutex> lock(mutex);
  released = next_batch;  // the batch given out last, if any, may be overwritten
  work_available.notify_all();
  if (next_batch == batch_count()) return false;

  Slot& slot = slot_of(next_batch);
  progress.wait(lock, [&] { return claim_batch > next_batch && slot.remaining == 0; });
  try {
    account_for_bad_images(slot);
  } catch (...) {
    failure = std::current_exception();
    throw;
  }
  batch = {slot.images, slot.labels, slot.indices, samples_in(next_batch), edge, edge, dataset.channels(), 0};
  batch.wait_ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  ++next_batch;
  return true;
}

// Turns what workers reported about a batch, in whatever order, into what one thread would have met first.
void Loader::Implementation::account_for_bad_images(Slot& slot) {
  const auto by_position = [](const auto& a, const auto& b) { return a.position < b.position; };
  std::stable_sort(slot.bad.begin(), slot.bad.end(), by_position);
  for (const BadSample& sample : slot.bad) {
    if (!bad_indices.insert(sample.index).second) continue;
    bad_images.push_back({dataset.name(sample.index), sample.reason});
    if (static_cast<int64_t>(bad_images.size()) > options.max_bad_images)
      fail("epoch ", epoch + 1, ": ", bad_images.size(),
           bad_images.size() == 1 ? " unreadable image" : " unreadable images", ", more than the ",
           options.max_bad_images, " that data.max_bad_images allows; the last one: ", sample.reason);
  }
  const auto first = std::min_element(slot.errors.begin(), slot.errors.end(), by_position);
  if (first != slot.errors.end()) std::rethrow_exception(first->error);
}

Run Loader::Implementation::claim() {
  const int64_t count = samples_in(claim_batch);
  if (claim_sample == 0) {
    Slot& slot = slot_of(claim_batch);
    slot.remaining = count;
    slot.bad.clear();
    slot.errors.clear();
  }
  const Run run{claim_batch, claim_sample, std::min(claim_sample + run_length, count)};
  claim_sample = run.end;
  if (run.end == count) {
    ++claim_batch;
    claim_sample = 0;
  }
  return run;
}

void Loader::Implementation::work() {
  std::unique_lock<std::mutex> lock(mutex);
  for (;;) {
    work_available.wait(lock, [this] { return stopping || claimable(); });
    if (stopping) return;
    const Run run = claim();
    ++busy;
    lock.unlock();
    RunReport report;
    fill(run, report);
    lock.lock();
    --busy;
    Slot& slot = slot_of(run.batch);
    std::move(report.bad.begin(), report.bad.end(), std::back_inserter(slot.bad));
    std::move(report.errors.begin(), report.errors.end(), std::back_inserter(slot.errors));
    slot.remaining -= run.end - run.begin;
    if (slot.remaining == 0 || busy == 0) progress.notify_all();
  }
}

void Loader::Implementation::fill(const Run& run, RunReport& report) {
  for (int64_t position = run.begin; position < run.end && !cancelled; ++position) {
    try {
      write_sample(run, position, report);
    } catch (...) {
      report.errors.push_back({position, std::current_exception()});
    }
  }
}

void Loader::Implementation::write_sample(const Run& run, int64_t position, RunReport& report) {
  const int64_t start = run.batch * options.batch + position;
  int64_t index = index_at(place_of(start));
  const Image image = options.training ? training_image(run, position, index, report) : evaluation_image(index);
  RIFFLE_CHECK(image.pixels.size() == sample_bytes, dataset.name(index), " became ", image.height, "x", image.width,
               "x", image.channels, ", expected ", edge, "x", edge, "x", dataset.channels());
  Slot& slot = slot_of(run.batch);
  std::memcpy(slot.images + static_cast<size_t>(position) * sample_bytes, image.pixels.data(), sample_bytes);
  slot.labels[position] = dataset.label(index);
  slot.indices[position] = index;
}

// `index` becomes the index of the image that was loaded. See Loader::next().
TrainingImage Loader::Implementation::load_replacement_if_bad(const Run& run, int64_t position, int64_t& index,
                                                              RunReport& report) const {
  const int64_t number = run.batch * options.batch + position;
  const int64_t size = dataset.size();
  const int64_t start = place_of(number);
  // How far from `start` the i-th try is: 0, then size/2 .. size-1, then 1 .. size/2-1.
  const auto distance = [size](int64_t i) {
    if (i == 0) return int64_t{0};
    const int64_t steps = size / 2 + i - 1;
    return steps < size ? steps : steps - size + 1;
  };
  // More failures than the limit end the epoch when the batch is given out, so looking further is useless.
  const int64_t tries = std::min(size - 1, options.max_bad_images) + 1;
  for (int64_t i = 0; i < tries; ++i) {
    index = index_at((start + distance(i)) % size);
    try {
      return load(index, number % options.repeats);
    } catch (const Error& error) {
      report.bad.push_back({position, index, error.what()});
    }
    if (cancelled) break;
  }
  fail("no readable image found in place of ", dataset.name(index_at(start)), " after ", tries, " tries");
}

TrainingImage Loader::Implementation::load(int64_t index, int64_t repeat) const {
  const RandomStream random(options.seed, RandomPurpose::kAugment, static_cast<uint64_t>(epoch),
                            static_cast<uint64_t>(index) + (static_cast<uint64_t>(repeat) << 48));
  TrainingImage image(dataset, index, options.train_transform, random);
  image.read();
  image.decode();
  return image;
}

Image Loader::Implementation::training_image(const Run& run, int64_t position, int64_t& index,
                                             RunReport& report) const {
  TrainingImage image = load_replacement_if_bad(run, position, index, report);
  try {
    image.resample();
    return image.augment();
  } catch (const Error& error) {
    throw Error(error.kind(), join(dataset.name_in_errors(index), ": ", error.what()));
  }
}

Image Loader::Implementation::evaluation_image(int64_t index) const {
  const Image image = dataset.load(index);
  try {
    return options.eval_transform.apply(image);
  } catch (const Error& error) {
    throw Error(error.kind(), join(dataset.name_in_errors(index), ": ", error.what()));
  }
}

Loader::Loader(const Dataset& dataset, const LoaderOptions& options)
    : implementation_(std::make_unique<Implementation>(dataset, options)) {
  implementation_->start_workers();
}

Loader::~Loader() = default;

int64_t Loader::batches_per_epoch() const {
  return implementation_->batch_count();
}

void Loader::start_epoch(int64_t epoch, int64_t first_batch) {
  implementation_->start_epoch(epoch, first_batch);
}

bool Loader::next(Batch& batch) {
  return implementation_->next(batch);
}

const std::vector<Loader::BadImage>& Loader::bad_images() const {
  return implementation_->bad_images;
}

}  // namespace riffle
