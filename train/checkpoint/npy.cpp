// .npy: magic, version, header length, a Python dictionary literal, the raw elements.
#include "train/checkpoint/numpy.h"

#include <cctype>
#include <cstring>
#include <limits>
#include <string_view>

#include "train/checkpoint/file_io.h"

namespace riffle {
namespace {

constexpr char kMagic[] = "\x93NUMPY";  // 6 bytes, then major and minor version
constexpr size_t kMagicBytes = 6, kVersionBytes = 2;
constexpr size_t kMostAxes = 64;       // numpy's limit
constexpr size_t kDataAlignment = 64;  // of the array's data, in files numpy writes

struct StoredType {
  const char* name;  // without the byte order
  FileDType dtype;
};

constexpr StoredType kStoredTypes[] = {{"f4", FileDType::kF32}, {"f8", FileDType::kF64}, {"f2", FileDType::kF16},
                                       {"i1", FileDType::kI8},  {"i2", FileDType::kI16}, {"i4", FileDType::kI32},
                                       {"i8", FileDType::kI64}, {"u1", FileDType::kU8},  {"u2", FileDType::kU16},
                                       {"u4", FileDType::kU32}, {"u8", FileDType::kU64}, {"b1", FileDType::kBool}};
constexpr const char* kAccepted = "f2, f4, f8, i1, i2, i4, i8, u1, u2, u4, u8, b1";

struct ArrayHeader {
  const StoredType* type = nullptr;
  bool fortran_order = false;
  bool has_order = false, has_shape = false;
  std::vector<int64_t> shape;
};

// The header is a Python dictionary literal of three known keys: just as much of Python as that takes.
class HeaderParser {
 public:
  HeaderParser(std::string_view text, const std::string& name) : text_(text), name_(name) {}

  ArrayHeader parse() {
    ArrayHeader header;
    expect('{');
    while (!accept('}')) {
      parse_item(header);
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    if (header.type == nullptr || !header.has_order || !header.has_shape)
      invalid("expected the keys 'descr', 'fortran_order' and 'shape'");
    skip_space();
    if (position_ != text_.size()) invalid("text follows the dictionary");
    return header;
  }

 private:
  void parse_item(ArrayHeader& header) {
    const std::string key = parse_string();
    expect(':');
    if (key == "descr" && header.type == nullptr) {
      header.type = parse_descr();
    } else if (key == "fortran_order" && !header.has_order) {
      header.fortran_order = parse_bool();
      header.has_order = true;
    } else if (key == "shape" && !header.has_shape) {
      header.shape = parse_shape();
      header.has_shape = true;
    } else {
      invalid("unexpected or repeated key '" + key + "'");
    }
  }

  const StoredType* parse_descr() {
    skip_space();
    if (position_ < text_.size() && text_[position_] == '[')
      fail(name_, ": structured arrays are not supported; expected one of ", kAccepted);
    const std::string descr = parse_string();
    if (descr == "|O" || descr == "O")
      fail(name_, ": object arrays are refused: they hold Python pickles, which can run code");
    if (!descr.empty() && descr[0] == '>')
      fail(name_, ": dtype '", descr, "' is big-endian; save it again with array.astype('<", descr.substr(1), "')");
    for (const StoredType& type : kStoredTypes) {
      if (descr == std::string("<") + type.name || (size_of(type.dtype) == 1 && descr == std::string("|") + type.name))
        return &type;
    }
    fail(name_, ": dtype '", descr, "' is not supported; expected one of ", kAccepted);
  }

  std::vector<int64_t> parse_shape() {
    std::vector<int64_t> shape;
    expect('(');
    while (!accept(')')) {
      shape.push_back(parse_extent());
      if (shape.size() > kMostAxes) invalid(join("more than ", kMostAxes, " axes"));
      if (!accept(',')) {
        expect(')');
        break;
      }
    }
    return shape;
  }

  int64_t parse_extent() {
    skip_space();
    const size_t begin = position_;
    int64_t value = 0;
    while (position_ < text_.size() && std::isdigit(static_cast<unsigned char>(text_[position_])) != 0) {
      if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, text_[position_] - '0', &value))
        invalid("a shape this large cannot be");
      ++position_;
    }
    if (position_ == begin) invalid("expected a whole number >= 0 in 'shape'");
    if (position_ < text_.size() && text_[position_] == 'L') ++position_;  // Python 2 wrote 24L
    return value;
  }

  bool parse_bool() {
    skip_space();
    for (const bool value : {true, false}) {
      const std::string_view word = value ? "True" : "False";
      if (text_.substr(position_, word.size()) == word) {
        position_ += word.size();
        return value;
      }
    }
    invalid("expected True or False");
  }

  std::string parse_string() {
    skip_space();
    if (position_ >= text_.size() || (text_[position_] != '\'' && text_[position_] != '"'))
      invalid("expected a string");
    const size_t end = text_.find(text_[position_], position_ + 1);
    if (end == std::string_view::npos) invalid("a string does not end");
    std::string value(text_.substr(position_ + 1, end - position_ - 1));
    position_ = end + 1;
    return value;
  }

  void skip_space() {
    while (position_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[position_])) != 0) ++position_;
  }

  bool accept(char symbol) {
    skip_space();
    if (position_ >= text_.size() || text_[position_] != symbol) return false;
    ++position_;
    return true;
  }

  void expect(char symbol) {
    if (!accept(symbol)) invalid(join("expected '", symbol, "'"));
  }

  [[noreturn]] void invalid(const std::string& problem) const {
    fail(name_, ": invalid .npy header at its byte ", position_, ": ", problem);
  }

  std::string_view text_;
  const std::string& name_;
  size_t position_ = 0;
};

