// A long run in the small: many steps, with evaluations, checkpoints, averages and logs, hold no more memory, open files
// or threads at the end than after their beginning.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "core/cpu/cpu_backend.h"
#include "tiny_data.h"
#include "train/config_reader.h"
#include "train/trainer.h"

namespace riffle {
namespace {

// The address sanitizer keeps freed memory for a while and reserves terabytes of addresses.
#ifdef __SANITIZE_ADDRESS__
constexpr bool kMeasuresMemory = false;
constexpr int64_t kSteps = 2'000;
#else
constexpr bool kMeasuresMemory = true;
constexpr int64_t kSteps = 20'000;
#endif
constexpr int64_t kSampledEvery = kSteps / 400, kWarmUp = kSteps / 5;

struct Holdings {
  int64_t step = 0;
  int64_t resident_kib = 0, address_space_kib = 0, threads = 0, descriptors = 0;
};

Holdings holdings_at(int64_t step) {
  Holdings holdings;
  holdings.step = step;
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    std::istringstream words(line);
    std::string key;
    int64_t value = 0;
    words >> key >> value;
    if (key == "VmRSS:") holdings.resident_kib = value;
    if (key == "VmSize:") holdings.address_space_kib = value;
    if (key == "Threads:") holdings.threads = value;
  }
  const std::filesystem::directory_iterator descriptors("/proc/self/fd");
  holdings.descriptors = std::distance(begin(descriptors), end(descriptors));
  return holdings;
}

// While it lives, what the process asks for beyond `kib` more than it has is refused.
class AddressSpaceLimit {
 public:
  explicit AddressSpaceLimit(int64_t kib) {
    getrlimit(RLIMIT_AS, &before_);
    rlimit limit = before_;
    limit.rlim_cur = 1024 * static_cast<rlim_t>(holdings_at(0).address_space_kib + kib);
    EXPECT_EQ(setrlimit(RLIMIT_AS, &limit), 0);
  }
  AddressSpaceLimit(const AddressSpaceLimit&) = delete;
  AddressSpaceLimit& operator=(const AddressSpaceLimit&) = delete;
  ~AddressSpaceLimit() { setrlimit(RLIMIT_AS, &before_); }

 private:
  rlimit before_{};
};

// The least of a span of steps: a checkpoint that is being written has a file open.
int64_t least(const std::vector<Holdings>& samples, int64_t Holdings::*what, int64_t from, int64_t to) {
  int64_t value = INT64_MAX;
  for (const Holdings& sample : samples)
    if (sample.step >= from && sample.step < to) value = std::min(value, sample.*what);
  return value;
}

std::vector<Holdings> train_and_sample(const std::string& folder) {
  const Config config =
      parse_config(tiny_config("idx:" + folder + "/idx", 1) + "ema: {decay: 0.99}\n", "soak",
                   {join("train.duration=", kSteps, "it"), "model.stage_channels=[8, 8, 8]",
                    "model.stage_repeats=[1, 1, 1]", "model.head_channels=8", "augment.size=16", "eval.crop=16",
                    "train.log_every_steps=100", "eval.every_epochs=1", "checkpoint.every=200it",
                    "data.loader_threads=2", "augment.mixup=0.2", "augment.cutmix=1", "log.histograms=none"});
  const auto backend = make_cpu_backend(2);
  const TrainData data = open_train_data(config);
  std::ostringstream out;
  Progress progress(out, Progress::Style::kPlain, false);
  Trainer trainer(*backend, config, data, 2, progress);
  const RunFolder run_folder(folder + "/run", false);
  std::unique_ptr<AddressSpaceLimit> limit;
  std::vector<Holdings> samples;
  const auto sample = [&] {
    if (trainer.finished_steps() % kSampledEvery == 0) samples.push_back(holdings_at(trainer.finished_steps()));
    if (kMeasuresMemory && !limit && trainer.finished_steps() == kWarmUp)
      limit = std::make_unique<AddressSpaceLimit>(/*kib=*/4096);
    return false;
  };
  EXPECT_TRUE(trainer.run(run_folder, sample)) << out.str();
  return samples;
}

TEST(Soak, ALongRunHoldsNoMoreThanAShortOne) {
  const TemporaryFolder folder;
  const std::string data = folder.path() + "/idx";
  write_idx(data, "train", 4000, 16, 1);
  write_idx(data, "t10k", 22, 16, 2);
  const std::vector<Holdings> samples = train_and_sample(folder.path());
  ASSERT_GE(samples.size(), 400u);
  const auto growth = [&](int64_t Holdings::*what) {
    return least(samples, what, kSteps - kWarmUp, kSteps + 1) - least(samples, what, kWarmUp, 2 * kWarmUp);
  };
  EXPECT_EQ(growth(&Holdings::descriptors), 0);
  EXPECT_EQ(growth(&Holdings::threads), 0);
  // 12,000 steps lie between. By design only the curves grow, by 32 bytes a log line; the rest is malloc's.
  if (kMeasuresMemory) {
    EXPECT_LE(growth(&Holdings::resident_kib), 512) << "44 bytes a step";
  }
}

}  // namespace
}  // namespace riffle
