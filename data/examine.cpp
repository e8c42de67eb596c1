// Every image is decoded once, by several threads; results are kept by index, so that their order is always the same.
#include "data/examine.h"

#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <mutex>
#include <tuple>

#include "core/check.h"
#include "data/parallel_indices.h"
#include "data/probe.h"

namespace riffle {
namespace {

// Two hashes and the size: images that agree in all are taken for equal.
using ContentKey = std::tuple<uint64_t, uint64_t, uint32_t>;

ContentKey content_key(const uint8_t* bytes, size_t size) {
  uint64_t hash = 0xcbf29ce484222325;  // FNV-1a
  for (size_t i = 0; i < size; ++i) hash = (hash ^ bytes[i]) * 0x100000001b3;
  return {size, hash, static_cast<uint32_t>(::crc32_z(0, bytes, size))};
}

bool has_png_name(const std::string& name) {
  std::string extension = std::filesystem::path(name).extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return extension == ".png";
}

// Why an image that decodes is unlike the rest; "" where it is not.
std::string oddness(const ImageProbe& probe, const Image& image, const std::string& name) {
  constexpr int kTiny = 16, kLongAndThin = 20;
  const bool png = probe.format == ImageProbe::Format::kPng;
  std::vector<std::string> reasons;
  if (png != has_png_name(name)) reasons.emplace_back(png ? "PNG, but not named .png" : "JPEG, but named .png");
  if (!png && probe.components == 4) reasons.emplace_back("CMYK or YCCK");
  if (png && (probe.components == 2 || probe.components == 4)) reasons.emplace_back("has an alpha channel");
  if (probe.palette) reasons.emplace_back("has a palette");
  if (probe.bits == 16) reasons.emplace_back("16 bits a component");
  const int shorter = std::min(image.height, image.width), longer = std::max(image.height, image.width);
  if (shorter < kTiny) reasons.push_back(join("only ", image.width, "x", image.height, " pixels"));
  if (longer / shorter >= kLongAndThin) reasons.push_back(join("very long: ", image.width, "x", image.height));
  std::string text;
  for (const std::string& reason : reasons) text += (text.empty() ? "" : "; ") + reason;
  return text;
}

// Counts finished images and tells the caller, one thread at a time.
class Counter {
 public:
  explicit Counter(const ExamineOptions& options) : options_(options) {}
  void one_more() {
    const std::lock_guard<std::mutex> lock(mutex_);
    ++done_;
    if (options_.progress) options_.progress(done_);
  }

