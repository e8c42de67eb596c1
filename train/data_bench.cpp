// Timing of the stages of a training image: see data_bench.h.
#include "train/data_bench.h"

#include <algorithm>
#include <cstring>
#include <ctime>
#include <vector>

#include "data/decoders.h"
#include "data/training_image.h"
#include "train/stopwatch.h"

namespace riffle {
namespace {

double seconds_of(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// Adds the time since the last call to a stage.
class Laps {
 public:
  explicit Laps(clockid_t clock) : clock_(clock), last_(seconds_of(clock)) {}
  void end(double& stage) {
    const double now = seconds_of(clock_);
    stage += now - last_;
    last_ = now;
  }

 private:
  clockid_t clock_;
  double last_;
};

// The images of epoch 0, epoch 1, ... in the loader's order.
struct Order {
  const Dataset& data;
  uint64_t seed;
  std::vector<int64_t> indices;

  int64_t at(int64_t position) {
    if (position % data.size() == 0)
      indices = random_permutation(data.size(), seed, RandomPurpose::kShuffleEpoch,
                                   static_cast<uint64_t>(position / data.size()));
    return indices[static_cast<size_t>(position % data.size())];
  }
};

void time_image(TrainingImage& image, const std::function<void(const uint8_t*)>& normalise, std::vector<uint8_t>& slot,
                StageSeconds& seconds) {
  Laps wall(CLOCK_MONOTONIC);
  image.read();
  wall.end(seconds.read);
  Laps cpu(CLOCK_THREAD_CPUTIME_ID);
  image.decode();
  cpu.end(seconds.decode);
  image.resample();
  cpu.end(seconds.resample);
  const Image pixels = image.augment();
  cpu.end(seconds.augment);
  slot.resize(pixels.pixels.size());
  std::memcpy(slot.data(), pixels.pixels.data(), slot.size());
  cpu.end(seconds.copy);
  normalise(slot.data());
  cpu.end(seconds.normalise);
}

void time_full_decoding(const Dataset& data, int64_t index, double& seconds) {
  const EncodedImage bytes = data.encoded(index);
  Laps cpu(CLOCK_THREAD_CPUTIME_ID);
  const std::string name = data.name_in_errors(index);
  if (bytes && is_jpeg(bytes->data(), bytes->size())) {
    decode_jpeg(bytes->data(), bytes->size(), name, data.channels(), data.truncated_images(),
                HuffmanDecoder::kLibjpegs);
  } else if (bytes) {
    decode_image(bytes->data(), bytes->size(), name, data.channels(), data.truncated_images());
  }
  cpu.end(seconds);
}

}  // namespace

StageSeconds time_stages(const Dataset& data, const LoaderOptions& options, int64_t images,
                         const std::function<void(const uint8_t* pixels)>& normalise,
                         const std::function<void(int64_t done)>& progress) {
  Order order{data, options.seed, {}};
  for (int64_t i = 0; i < std::min(images, data.size()); ++i) data.encoded(order.at(i));
  StageSeconds seconds;
  std::vector<uint8_t> slot;
  for (int64_t i = 0; i < images; ++i) {
    const int64_t index = order.at(i);
    const RandomStream random(options.seed, RandomPurpose::kAugment, static_cast<uint64_t>(i / data.size()),
                              static_cast<uint64_t>(index));
    TrainingImage image(data, index, options.train_transform, random);
    time_image(image, normalise, slot, seconds);
    time_full_decoding(data, index, seconds.full_decode);
    progress(i + 1);
  }
  return seconds;
}

LoaderRate time_loader(const Dataset& data, const LoaderOptions& options, int64_t& images) {
  Loader loader(data, options);
  Batch batch;
  int64_t epoch = 0;
  const auto next = [&] {
    while (!loader.next(batch)) loader.start_epoch(++epoch);
  };
  loader.start_epoch(epoch);
  for (int i = 0; i < options.prefetch; ++i) next();  // until every slot is in use
  const int64_t wanted = images;
  images = 0;
  const Stopwatch clock;
  Laps cpu(CLOCK_PROCESS_CPUTIME_ID);
  LoaderRate rate;
  while (images < wanted) {
    next();
    images += batch.count;
  }
  cpu.end(rate.cpu_seconds);
  rate.seconds = clock.seconds();
  return rate;
}

}  // namespace riffle
