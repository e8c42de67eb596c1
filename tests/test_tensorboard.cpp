// TensorBoard's event files: frames, messages, histograms, restarts and truncation; and files for the real package.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <limits>
#include <numeric>

#include "checkpoint_files.h"
#include "data/encode.h"
#include "event_files.h"
#include "file_size_limit.h"
#include "train/tensorboard/event_writer.h"

namespace riffle {
namespace {

TEST(Histogram, CountsEveryValueBetweenItsLimits) {
  const std::vector<float> values{0, 0, 1e-13f, -1e-13f, 0.5f, -0.5f, 3, 1e30f, -1e30f, -2, 0.5f};
  const Histogram histogram = histogram_of(values);
  EXPECT_EQ(histogram.count, 11);
  EXPECT_EQ(histogram.min, -1e30f);
  EXPECT_EQ(histogram.max, 1e30f);
  EXPECT_EQ(histogram.not_finite, 0);
  ASSERT_EQ(histogram.limits.size(), histogram.counts.size());
  EXPECT_EQ(std::accumulate(histogram.counts.begin(), histogram.counts.end(), 0.0), 11);
  for (size_t i = 0; i < histogram.limits.size(); ++i) {
    const double lower = i == 0 ? -std::numeric_limits<double>::infinity() : histogram.limits[i - 1];
    EXPECT_LT(lower, histogram.limits[i]);
    const auto inside = std::count_if(values.begin(), values.end(), [&](float value) {
      return static_cast<double>(value) >= lower && static_cast<double>(value) < histogram.limits[i];
    });
    EXPECT_EQ(static_cast<double>(inside), histogram.counts[i]) << "below " << histogram.limits[i];
    const bool repeated = i > 0 && histogram.counts[i] == 0 && histogram.counts[i - 1] == 0;
    EXPECT_FALSE(repeated) << "two empty buckets in a row, below " << histogram.limits[i];
  }
}

TEST(Histogram, LimitsGrowByATenth) {
  std::vector<float> values(400);
  for (size_t i = 0; i < values.size(); ++i) values[i] = std::exp(-10.0f + 0.02f * static_cast<float>(i));
  const Histogram histogram = histogram_of(values);
  for (size_t i = 1; i + 1 < histogram.limits.size(); ++i)
    EXPECT_NEAR(histogram.limits[i] / histogram.limits[i - 1], 1.1, 1e-12);
}

TEST(Histogram, LeavesOutWhatIsNotFinite) {
  const float infinity = std::numeric_limits<float>::infinity();
  const Histogram histogram = histogram_of({1, NAN, infinity, -infinity, 3});
  EXPECT_EQ(histogram.count, 2);
  EXPECT_EQ(histogram.not_finite, 3);
  EXPECT_EQ(histogram.sum, 4);
  EXPECT_EQ(histogram.sum_squares, 10);
  EXPECT_EQ(histogram_of({NAN}).min, 0);
  EXPECT_EQ(histogram_of({}).count, 0);
}

TEST(Histogram, Scales) {
  const Histogram histogram = histogram_of({2, -4}, 0.5);
  EXPECT_EQ(histogram.min, -2);
  EXPECT_EQ(histogram.max, 1);
}

Image gradient_image() {
  Image image(4, 6, 3);
  for (size_t i = 0; i < image.pixels.size(); ++i) image.pixels[i] = static_cast<uint8_t>(3 * i);
  return image;
}

// Two scalars, a histogram and an image.
void write_some(EventWriter& writer) {
  const Image image = gradient_image();
  writer.scalars(7, {{"train/loss", 0.5}, {"val/top1", 0.25}});
  writer.histograms(8, {{"weights/fc", histogram_of({-1, 0, 0, 2})}});
  writer.image(9, "train/images", image.width, image.height, image.channels, encode_png(image));
  writer.flush();
}

TEST(EventWriter, WritesWhatAnIndependentDecoderReads) {
  const TemporaryFolder folder;
  EventWriter writer(folder.path(), 0);
  write_some(writer);
  EXPECT_TRUE(is_event_file(std::filesystem::path(writer.path()).filename().string()));
  const std::vector<ReadEvent> events = read_events(file_bytes(writer.path()));
  ASSERT_EQ(events.size(), 5u);
  EXPECT_EQ(events[0].file_version, "brain.Event:2");
  EXPECT_GT(events[0].wall_time, 1.7e9);
  EXPECT_EQ(events[1].session_status, 1);  // START
  EXPECT_EQ(events[1].step, 0);
  EXPECT_EQ(events[2].step, 7);
  EXPECT_EQ(events[2].scalars, (std::map<std::string, float>{{"train/loss", 0.5f}, {"val/top1", 0.25f}}));
  EXPECT_EQ(events[3].step, 8);
  const ReadHistogram& histogram = events[3].histograms.at("weights/fc");
  EXPECT_EQ(histogram.min, -1);
  EXPECT_EQ(histogram.max, 2);
  EXPECT_EQ(histogram.num, 4);
  EXPECT_EQ(histogram.sum, 1);
  EXPECT_EQ(histogram.sum_squares, 5);
  EXPECT_EQ(histogram.limits.size(), histogram.counts.size());
  EXPECT_EQ(std::accumulate(histogram.counts.begin(), histogram.counts.end(), 0.0), 4);
  const std::string& png = events[4].images.at("train/images");
  const Image decoded = decode_image(reinterpret_cast<const uint8_t*>(png.data()), png.size(), "the image", 3);
  EXPECT_EQ(decoded.pixels, gradient_image().pixels);
}

TEST(EventWriter, NothingIsLostBeforeTheLastFlush) {
  const TemporaryFolder folder;
  EventWriter writer(folder.path(), 0);
  writer.scalars(1, {{"loss", 1}});
  writer.flush();
  writer.scalars(2, {{"loss", 2}});  // as a killed run would leave it
  EXPECT_EQ(read_events(file_bytes(writer.path())).back().step, 1);
  writer.flush();
  EXPECT_EQ(read_events(file_bytes(writer.path())).back().step, 2);
}

TEST(EventWriter, TruncatedFilesAreReadableUpToTheirEnd) {
  const TemporaryFolder folder;
  EventWriter writer(folder.path(), 0);
  write_some(writer);
  const std::string whole = file_bytes(writer.path());
  size_t before = 0;
  for (size_t size = 0; size <= whole.size(); ++size) {
    const size_t events = read_events(whole.substr(0, size)).size();
    EXPECT_GE(events, before) << "of the first " << size << " bytes";
    before = events;
  }
  EXPECT_EQ(before, 5u);
}

TEST(EventWriter, AResumedRunsFileComesLaterAndNamesItsFirstStep) {
  const TemporaryFolder folder;
  EventWriter first(folder.path(), 0);
  EventWriter second(folder.path(), 11);
  EventWriter third(folder.path(), 21);
  EXPECT_EQ(event_files(folder.path()), (std::vector<std::string>{first.path(), second.path(), third.path()}));
  const std::vector<ReadEvent> events = read_events(file_bytes(second.path()));
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[1].session_status, 1);
  EXPECT_EQ(events[1].step, 11);
}

TEST(EventWriter, SaysWhatItCannotWrite) {
  const TemporaryFolder folder;
  const std::string missing = folder.file("absent");
  EXPECT_THROW(EventWriter(missing, 0), std::exception);

  EventWriter writer(folder.path(), 0);
  writer.scalars(1, {{"loss", 1}});
  writer.flush();
  const std::string before = file_bytes(writer.path());
  writer.scalars(2, {{"loss", 2}});
  std::string message;
  {
    const FileSizeLimit full(before.size() + 10);
    message = message_of([&] { writer.flush(); });
  }
  EXPECT_NE(message.find("cannot write " + writer.path() + ": File too large"), std::string::npos) << message;
  EXPECT_EQ(file_bytes(writer.path()), before);
  writer.flush();
  EXPECT_EQ(read_events(file_bytes(writer.path())).back().step, 2);
}

// --- for the real package: see check_tensorboard_python.sh ---

TEST(TensorBoardPython, WritesForPython) {
  const char* folder = std::getenv("RIFFLE_TENSORBOARD_EXCHANGE");
  if (folder == nullptr) GTEST_SKIP() << "run by check_tensorboard_python.sh";
  EventWriter first(folder, 0);
  for (int64_t step = 1; step <= 20; ++step) first.scalars(step, {{"train/loss", 100.0 + static_cast<double>(step)}});
  write_some(first);
  EventWriter resumed(folder, 11);
  for (int64_t step = 11; step <= 15; ++step) resumed.scalars(step, {{"train/loss", static_cast<double>(step)}});
  resumed.histograms(15, {{"weights/fc", histogram_of({-1, 0, 0, 2})}});
  resumed.scalars(16, {{"train/loss", 16}});
  resumed.flush();
  std::filesystem::resize_file(resumed.path(), std::filesystem::file_size(resumed.path()) - 3);  // step 16 is cut
}

}  // namespace
}  // namespace riffle
