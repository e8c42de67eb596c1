// CIFAR-10's binary version: records of a label and 32x32 pixels, all red ones, then green, then blue. Kept in memory.
// https://www.cs.toronto.edu/~kriz/cifar.html
#include <algorithm>
#include <filesystem>
#include <sstream>
#include <utility>

#include "core/check.h"
#include "data/decoders.h"
#include "data/sources.h"

namespace riffle {
namespace {

namespace fs = std::filesystem;

constexpr int kEdge = 32;
constexpr size_t kPlane = kEdge * kEdge, kRecord = 1 + 3 * kPlane;

bool is_file(const std::string& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

class Cifar10 : public Dataset {
 public:
  Cifar10(std::string folder, std::vector<std::string> files, std::vector<std::string> classes, int channels,
          bool numbered)
      : folder_(std::move(folder)),
        files_(std::move(files)),
        classes_(std::move(classes)),
        channels_(channels),
        numbered_(numbered) {
    for (const std::string& file : files_) {
      const std::vector<uint8_t> bytes = read_file(file);
      if (bytes.empty() || bytes.size() % kRecord != 0)
        fail(file, ": ", bytes.size(), " bytes are no whole number of CIFAR-10 records of ", kRecord, " bytes");
      records_.insert(records_.end(), bytes.begin(), bytes.end());
      ends_.push_back(static_cast<int64_t>(records_.size() / kRecord));
    }
    for (int64_t i = 0; i < size(); ++i) {
      if (static_cast<size_t>(label(i)) >= classes_.size())
        fail(name(i), ": label ", label(i), " is out of range: there are ", classes_.size(), " classes");
    }
  }

  int64_t size() const override { return static_cast<int64_t>(records_.size() / kRecord); }
  int channels() const override { return channels_; }
  const std::vector<std::string>& classes() const override { return classes_; }
  int label(int64_t index) const override { return *record(index); }
  bool numbered() const override { return numbered_; }

  std::string name(int64_t index) const override {
    RIFFLE_CHECK(index >= 0 && index < size(), "image ", index, " of ", size());
    const auto file = static_cast<size_t>(std::upper_bound(ends_.begin(), ends_.end(), index) - ends_.begin());
    return join(files_[file], "[", index - (file == 0 ? 0 : ends_[file - 1]), "]");
  }

  Image load(int64_t index) const override {
    Image image(kEdge, kEdge, channels_);
    const uint8_t *red = record(index) + 1, *green = red + kPlane, *blue = green + kPlane;
    for (size_t i = 0; i < kPlane; ++i) {
      if (channels_ == 1) {
        image.pixels[i] = luma(red[i], green[i], blue[i]);
        continue;
      }
      image.pixels[3 * i] = red[i];
      image.pixels[3 * i + 1] = green[i];
      image.pixels[3 * i + 2] = blue[i];
    }
    return image;
  }

  std::string description() const override {
    return join("CIFAR-10 ", folder_, ": ", size(), " images, ", classes_.size(), " classes");
  }

 private:
  const uint8_t* record(int64_t index) const {
    RIFFLE_CHECK(index >= 0 && index < size(), "image ", index, " of ", size());
    return records_.data() + static_cast<size_t>(index) * kRecord;
  }

  std::string folder_;
  std::vector<std::string> files_, classes_;
  std::vector<uint8_t> records_;
  std::vector<int64_t> ends_;  // index after each file's last image
  int channels_;
  bool numbered_;
};

std::vector<std::string> read_names(const std::string& path) {
  if (!is_file(path)) return number_names(10);
  const std::vector<uint8_t> bytes = read_file(path);
  std::istringstream in(std::string(bytes.begin(), bytes.end()));
  std::vector<std::string> names;
  for (std::string name; in >> name;) names.push_back(name);
  return names;
}

}  // namespace

bool is_cifar10_folder(const std::string& folder) {
  return is_file(folder + "/data_batch_1.bin") || is_file(folder + "/test_batch.bin");
}

std::unique_ptr<Dataset> open_cifar10(const std::string& folder, const Split& split, int channels,
                                      const std::vector<std::string>& classes) {
  RIFFLE_CHECK(channels == 1 || channels == 3, folder, " asked for with ", channels, " channels");
  std::vector<std::string> files;
  if (split.training()) {
    for (int batch = 1; batch <= 5; ++batch) files.push_back(join(folder, "/data_batch_", batch, ".bin"));
  } else {
    files.push_back(folder + "/test_batch.bin");
  }
  for (const std::string& file : files) {
    if (!is_file(file))
      fail(file, ": no such file; CIFAR-10's binary version has data_batch_{1..5}.bin and test_batch.bin");
  }
  const std::string names = folder + "/batches.meta.txt";
  const bool numbered = classes.empty() && !is_file(names);
  return std::make_unique<Cifar10>(folder, std::move(files), classes.empty() ? read_names(names) : classes, channels,
                                   numbered);
}

}  // namespace riffle