 private:
  const ExamineOptions& options_;
  std::mutex mutex_;
  int64_t done_ = 0;
};

struct Examined {
  bool bad = false, truncated = false;
  std::string what;  // why it is bad, truncated or odd
  ImageProbe probe;
  ContentKey key;
};

Examined examine(const Dataset& data, int64_t index) {
  Examined result;
  try {
    const EncodedImage bytes = data.encoded(index);
    if (!bytes) {
      const Image image = data.load(index);
      result.key = content_key(image.pixels.data(), image.pixels.size());
      return result;
    }
    result.key = content_key(bytes->data(), bytes->size());
    result.probe = probe_image(bytes->data(), bytes->size());
    const std::string name = data.name_in_errors(index);
    const Image image = decode_image(bytes->data(), bytes->size(), name, data.channels(), TruncatedImages::kAccept);
    result.truncated = image.truncated;
    result.what = image.truncated ? join(name, ": the file ends too early, after ", bytes->size(), " bytes")
                                  : oddness(result.probe, image, data.name(index));
  } catch (const Error& error) {
    result.bad = true;
    result.what = error.what();
  }
  return result;
}

Range range_of(std::vector<int64_t> values) {
  std::sort(values.begin(), values.end());
  return {values.front(), values[values.size() / 2], values.back()};
}

struct Measured {
  int height = 0, width = 0;
  int64_t bytes = 0;
  std::array<double, 3> mean{}, mean_of_squares{};
};

Measured measure(const Dataset& data, int64_t index) {
  const EncodedImage bytes = data.encoded(index);
  const Image image = bytes ? decode_image(bytes->data(), bytes->size(), data.name_in_errors(index), data.channels(),
                                           data.truncated_images())
                            : data.load(index);
  Measured result;
  result.height = image.height;
  result.width = image.width;
  result.bytes = bytes ? static_cast<int64_t>(bytes->size()) : 0;
  const auto channels = static_cast<size_t>(image.channels);
  std::array<uint64_t, 3> sum{}, squares{};  // exact: at most 2^28 pixels of 2^16
  for (size_t i = 0; i < image.pixels.size(); i += channels) {
    for (size_t c = 0; c < channels; ++c) {
      const uint64_t value = image.pixels[i + c];
      sum[c] += value;
      squares[c] += value * value;
    }
  }
  const size_t count = image.pixels.size() / channels;
  const auto pixels = static_cast<double>(count);
  for (size_t c = 0; c < channels; ++c) {
    result.mean[c] = static_cast<double>(sum[c]) / (255 * pixels);
    result.mean_of_squares[c] = static_cast<double>(squares[c]) / (255.0 * 255 * pixels);
  }
  return result;
}

}  // namespace

VerifyReport verify(const Dataset& data, const ExamineOptions& options) {
  std::vector<Examined> all(static_cast<size_t>(data.size()));
  Counter counter(options);
  parallel_indices(data.size(), options.threads, [&](int64_t index) {
    all[static_cast<size_t>(index)] = examine(data, index);
    counter.one_more();
  });
  VerifyReport report;
  report.images = data.size();
  std::map<ContentKey, std::vector<int64_t>> by_content;
  for (int64_t index = 0; index < data.size(); ++index) {
    const Examined& image = all[static_cast<size_t>(index)];
    std::vector<Finding>& findings = image.bad ? report.bad : image.truncated ? report.truncated : report.odd;
    if (!image.what.empty()) findings.push_back({index, data.name(index), image.what});
    report.jpeg += image.probe.format == ImageProbe::Format::kJpeg ? 1 : 0;
    report.png += image.probe.format == ImageProbe::Format::kPng ? 1 : 0;
    report.gray += image.probe.components == 1 ? 1 : 0;
    report.progressive += image.probe.progressive ? 1 : 0;
    if (!image.bad) by_content[image.key].push_back(index);
  }
  for (auto& [key, indices] : by_content) {
    if (indices.size() < 2) continue;
    const int label = data.label(indices.front());
    const bool same_label =
        std::all_of(indices.begin(), indices.end(), [&](int64_t index) { return data.label(index) == label; });
    report.duplicates_across_classes += same_label ? 0 : 1;
    report.duplicates.push_back(std::move(indices));
  }
  std::sort(report.duplicates.begin(), report.duplicates.end());
  return report;
}

StatsReport statistics(const Dataset& data, const ExamineOptions& options) {
  if (data.size() == 0) fail(data.description(), ": there are no images");
  std::vector<Measured> all(static_cast<size_t>(data.size()));
  Counter counter(options);
  parallel_indices(data.size(), options.threads, [&](int64_t index) {
    all[static_cast<size_t>(index)] = measure(data, index);
    counter.one_more();
  });
  StatsReport report;
  report.images = data.size();
  report.per_class.resize(data.classes().size());
  const auto channels = static_cast<size_t>(data.channels());
  std::vector<double> squares(channels);
  report.mean.resize(channels);
  report.std.resize(channels);
  std::vector<int64_t> widths, heights, short_edges;
  for (int64_t index = 0; index < data.size(); ++index) {
    const Measured& image = all[static_cast<size_t>(index)];
    ++report.per_class[static_cast<size_t>(data.label(index))];
    widths.push_back(image.width);
    heights.push_back(image.height);
    short_edges.push_back(std::min(image.width, image.height));
    report.encoded_bytes += image.bytes;
    for (size_t c = 0; c < channels; ++c) {
      report.mean[c] += image.mean[c] / static_cast<double>(data.size());
      squares[c] += image.mean_of_squares[c] / static_cast<double>(data.size());
    }
  }
  for (size_t c = 0; c < channels; ++c)
    report.std[c] = std::sqrt(std::max(0.0, squares[c] - report.mean[c] * report.mean[c]));
  report.width = range_of(std::move(widths));
  report.height = range_of(std::move(heights));
  report.short_edge = range_of(std::move(short_edges));
  return report;
}

}  // namespace riffle
