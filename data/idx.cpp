// IDX, the format of MNIST and its descendants: a big-endian header (0, 0, type, number of dimensions, dimensions) and
// the values. Small enough to be kept decoded in memory.
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "core/check.h"
#include "data/dataset.h"

namespace riffle {
namespace {

// The whole of a file; what gzip compressed comes uncompressed (zlib passes other files through).
std::vector<uint8_t> read_maybe_gzip(const std::string& path) {
  errno = 0;
  const std::unique_ptr<gzFile_s, int (*)(gzFile)> file(gzopen(path.c_str(), "rb"), gzclose);
  if (!file) fail(path, ": cannot open the file: ", errno != 0 ? std::strerror(errno) : "out of memory");
  constexpr unsigned kChunk = 1 << 20;
  std::vector<uint8_t> bytes;
  for (;;) {
    const size_t before = bytes.size();
    bytes.resize(before + kChunk);
    const int got = gzread(file.get(), bytes.data() + before, kChunk);
    bytes.resize(before + static_cast<size_t>(std::max(got, 0)));
    if (got == static_cast<int>(kChunk)) continue;
    int status = Z_OK;
    const char* message = gzerror(file.get(), &status);
    if (status == Z_BUF_ERROR) fail(path, ": truncated: the gzip stream has no end");
    if (got < 0 && status == Z_ERRNO) fail(path, ": cannot read the file: ", std::strerror(errno));
    if (got < 0) fail(path, ": corrupt gzip data: ", message);
    return bytes;
  }
}

struct IdxFile {
  std::vector<int64_t> dimensions;
  std::vector<uint8_t> values;
};

// An IDX file of bytes with `rank` dimensions; `what` names the contents for messages.
IdxFile read_idx(const std::string& path, size_t rank, const char* what) {
  std::vector<uint8_t> bytes = read_maybe_gzip(path);
  const size_t header = 4 + 4 * rank;
  const auto word = [&](size_t at) {
    return uint32_t{bytes[at]} << 24 | uint32_t{bytes[at + 1]} << 16 | uint32_t{bytes[at + 2]} << 8 | bytes[at + 3];
  };
  const auto expected_magic = 0x800u + static_cast<uint32_t>(rank);
  if (bytes.size() < 4) fail(path, ": truncated: ", bytes.size(), " bytes are no IDX file of ", what);
  if (word(0) != expected_magic)
    fail(path, ": not an IDX file of ", what, ": the magic number is ", word(0), ", expected ", expected_magic);
  if (bytes.size() < header)
    fail(path, ": truncated: the header needs ", header, " bytes, the file has ", bytes.size());

  IdxFile file;
  uint64_t expected = 1;  // saturates: a broken header must not wrap around to a plausible size
  for (size_t d = 0; d < rank; ++d) {
    const uint64_t extent = word(4 + 4 * d);
    file.dimensions.push_back(static_cast<int64_t>(extent));
    expected = extent != 0 && expected > UINT64_MAX / extent ? UINT64_MAX : expected * extent;
  }
  const uint64_t found = bytes.size() - header;
  if (found != expected)
    fail(path, ": ", found < expected ? "truncated" : "too long", ": the header promises ", expected,
         " bytes of values, the file has ", found);
  bytes.erase(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(header));
  file.values = std::move(bytes);
  return file;
}

class IdxDataset : public Dataset {
 public:
  IdxDataset(std::string path, IdxFile images, IdxFile labels, std::vector<std::string> classes, int channels,
             bool numbered)
      : path_(std::move(path)),
        images_(std::move(images)),
        labels_(std::move(labels)),
        classes_(std::move(classes)),
        channels_(channels),
        height_(static_cast<int>(images_.dimensions[1])),
        width_(static_cast<int>(images_.dimensions[2])),
        numbered_(numbered) {}

  int64_t size() const override { return images_.dimensions[0]; }
  int channels() const override { return channels_; }
  const std::vector<std::string>& classes() const override { return classes_; }
  int label(int64_t index) const override { return labels_.values[checked(index)]; }
  std::string name(int64_t index) const override { return join(path_, "[", index, "]"); }
  bool numbered() const override { return numbered_; }

  Image load(int64_t index) const override {
    Image image(height_, width_, channels_);
    const size_t count = static_cast<size_t>(height_) * static_cast<size_t>(width_);
    const uint8_t* from = images_.values.data() + checked(index) * count;
    if (channels_ == 1) {
      std::memcpy(image.pixels.data(), from, count);
    } else {
      for (size_t i = 0; i < count; ++i) std::memset(image.pixels.data() + 3 * i, from[i], 3);
    }
    return image;
  }

  std::string description() const override {
    return join("IDX ", path_, ": ", size(), " images of ", height_, "x", width_, ", ", classes_.size(), " classes");
  }

 private:
  size_t checked(int64_t index) const {
    RIFFLE_CHECK(index >= 0 && index < size(), "image ", index, " of ", size());
    return static_cast<size_t>(index);
  }

  std::string path_;
  IdxFile images_, labels_;
  std::vector<std::string> classes_;
  int channels_, height_, width_;
  bool numbered_;
};

void check_labels(const std::string& path, const std::vector<uint8_t>& labels, size_t classes) {
  const auto bad = std::find_if(labels.begin(), labels.end(), [&](uint8_t label) { return label >= classes; });
  if (bad != labels.end())
    fail(path, ": label ", int{*bad}, " of image ", bad - labels.begin(), " is out of range: there are ", classes,
         " classes, 0 to ", classes - 1);
}

}  // namespace

std::unique_ptr<Dataset> open_idx(const std::string& images_path, const std::string& labels_path,
                                  std::vector<std::string> classes, int channels) {
  RIFFLE_CHECK(channels == 1 || channels == 3, images_path, " asked for with ", channels, " channels");
  IdxFile images = read_idx(images_path, 3, "images");
  IdxFile labels = read_idx(labels_path, 1, "labels");
  if (images.dimensions[0] != labels.dimensions[0])
    fail(images_path, " has ", images.dimensions[0], " images, but ", labels_path, " has ", labels.dimensions[0],
         " labels");
  if (images.values.empty()) fail(images_path, ": the file holds no images");
  constexpr int64_t kMaxEdge = 65535;
  if (images.dimensions[1] > kMaxEdge || images.dimensions[2] > kMaxEdge)
    fail(images_path, ": images of ", images.dimensions[1], "x", images.dimensions[2], " pixels; edges of up to ",
         kMaxEdge, " are read");
  const bool numbered = classes.empty();
  if (numbered) {
    const int largest = *std::max_element(labels.values.begin(), labels.values.end());
    for (int i = 0; i <= largest; ++i) classes.push_back(std::to_string(i));
  }
  check_labels(labels_path, labels.values, classes.size());
  return std::make_unique<IdxDataset>(images_path, std::move(images), std::move(labels), std::move(classes), channels,
                                      numbered);
}

}  // namespace riffle
