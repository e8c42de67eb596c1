// The devkit's meta.mat: a MATLAB 5 file with a struct array `synsets`, of which ILSVRC2012_ID and WNID are read.
// https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf
#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "core/check.h"
#include "data/image.h"
#include "data/label_files.h"

namespace riffle {
namespace {

enum ElementType : uint32_t {
  kInt8 = 1,
  kUInt8 = 2,
  kInt16 = 3,
  kUInt16 = 4,
  kInt32 = 5,
  kUInt32 = 6,
  kDouble = 9,
  kMatrix = 14,
  kCompressed = 15,
  kUtf8 = 16
};
constexpr int kStructClass = 2;
constexpr double kMostIds = 1 << 20;  // real ones go up to 1,860

struct Element {
  uint32_t type = 0;
  const uint8_t* bytes = nullptr;
  size_t size = 0;
};

class Elements {
 public:
  Elements(const std::string& path, const uint8_t* bytes, size_t size) : path_(path), at_(bytes), left_(size) {}
  bool done() const { return left_ < 8; }

  Element next() {
    uint32_t words[2];
    if (left_ < 8) fail_damaged();
    std::memcpy(words, at_, 8);
    Element element;
    if (words[0] >> 16 != 0) {  // up to four bytes lie in the tag itself
      element = {words[0] & 0xFFFF, at_ + 4, words[0] >> 16};
      if (element.size > 4) fail_damaged();
      skip(8);
      return element;
    }
    element = {words[0], at_ + 8, words[1]};
    if (element.size > left_ - 8) fail_damaged();
    const size_t padded = words[0] == kCompressed ? element.size : (element.size + 7) / 8 * 8;
    skip(8 + std::min(padded, left_ - 8));
    return element;
  }
  [[noreturn]] void fail_damaged() const {
    fail(path_, ": damaged, or no MATLAB 5 file such as the devkit's meta.mat");
  }

 private:
  void skip(size_t count) {
    at_ += count;
    left_ -= count;
  }

  const std::string& path_;
  const uint8_t* at_;
  size_t left_;
};

std::vector<uint8_t> inflate_element(const std::string& path, const Element& element) {
  constexpr size_t kMost = size_t{1} << 28;
  std::vector<uint8_t> bytes(element.size * 4 + 1024);
  for (;;) {
    uLongf size = bytes.size();
    const int status = uncompress(bytes.data(), &size, element.bytes, element.size);
    if (status == Z_OK) {
      bytes.resize(size);
      return bytes;
    }
    if (status != Z_BUF_ERROR || bytes.size() > kMost) fail(path, ": damaged: its compressed data cannot be read");
    bytes.resize(bytes.size() * 2);
  }
}

// A matrix of characters, or a number; `numbers` of other types do not occur in these fields.
struct Cell {
  std::string text;
  double number = 0;
};

template <class T>
double first_value(const Element& element) {
  T value{};
  if (element.size >= sizeof(T)) std::memcpy(&value, element.bytes, sizeof(T));
  return static_cast<double>(value);
}

double number_of(const Element& element) {
  switch (element.type) {
    case kInt8:
      return first_value<int8_t>(element);
    case kUInt8:
      return first_value<uint8_t>(element);
    case kInt16:
      return first_value<int16_t>(element);
    case kUInt16:
      return first_value<uint16_t>(element);
    case kInt32:
      return first_value<int32_t>(element);
    case kUInt32:
      return first_value<uint32_t>(element);
    case kDouble:
      return first_value<double>(element);
    default:
      return 0;
  }
}

Cell read_cell(const std::string& path, const Element& matrix) {
  Elements parts(path, matrix.bytes, matrix.size);
  parts.next();  // flags
  parts.next();  // dimensions
  parts.next();  // name
  Cell cell;
  if (parts.done()) return cell;
  const Element data = parts.next();
  cell.number = number_of(data);
  const size_t step = data.type == kUInt16 ? 2 : 1;
  for (size_t i = 0; i < data.size; i += step) cell.text += static_cast<char>(data.bytes[i]);
  return cell;
}

std::vector<std::string> field_names(const Element& lengths, const Element& names) {
  const auto length = static_cast<size_t>(std::max(0.0, first_value<int32_t>(lengths)));
  std::vector<std::string> fields;
  for (size_t at = 0; length > 0 && at + length <= names.size; at += length) {
    const auto* text = reinterpret_cast<const char*>(names.bytes + at);
    fields.emplace_back(text, strnlen(text, length));
  }
  return fields;
}

// ILSVRC2012_ID -> WNID, if this matrix is the struct array that holds them.
std::map<int, std::string> read_synsets(const std::string& path, const Element& matrix) {
  Elements parts(path, matrix.bytes, matrix.size);
  const Element flags = parts.next();
  parts.next();  // dimensions
  parts.next();  // name
  std::map<int, std::string> wnid_of;
  if (flags.size < 1 || flags.bytes[0] != kStructClass) return wnid_of;
  const Element lengths = parts.next();
  const std::vector<std::string> fields = field_names(lengths, parts.next());
  while (!parts.done()) {
    int id = 0;
    std::string wnid;
    for (const std::string& field : fields) {
      const Cell cell = read_cell(path, parts.next());
      const bool plausible = cell.number >= 1 && cell.number <= kMostIds;  // not so for NaN
      if (field == "ILSVRC2012_ID" && plausible) id = static_cast<int>(cell.number);
      if (field == "WNID") wnid = cell.text;
    }
    if (fields.empty()) parts.fail_damaged();
    if (id > 0 && !wnid.empty()) wnid_of[id] = wnid;
  }
  return wnid_of;
}

}  // namespace

std::vector<std::string> read_devkit_synsets(const std::string& path) {
  constexpr size_t kHeader = 128;
  const std::vector<uint8_t> bytes = read_file(path);
  if (bytes.size() < kHeader || std::memcmp(bytes.data() + 126, "IM", 2) != 0)
    fail(path, ": no MATLAB 5 file such as the devkit's meta.mat");
  Elements elements(path, bytes.data() + kHeader, bytes.size() - kHeader);
  std::map<int, std::string> wnid_of;
  while (!elements.done() && wnid_of.empty()) {
    const Element element = elements.next();
    if (element.type == kMatrix) wnid_of = read_synsets(path, element);
    if (element.type != kCompressed) continue;
    const std::vector<uint8_t> inflated = inflate_element(path, element);
    const Element inner = Elements(path, inflated.data(), inflated.size()).next();
    if (inner.type == kMatrix) wnid_of = read_synsets(path, inner);
  }
  // Groups of classes have higher numbers, after the 1,000 that label images.
  constexpr int kClasses = 1000;
  std::vector<std::string> wnids;
  for (const auto& [id, wnid] : wnid_of) {
    if (id > kClasses) break;
    if (id != static_cast<int>(wnids.size()) + 1) fail(path, ": has no synset with ILSVRC2012_ID ", wnids.size() + 1);
    wnids.push_back(wnid);
  }
  if (wnids.empty())
    fail(path, ": has no struct array with the fields ILSVRC2012_ID and WNID, as the devkit's meta.mat");
  return wnids;
}

}  // namespace riffle
