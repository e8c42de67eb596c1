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
#include <limits>
#include <map>
#include <mutex>
#include <system_error>
#include <thread>
#include <unordered_set>
#include <utility>

#include "core/check.h"
#include "data/sample_writer.h"

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

struct Slot {
  std::shared_ptr<void> memory;
  uint8_t* images = nullptr;
  int32_t* labels = nullptr;
  int64_t* indices = nullptr;
  // Guarded by the mutex.
  int64_t remaining = 0;  // samples not yet written
  RunReport report;
  void begin(int64_t samples) {
    remaining = samples;
    report = RunReport{};
  }
};

// Samples begin .. end - 1 of a batch. Batches are counted on through epochs, by tickets.
struct Run {
  int64_t ticket, begin, end;
  std::shared_ptr<const EpochPlan> plan;
};

constexpr int64_t kNoTicket = std::numeric_limits<int64_t>::max();

}  // namespace

struct Loader::Implementation {
  Implementation(const Dataset& source, const LoaderOptions& loader_options);
  ~Implementation();

  void start_workers();
  void start_epoch(int64_t new_epoch, int64_t first_batch);
  bool next(Batch& batch);

  int64_t image_count() const;
  int64_t batch_count() const;
  int64_t samples_in(int64_t batch) const { return std::min(options.batch, image_count() - batch * options.batch); }
  Slot& slot_of(int64_t ticket) { return slots[static_cast<size_t>(ticket % options.prefetch)]; }
  bool continues(int64_t new_epoch, int64_t first_batch) const;
  void restart(int64_t new_epoch, int64_t first_batch);
  int64_t ready_batches();

  void work();
  int64_t epoch_of(int64_t ticket) const { return origin + ticket / length; }
  int64_t end_ticket() const;
  bool claimable() const;
  int64_t wanted_plan() const;
  Run claim();
  void prepare_epoch(int64_t wanted, std::unique_lock<std::mutex>& lock);
  void account_for(RunReport& report);
  [[noreturn]] void fail_with_too_many_bad_images() const;
  static int64_t remove_bad_samples(const Slot& slot, int64_t count, size_t sample_bytes);

  const Dataset& dataset;
  const LoaderOptions options;
  const SampleWriter writer;
  const int64_t run_length;  // samples a worker claims at once: long enough to amortise the lock, short enough to share
  std::vector<Slot> slots;
  size_t slot_bytes = 0;  // of each
  std::vector<std::thread> workers;

  // Written while no worker is busy, else constant.
  int64_t origin = 0;  // the epoch of ticket 0
  int64_t length;      // batches of an epoch that are used
  int64_t in_all = kNoTicket;

  // The consumer's own.
  int64_t epoch = -1;
  int64_t next_ticket = 0;
  std::exception_ptr failure;
  std::vector<BadImage> bad_images;
  std::vector<int64_t> truncated_images;
  std::unordered_set<int64_t> bad_indices, truncated_indices;

  std::mutex mutex;
  std::condition_variable work_available, progress;
  // Guarded by the mutex.
  bool stopping = false;
  int busy = 0;  // workers between claim and report
  int64_t claim_ticket = kNoTicket, claim_sample = 0;
  int64_t released = 0;  // batches below this ticket have been given back by the consumer
  std::map<int64_t, std::shared_ptr<const EpochPlan>> plans;
  bool planning = false;
  std::exception_ptr plan_failure;
  std::atomic<bool> cancelled{false};  // start_epoch() or the destructor waits: abandon the run
};

// A batch never holds more than the data; in training more than that is an error.
LoaderOptions checked_options(const Dataset& dataset, LoaderOptions options) {
  if (dataset.size() == 0) fail(dataset.description(), ": there is nothing to load");
  const auto& [rank, ranks] = options.part;
  RIFFLE_CHECK(ranks > 0 && rank >= 0 && rank < ranks, "rank ", rank, " of ", ranks);
  const std::string of_each = ranks > 1 ? join(" in each of ", ranks, " processes") : "";
  if (options.training && options.batch > dataset.size() / ranks)
    fail(dataset.description(), ": a training batch of ", options.batch, of_each,
         " is larger than the data; use a batch (train.batch) of at most ", dataset.size() / ranks);
  options.batch = std::min(options.batch, dataset.size());
  return options;
}