// The header's text, and where the data begins.
std::string_view header_text(const std::vector<uint8_t>& bytes, const std::string& name, size_t& data_begin) {
  constexpr size_t kPrefix = kMagicBytes + kVersionBytes;
  if (bytes.size() < kPrefix || std::memcmp(bytes.data(), kMagic, kMagicBytes) != 0)
    fail(name, " is not a .npy array: it does not begin with numpy's signature");
  const int version = bytes[kMagicBytes];
  if (version < 1 || version > 3) fail(name, ": .npy version ", version, " is not known; expected 1, 2 or 3");
  const size_t length_bytes = version == 1 ? 2 : 4;
  if (bytes.size() < kPrefix + length_bytes) fail(name, " is truncated inside its header");
  uint32_t length = 0;
  std::memcpy(&length, bytes.data() + kPrefix, length_bytes);
  const size_t begin = kPrefix + length_bytes;
  if (length > bytes.size() - begin)
    fail(name, " is truncated: its header takes ", length, " bytes, but only ", bytes.size() - begin, " follow");
  data_begin = begin + length;
  return {reinterpret_cast<const char*>(bytes.data()) + begin, length};
}

// Fortran order stores the first axis densest; we want the last. Walks the source in order, counting like an odometer.
std::vector<uint8_t> row_major(const uint8_t* source, const std::vector<int64_t>& shape, size_t elements, size_t item) {
  struct Axis {
    size_t extent, stride, index;  // stride: of the result, in elements
  };
  std::vector<Axis> axes;  // the last one first
  size_t stride = 1;
  for (auto extent = shape.rbegin(); extent != shape.rend(); ++extent) {
    axes.push_back({static_cast<size_t>(*extent), stride, 0});
    stride *= axes.back().extent;
  }
  std::vector<uint8_t> result(elements * item);
  size_t target = 0;
  for (size_t i = 0; i < elements; ++i) {
    std::memcpy(result.data() + target * item, source + i * item, item);
    for (auto axis = axes.rbegin(); axis != axes.rend(); ++axis) {
      target += axis->stride;
      if (++axis->index < axis->extent) break;
      target -= axis->stride * axis->extent;
      axis->index = 0;
    }
  }
  return result;
}

HostTensor parse_array(const std::vector<uint8_t>& bytes, const std::string& name) {
  size_t data_begin = 0;
  const ArrayHeader header = HeaderParser(header_text(bytes, name, data_begin), name).parse();
  const size_t item = size_of(header.type->dtype), available = bytes.size() - data_begin;
  int64_t elements = 0;
  uint64_t expected = 0;
  if (!count_elements(header.shape, elements) ||
      __builtin_mul_overflow(static_cast<uint64_t>(elements), static_cast<uint64_t>(item), &expected))
    fail(name, ": shape ", shape_text(header.shape), " is too large");
  if (expected != available)
    fail(name, ": ", shape_text(header.shape), " ", header.type->name, " takes ", expected, " bytes, but ", available,
         " follow the header", available < expected ? "; was it truncated?" : "");

  HostTensor tensor{header.type->dtype, header.shape, {}};
  const uint8_t* data = bytes.data() + data_begin;
  if (header.fortran_order) {
    tensor.bytes = row_major(data, header.shape, static_cast<size_t>(elements), item);
  } else {
    tensor.bytes.assign(data, data + available);
  }
  return tensor;
}

}  // namespace

HostTensor parse_npy(const std::vector<uint8_t>& bytes, const std::string& name) {
  return parse_within_memory(name, [&] { return parse_array(bytes, name); });
}

std::string npy_header(const HostTensor& tensor, const std::string& path) {
  const StoredType* stored = nullptr;
  for (const StoredType& type : kStoredTypes) {
    if (type.dtype == tensor.dtype) stored = &type;
  }
  if (stored == nullptr) fail("cannot write ", path, ": numpy has no dtype for ", tensor.dtype);
  RIFFLE_CHECK(tensor.bytes.size() == static_cast<size_t>(tensor.elements()) * size_of(stored->dtype), path, ": ",
               tensor.bytes.size(), " bytes for ", shape_text(tensor.shape), " ", tensor.dtype);
  std::string shape;
  for (int64_t extent : tensor.shape) shape += std::to_string(extent) + ", ";
  if (tensor.shape.size() > 1) shape.resize(shape.size() - 2);
  std::string header = join("{'descr': '", size_of(stored->dtype) == 1 ? '|' : '<', stored->name,
                            "', 'fortran_order': False, 'shape': (", shape, "), }");
  constexpr size_t kPrefix = kMagicBytes + kVersionBytes + sizeof(uint16_t);
  const size_t unpadded = kPrefix + header.size() + 1;
  header.append((kDataAlignment - unpadded % kDataAlignment) % kDataAlignment, ' ').append("\n");
  RIFFLE_CHECK(header.size() <= std::numeric_limits<uint16_t>::max(), "rank ", tensor.shape.size());
  const auto length = static_cast<uint16_t>(header.size());
  std::string prefix(kMagic, kMagicBytes);
  prefix.append("\1\0", kVersionBytes).append(reinterpret_cast<const char*>(&length), sizeof length);
  return prefix + header;
}

void write_npy(const std::string& path, const HostTensor& tensor) {
  const std::string header = npy_header(tensor, path);
  AtomicFile output(path);
  output.write(header.data(), header.size());
  output.write(tensor.bytes.data(), tensor.bytes.size());
  output.commit();
}

}  // namespace riffle
