// EXIF orientation: found in the metadata of a file, and applied to pixels. Whatever is wrong with it, the image counts
// as upright: many files have broken metadata and sound pixels.
#include "data/orientation.h"

#include <cstring>

namespace riffle {
namespace {

// Numbers of a TIFF structure, in its byte order; `size` bytes in all.
class Tiff {
 public:
  Tiff(const uint8_t* bytes, size_t size) : bytes_(bytes), size_(size), little_endian_(size > 0 && bytes[0] == 'I') {}

  bool has(size_t offset, size_t count) const { return offset <= size_ && count <= size_ - offset; }
  bool valid() const {
    return has(0, 8) && (std::memcmp(bytes_, "II*\0", 4) == 0 || std::memcmp(bytes_, "MM\0*", 4) == 0);
  }
  uint32_t number(size_t offset, size_t count) const {
    uint32_t value = 0;
    for (size_t i = 0; i < count; ++i) {
      value = value << 8 | bytes_[offset + (little_endian_ ? count - 1 - i : i)];
    }
    return value;
  }

 private:
  const uint8_t* bytes_;
  size_t size_;
  bool little_endian_;
};

}  // namespace

int exif_orientation(const uint8_t* bytes, size_t size) {
  constexpr uint32_t kOrientation = 0x0112, kShort = 3;
  constexpr size_t kEntryBytes = 12;
  const Tiff tiff(bytes, size);
  if (!tiff.valid()) return kUpright;
  const size_t directory = tiff.number(4, 4);
  if (!tiff.has(directory, 2)) return kUpright;
  const size_t entries = tiff.number(directory, 2);
  for (size_t i = 0; i < entries; ++i) {
    const size_t entry = directory + 2 + i * kEntryBytes;
    if (!tiff.has(entry, kEntryBytes)) break;
    if (tiff.number(entry, 2) != kOrientation || tiff.number(entry + 2, 2) != kShort) continue;
    const uint32_t value = tiff.number(entry + 8, 2);
    return value >= 1 && value <= 8 ? static_cast<int>(value) : kUpright;
  }
  return kUpright;
}

Image upright(const Image& image) {
  const int stored = image.orientation;
  const bool transposed = stored >= 5;
  const bool rows_reversed = stored == 3 || stored == 4 || stored == 6 || stored == 7;
  const bool columns_reversed = stored == 2 || stored == 3 || stored == 7 || stored == 8;
  Image out(transposed ? image.width : image.height, transposed ? image.height : image.width, image.channels);
  const auto channels = static_cast<size_t>(image.channels);
  uint8_t* target = out.pixels.data();
  for (int y = 0; y < out.height; ++y) {
    for (int x = 0; x < out.width; ++x, target += channels) {
      const int row = transposed ? x : y, column = transposed ? y : x;
      const auto from_row = static_cast<size_t>(rows_reversed ? image.height - 1 - row : row);
      const auto from_column = static_cast<size_t>(columns_reversed ? image.width - 1 - column : column);
      const size_t from = (from_row * static_cast<size_t>(image.width) + from_column) * channels;
      std::memcpy(target, image.pixels.data() + from, channels);
    }
  }
  return out;
}

}  // namespace riffle