Loader::Implementation::Implementation(const Dataset& source, const LoaderOptions& loader_options)
    : dataset(source),
      options(checked_options(source, loader_options)),
      writer(source, options),
      run_length(std::clamp<int64_t>(options.batch / (int64_t{4} * std::max(options.threads, 1)), 1, 16)) {
  const int64_t edge = writer.largest_edge();
  RIFFLE_CHECK(options.batch > 0 && options.threads > 0 && options.prefetch > 0 && options.max_bad_images >= 0 &&
                   edge > 0 && options.repeats > 0 && options.shuffle_window > 0,
               "batch ", options.batch, ", threads ", options.threads, ", prefetch ", options.prefetch,
               ", max_bad_images ", options.max_bad_images, ", image size ", edge);
  length = batch_count();

  const auto batch = static_cast<size_t>(options.batch);
  const size_t label_offset = aligned(batch * static_cast<size_t>(edge * edge * dataset.channels()));
  const size_t index_offset = label_offset + aligned(batch * sizeof(int32_t));
  const size_t bytes = slot_bytes = index_offset + batch * sizeof(int64_t);
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

int64_t Loader::Implementation::image_count() const {
  return options.training ? batch_count() * options.batch : options.part.count(dataset.size());
}

int64_t Loader::Implementation::batch_count() const {
  if (options.training) return dataset.size() / (options.batch * options.part.ranks);
  return (options.part.count(dataset.size()) + options.batch - 1) / options.batch;
}

void Loader::Implementation::start_epoch(int64_t new_epoch, int64_t first_batch) {
  RIFFLE_CHECK(new_epoch >= 0 && first_batch >= 0 && first_batch <= length, "epoch ", new_epoch, ", batch ",
               first_batch, " of ", length);
  if (continues(new_epoch, first_batch)) {
    const std::lock_guard<std::mutex> lock(mutex);
    released = next_ticket;
    plans.erase(plans.begin(), plans.lower_bound(new_epoch));
  } else {
    restart(new_epoch, first_batch);
  }
  epoch = new_epoch;
  bad_images.clear();
  bad_indices.clear();
  truncated_images.clear();
  truncated_indices.clear();
  work_available.notify_all();
}

bool Loader::Implementation::continues(int64_t new_epoch, int64_t first_batch) const {
  const bool all_given_out = epoch >= 0 && next_ticket == (epoch + 1 - origin) * length && next_ticket < end_ticket();
  return options.training && !failure && all_given_out && new_epoch == epoch + 1 && first_batch == 0;
}

void Loader::Implementation::restart(int64_t new_epoch, int64_t first_batch) {
  const std::shared_ptr<const EpochPlan> plan = writer.plan(new_epoch);
  std::unique_lock<std::mutex> lock(mutex);
  cancelled = true;
  claim_ticket = kNoTicket;  // nothing more to claim
  progress.wait(lock, [this] { return busy == 0; });

  plans = {{new_epoch, plan}};
  plan_failure = failure = nullptr;
  origin = new_epoch;
  next_ticket = released = claim_ticket = first_batch;
  claim_sample = 0;
  for (Slot& slot : slots) slot.begin(0);
  cancelled = false;
}

bool Loader::Implementation::next(Batch& batch) {
  RIFFLE_CHECK(epoch >= 0, "next() before start_epoch()");
  batch = Batch{};
  if (failure) std::rethrow_exception(failure);
  const auto begin = std::chrono::steady_clock::now();
  std::unique_lock<std::mutex> lock(mutex);
  released = next_ticket;  // the batch given out last, if any, may be overwritten
  work_available.notify_all();
  const int64_t first_of_epoch = (epoch - origin) * length;
  if (next_ticket == first_of_epoch + length || next_ticket >= end_ticket()) return false;

  const int64_t ready = ready_batches();
  Slot& slot = slot_of(next_ticket);
  progress.wait(lock, [&] { return plan_failure || (claim_ticket > next_ticket && slot.remaining == 0); });
  const int64_t edge = plans.at(epoch)->edge;
  int64_t count = samples_in(next_ticket - first_of_epoch);
  try {
    if (plan_failure) std::rethrow_exception(plan_failure);
    account_for(slot.report);
  } catch (...) {
    failure = std::current_exception();
    throw;
  }
  if (!options.training) count = remove_bad_samples(slot, count, static_cast<size_t>(edge * edge * dataset.channels()));
  batch = {slot.images, slot.labels, slot.indices, count, edge, edge, dataset.channels(), 0, ready};
  batch.wait_ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  ++next_ticket;
  return true;
}

int64_t Loader::Implementation::ready_batches() {
  int64_t ready = 0;
  for (int64_t ticket = next_ticket; ticket < claim_ticket; ++ticket) ready += slot_of(ticket).remaining == 0 ? 1 : 0;
  return ready;
}

// Turns what workers reported about a batch, in whatever order, into what one thread would have met first.
void Loader::Implementation::account_for(RunReport& report) {
  const auto by_position = [](const auto& a, const auto& b) { return a.position < b.position; };
  std::stable_sort(report.truncated.begin(), report.truncated.end(), by_position);
  for (const TruncatedSample& sample : report.truncated)
    if (truncated_indices.insert(sample.index).second) truncated_images.push_back(sample.index);
  std::stable_sort(report.bad.begin(), report.bad.end(), by_position);
  for (const BadSample& sample : report.bad) {
    if (!bad_indices.insert(sample.index).second) continue;
    bad_images.push_back({sample.index, dataset.name(sample.index), sample.reason});
    if (static_cast<int64_t>(bad_images.size()) > options.max_bad_images) fail_with_too_many_bad_images();
  }
  const auto first = std::min_element(report.errors.begin(), report.errors.end(), by_position);
  if (first != report.errors.end()) std::rethrow_exception(first->error);
}

void Loader::Implementation::fail_with_too_many_bad_images() const {
  const std::string& last = bad_images.back().reason;
  if (!options.training && options.max_bad_images == 0) fail(last);
  fail(options.training ? join("epoch ", epoch + 1, ": ") : "", bad_images.size(),
       bad_images.size() == 1 ? " unreadable image" : " unreadable images", ", more than the ", options.max_bad_images,
       " that ", options.training ? "data.max_bad_images allows" : "eval.max_bad_images or --allow-bad allow",
       "; the last one: ", last);
}

// Closes the gaps that unreadable images left; returns how many samples remain.
int64_t Loader::Implementation::remove_bad_samples(const Slot& slot, int64_t count, size_t sample_bytes) {
  if (slot.report.bad.empty()) return count;
  auto bad = slot.report.bad.begin();  // in order of positions
  int64_t kept = 0;
  for (int64_t position = 0; position < count; ++position) {
    if (bad != slot.report.bad.end() && bad->position == position) {
      ++bad;
      continue;
    }
    std::memmove(slot.images + static_cast<size_t>(kept) * sample_bytes,
                 slot.images + static_cast<size_t>(position) * sample_bytes, sample_bytes);
    slot.labels[kept] = slot.labels[position];
    slot.indices[kept++] = slot.indices[position];
  }
  return kept;
}

// Tickets from here on are not prepared. An evaluation ends with its data.
int64_t Loader::Implementation::end_ticket() const {
  if (!options.training) return length;
  return origin * length < in_all ? in_all - origin * length : kNoTicket - 1;
}

bool Loader::Implementation::claimable() const {
  const bool room = claim_ticket < std::min(end_ticket(), released + options.prefetch);
  return room && plans.count(epoch_of(claim_ticket)) > 0;
}

// The epoch to be planned now, or -1: from the middle of an epoch on, the next.
int64_t Loader::Implementation::wanted_plan() const {
  if (planning || plan_failure || claim_ticket >= end_ticket()) return -1;
  const int64_t current = epoch_of(claim_ticket);
  if (plans.count(current) == 0) return current;
  const bool past_the_middle = 2 * (claim_ticket % length + 1) >= length;
  const bool has_next = (current + 1 - origin) * length < end_ticket();
  return past_the_middle && has_next && plans.count(current + 1) == 0 ? current + 1 : -1;
}

void Loader::Implementation::prepare_epoch(int64_t wanted, std::unique_lock<std::mutex>& lock) {
  planning = true;
  ++busy;
  lock.unlock();
  std::shared_ptr<const EpochPlan> plan;
  std::exception_ptr error;
  try {
    plan = writer.plan(wanted);
  } catch (...) {
    error = std::current_exception();
  }
  lock.lock();
  --busy;
  planning = false;
  plan_failure = error;
  if (plan) plans.emplace(wanted, plan);
  progress.notify_all();
  work_available.notify_all();
}

Run Loader::Implementation::claim() {
  const int64_t count = samples_in(claim_ticket % length);
  if (claim_sample == 0) slot_of(claim_ticket).begin(count);
  const int64_t end = std::min(claim_sample + run_length, count);
  Run run{claim_ticket, claim_sample, end, plans.at(epoch_of(claim_ticket))};
  claim_sample = end;
  if (end == count) {
    ++claim_ticket;
    claim_sample = 0;
  }
  return run;
}

void Loader::Implementation::work() {
  std::unique_lock<std::mutex> lock(mutex);
  for (;;) {
    work_available.wait(lock, [this] { return stopping || claimable() || wanted_plan() >= 0; });
    if (stopping) return;
    const int64_t wanted = wanted_plan();
    if (wanted >= 0) {
      prepare_epoch(wanted, lock);
      continue;
    }
    const Run run = claim();
    ++busy;
    lock.unlock();
    RunReport report;
    Slot& slot = slot_of(run.ticket);
    writer.write(*run.plan, {run.ticket % length, run.begin, run.end, slot.images, slot.labels, slot.indices},
                 cancelled, report);
    lock.lock();
    --busy;
    slot.report.add(std::move(report));
    slot.remaining -= run.end - run.begin;
    if (slot.remaining == 0 || busy == 0) progress.notify_all();
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

int64_t Loader::images_per_epoch() const {
  return implementation_->image_count();
}

int64_t Loader::image_size() const {
  return implementation_->writer.edge_at(implementation_->epoch);
}

int64_t Loader::buffer_bytes() const {
  return static_cast<int64_t>(implementation_->slot_bytes * implementation_->slots.size());
}

void Loader::set_length(int64_t batches, int64_t in_all) {
  Implementation& loader = *implementation_;
  const std::lock_guard<std::mutex> lock(loader.mutex);
  RIFFLE_CHECK(
      loader.options.training && loader.epoch < 0 && batches >= 1 && batches <= loader.batch_count() && in_all >= 1,
      batches, " of ", loader.batch_count(), " batches an epoch, ", in_all, " in all");
  loader.length = batches;
  loader.in_all = in_all;
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

const std::vector<int64_t>& Loader::truncated_images() const {
  return implementation_->truncated_images;
}

}  // namespace riffle
