// TensorBoard event files: TFRecord frames, each a message Event of event.proto.
#include "train/tensorboard/event_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "core/check.h"
#include "train/checkpoint/crc32c.h"
#include "train/tensorboard/event.pb.h"

namespace riffle {
namespace {

namespace fs = std::filesystem;

const char* const kPrefix = "events.out.tfevents.";
const char* const kFileVersion = "brain.Event:2";
constexpr int kNameAttempts = 100;

double wall_time() {
  const auto since_1970 = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration<double>(since_1970).count();
}

tensorboard::Event event_at(int64_t step) {
  tensorboard::Event event;
  event.set_wall_time(wall_time());
  event.set_step(step);
  return event;
}

std::string host_name() {
  std::array<char, 256> name{};
  if (gethostname(name.data(), name.size() - 1) != 0 || name[0] == '\0') return "localhost";
  return name.data();
}

// The latest time in the names of event files there, or 0.
int64_t latest_stamp(const std::string& folder) {
  int64_t latest = 0;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (!is_event_file(name)) continue;
    latest = std::max<int64_t>(latest, std::strtoll(name.c_str() + std::string(kPrefix).size(), nullptr, 10));
  }
  return latest;
}

// Ten digits, so that the order of names is that of times.
std::string name_of(int64_t stamp) {
  std::array<char, 32> digits{};
  std::snprintf(digits.data(), digits.size(), "%010lld", static_cast<long long>(stamp));
  return kPrefix + std::string(digits.data()) + "." + host_name();
}

int create_file(const std::string& folder, std::string& path) {
  int64_t stamp = std::max(static_cast<int64_t>(wall_time()), latest_stamp(folder) + 1);
  for (int attempt = 0; attempt < kNameAttempts; ++attempt, ++stamp) {
    path = folder + "/" + name_of(stamp);
    const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0 || errno != EEXIST) return fd;
  }
  return -1;
}

template <class Number>
void append_little_endian(Number value, std::string& out) {
  for (size_t i = 0; i < sizeof(Number); ++i) out += static_cast<char>(value >> (8 * i) & 0xff);
}

}  // namespace

bool is_event_file(const std::string& name) {
  return name.rfind(kPrefix, 0) == 0;
}

EventWriter::EventWriter(const std::string& folder, int64_t first_step) : fd_(create_file(folder, path_)) {
  if (!fd_.valid()) fail("cannot create ", path_, ": ", std::generic_category().message(errno));
  tensorboard::Event version = event_at(0);
  version.set_file_version(kFileVersion);
  add_record(version.SerializeAsString());
  tensorboard::Event start = event_at(first_step);
  start.mutable_session_log()->set_status(tensorboard::SessionLog::START);
  add_record(start.SerializeAsString());
  flush();
}

void EventWriter::scalars(int64_t step, const std::vector<std::pair<std::string, double>>& values) {
  tensorboard::Event event = event_at(step);
  for (const auto& [tag, number] : values) {
    tensorboard::Summary::Value& value = *event.mutable_summary()->add_value();
    value.set_tag(tag);
    value.set_simple_value(static_cast<float>(number));
  }
  add_record(event.SerializeAsString());
}

void EventWriter::histograms(int64_t step, const std::vector<std::pair<std::string, Histogram>>& values) {
  tensorboard::Event event = event_at(step);
  for (const auto& [tag, histogram] : values) {
    tensorboard::Summary::Value& value = *event.mutable_summary()->add_value();
    value.set_tag(tag);
    tensorboard::HistogramProto& message = *value.mutable_histo();
    message.set_min(histogram.min);
    message.set_max(histogram.max);
    message.set_num(histogram.count);
    message.set_sum(histogram.sum);
    message.set_sum_squares(histogram.sum_squares);
    message.mutable_bucket_limit()->Add(histogram.limits.begin(), histogram.limits.end());
    message.mutable_bucket()->Add(histogram.counts.begin(), histogram.counts.end());
  }
  add_record(event.SerializeAsString());
}

void EventWriter::image(int64_t step, const std::string& tag, int width, int height, int channels,
                        const std::vector<uint8_t>& png) {
  tensorboard::Event event = event_at(step);
  tensorboard::Summary::Value& value = *event.mutable_summary()->add_value();
  value.set_tag(tag);
  value.mutable_image()->set_height(height);
  value.mutable_image()->set_width(width);
  value.mutable_image()->set_colorspace(channels);
  value.mutable_image()->set_encoded_image_string(png.data(), png.size());
  add_record(event.SerializeAsString());
}

// Length, its checksum, message, its checksum.
void EventWriter::add_record(const std::string& message) {
  std::string length;
  append_little_endian(static_cast<uint64_t>(message.size()), length);
  pending_ += length;
  append_little_endian(masked_crc32c(crc32c(length)), pending_);
  pending_ += message;
  append_little_endian(masked_crc32c(crc32c(message)), pending_);
}

void EventWriter::flush() {
  append_to_file(fd_, size_, pending_, path_);
  size_ += static_cast<int64_t>(pending_.size());
  pending_.clear();
}

}  // namespace riffle
