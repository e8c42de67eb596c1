// Reads TensorBoard's event files for the tests, with a decoder that shares nothing with the writer but the checksum.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "checkpoint_files.h"
#include "train/checkpoint/crc32c.h"
#include "train/checkpoint/protobuf_fields.h"

namespace riffle {

struct ReadHistogram {
  double min = 0, max = 0, num = 0, sum = 0, sum_squares = 0;
  std::vector<double> limits, counts;
};

struct ReadEvent {
  double wall_time = 0;
  int64_t step = 0;
  std::string file_version;
  int session_status = -1;  // -1: no SessionLog
  std::map<std::string, float> scalars;
  std::map<std::string, std::string> images;  // encoded
  std::map<std::string, ReadHistogram> histograms;
};

inline double as_double(uint64_t bits) {
  double value = 0;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

inline float as_float(uint64_t bits) {
  const auto low = static_cast<uint32_t>(bits);
  float value = 0;
  std::memcpy(&value, &low, sizeof(value));
  return value;
}

inline std::vector<double> packed_doubles(std::string_view bytes) {
  std::vector<double> values(bytes.size() / sizeof(double));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(double));
  return values;
}

inline ReadHistogram read_histogram(std::string_view message) {
  const std::string what = "a HistogramProto";
  ReadHistogram histogram;
  double* const numbers[] = {&histogram.min, &histogram.max, &histogram.num, &histogram.sum, &histogram.sum_squares};
  ProtobufFields fields(message, what);
  for (ProtobufField field; fields.next(field);) {
    if (field.number <= 5) *numbers[field.number - 1] = as_double(fields.number());
    if (field.number == 6) histogram.limits = packed_doubles(fields.bytes());
    if (field.number == 7) histogram.counts = packed_doubles(fields.bytes());
  }
  return histogram;
}

inline std::string read_image(std::string_view message) {
  const std::string what = "an Image";
  std::string encoded;
  ProtobufFields fields(message, what);
  for (ProtobufField field; fields.next(field);)
    if (field.number == 4) encoded = fields.bytes();
  return encoded;
}

inline void read_value(std::string_view message, ReadEvent& event) {
  const std::string what = "a Summary.Value";
  std::string tag;
  ProtobufFields fields(message, what);
  for (ProtobufField field; fields.next(field);) {
    if (field.number == 1) tag = fields.bytes();
    if (field.number == 2) event.scalars[tag] = as_float(fields.number());
    if (field.number == 4) event.images[tag] = read_image(fields.bytes());
    if (field.number == 5) event.histograms[tag] = read_histogram(fields.bytes());
  }
}

inline ReadEvent read_event(std::string_view message) {
  const std::string what = "an Event";
  ReadEvent event;
  ProtobufFields fields(message, what);
  for (ProtobufField field; fields.next(field);) {
    if (field.number == 1) event.wall_time = as_double(fields.number());
    if (field.number == 2) event.step = static_cast<int64_t>(fields.number());
    if (field.number == 3) event.file_version = fields.bytes();
    if (field.number == 5) {
      ProtobufFields values(fields.bytes(), what);
      for (ProtobufField value; values.next(value);) read_value(values.bytes(), event);
    }
    if (field.number == 7) {
      ProtobufFields status(fields.bytes(), what);
      for (ProtobufField value; status.next(value);) event.session_status = static_cast<int>(status.number());
    }
  }
  return event;
}

// Whole records only: of a file that ends early, those before its end.
inline std::vector<ReadEvent> read_events(const std::string& bytes) {
  constexpr size_t kHeader = 12, kFooter = 4;
  std::vector<ReadEvent> events;
  const auto checksum_at = [&](size_t at) {
    uint32_t stored = 0;
    std::memcpy(&stored, bytes.data() + at, sizeof(stored));
    return stored;
  };
  for (size_t at = 0; at + kHeader + kFooter <= bytes.size();) {
    uint64_t length = 0;
    std::memcpy(&length, bytes.data() + at, sizeof(length));
    EXPECT_EQ(checksum_at(at + 8), masked_crc32c(crc32c({bytes.data() + at, 8}))) << "of a length, at byte " << at;
    if (length > bytes.size() - at - kHeader - kFooter) break;
    const std::string_view message(bytes.data() + at + kHeader, length);
    EXPECT_EQ(checksum_at(at + kHeader + length), masked_crc32c(crc32c(message))) << "of a message, at byte " << at;
    events.push_back(read_event(message));
    at += kHeader + length + kFooter;
  }
  return events;
}

// Paths of the event files in a folder, in TensorBoard's order.
inline std::vector<std::string> event_files(const std::string& folder) {
  std::vector<std::string> paths;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (entry.path().filename().string().find("tfevents") != std::string::npos) paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  return paths;
}

}  // namespace riffle
