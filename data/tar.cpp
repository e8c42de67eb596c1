// Tar headers: 512-byte blocks of text fields, each followed by the member's contents in whole blocks.
#include "data/tar.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "core/check.h"

namespace riffle {
namespace {

constexpr uint64_t kBlock = 512;
constexpr uint64_t kMaxExtended = 1 << 20;  // a long name or pax header; real ones have some hundred bytes

using Block = std::array<uint8_t, kBlock>;

// Fields of a header: offset and length.
struct FieldAt {
  size_t offset, length;
};
constexpr FieldAt kName{0, 100}, kMode{100, 8}, kUser{108, 8}, kGroup{116, 8}, kSize{124, 12}, kTime{136, 12},
    kChecksum{148, 8}, kMagic{257, 6}, kPrefix{345, 155};
constexpr size_t kTypeOffset = 156, kVersionOffset = 263;

uint64_t whole_blocks(uint64_t size) {
  return (size + kBlock - 1) / kBlock * kBlock;
}

bool is_zero(const Block& block) {
  return std::all_of(block.begin(), block.end(), [](uint8_t byte) { return byte == 0; });
}

std::string text_of(const Block& block, FieldAt field) {
  const auto* begin = reinterpret_cast<const char*>(block.data()) + field.offset;
  return {begin, std::find(begin, begin + field.length, '\0')};
}

// Octal digits, with spaces around; false for anything else. Overflow cannot happen: 12 digits are 36 bits.
bool parse_octal(const Block& block, FieldAt field, uint64_t& value) {
  const uint8_t *at = block.data() + field.offset, *end = at + field.length;
  while (at != end && *at == ' ') ++at;
  value = 0;
  for (; at != end && *at >= '0' && *at <= '7'; ++at) value = value * 8 + (*at - '0');
  return std::all_of(at, end, [](uint8_t byte) { return byte == 0 || byte == ' '; });
}

// Old programs summed signed bytes.
bool checksum_fits(const Block& block) {
  uint64_t expected = 0;
  if (!parse_octal(block, kChecksum, expected)) return false;
  int64_t unsigned_sum = 0, signed_sum = 0;
  for (size_t i = 0; i < kBlock; ++i) {
    const bool in_field = i >= kChecksum.offset && i < kChecksum.offset + kChecksum.length;
    const uint8_t byte = in_field ? ' ' : block[i];
    unsigned_sum += byte;
    signed_sum += static_cast<int8_t>(byte);
  }
  const auto sum = static_cast<int64_t>(expected);
  return sum == unsigned_sum || sum == signed_sum;
}

std::string without_dot_slash(std::string name) {
  while (name.rfind("./", 0) == 0) name.erase(0, 2);
  return name;
}

TarMember::Type type_of(char flag, const std::string& name) {
  switch (flag) {
    case '0':
    case '\0':
    case '7':
      return !name.empty() && name.back() == '/' ? TarMember::Type::kFolder : TarMember::Type::kFile;
    case '5':
      return TarMember::Type::kFolder;
    case '1':
    case '2':
      return TarMember::Type::kLink;
    default:
      return TarMember::Type::kOther;
  }
}

class Walker {
 public:
  Walker(const RandomAccessFile& file, uint64_t begin, uint64_t end, const std::string& what)
      : file_(file), what_(what), begin_(begin), end_(end), at_(begin) {}

  void walk(const std::function<void(const TarMember&)>& visit) {
    Block block;
    for (;;) {
      if (end_ - at_ < kBlock) fail_here("truncated: the file ends without the mark that ends a tar file");
      file_.read(at_, block.data(), kBlock);
      if (is_zero(block)) {
        check_end();
        return;
      }
      read_header(block);
      at_ += kBlock;
      const char flag = static_cast<char>(block[kTypeOffset]);
      if (!read_extension(flag)) visit(take_member(flag, block));
      at_ += std::min(whole_blocks(size_), end_ - at_);
    }
  }

 private:
  template <class... Parts>
  [[noreturn]] void fail_here(const Parts&... parts) const {
    fail(what_, ": ", parts..., " (at byte ", at_ - begin_, ")");
  }

  // Zeros follow the mark up to the end of a record, or whatever else; but a member there was meant to be read.
  void check_end() {
    constexpr uint64_t kMostPadding = 1 << 20;
    const uint64_t limit = at_ + std::min(end_ - at_, kMostPadding);
    Block block{};
    while (is_zero(block) && limit - at_ >= 2 * kBlock) {
      at_ += kBlock;
      file_.read(at_, block.data(), kBlock);
    }
    if (!is_zero(block) && checksum_fits(block))
      fail_here("another tar file follows the mark that ends this one (concatenated tar files), which would not be ",
                "read; keep them as files of their own, or join them with 'tar --concatenate'");
  }

  // Sets size_ and checks it, so that no later step reads or skips beyond the end.
  void read_header(const Block& block) {
    if (!checksum_fits(block)) {
      fail_here(at_ == begin_ ? "not a tar file: its first header has a wrong checksum"
                              : "damaged tar file: a header has a wrong checksum");
    }
    size_ = header_size(block);
    const char flag = static_cast<char>(block[kTypeOffset]);
    const bool has_contents = type_of(flag, "") != TarMember::Type::kLink && flag != '5';
    if (!has_contents) size_ = 0;
    const bool is_extension = flag == 'x' || flag == 'g' || flag == 'L' || flag == 'K';
    if (pax_size_set_ && !is_extension && has_contents) size_ = pax_size_;
    const uint64_t left = end_ - at_ - kBlock;
    if (size_ > left) {
      fail_here("truncated or damaged tar file: '", text_of(block, kName), "' has ", size_, " bytes, but only ", left,
                " follow");
    }
  }

  uint64_t header_size(const Block& block) const {
    uint64_t size = 0;
    const uint8_t first = block[kSize.offset];
    if ((first & 0x80) == 0) {
      if (!parse_octal(block, kSize, size)) fail_here("damaged tar file: a size is no octal number");
      return size;
    }
    bool fits = first == 0x80;  // base 256: 11 more bytes, of which the last 8 are read
    for (size_t i = 1; i < kSize.length; ++i) {
      const uint8_t byte = block[kSize.offset + i];
      if (i < 4 && byte != 0) fits = false;
      size = size << 8 | byte;
    }
    if (!fits || size > INT64_MAX) fail_here("damaged tar file: a size is negative or above 8 EiB");
    return size;
  }

  std::string read_text() const {
    if (size_ > kMaxExtended) fail_here("damaged tar file: a long name or pax header of ", size_, " bytes");
    std::string text(size_, '\0');
    file_.read(at_, text.data(), text.size());
    return text;
  }

  // Headers that describe the next member; they are kept until take_member().
  bool read_extension(char flag) {
    switch (flag) {
      case 'L':
        long_name_ = read_text();
        long_name_.erase(std::find(long_name_.begin(), long_name_.end(), '\0'), long_name_.end());
        return true;
      case 'x':
        read_pax(read_text());
        return true;
      case 'K':  // a long link target
      case 'g':  // pax defaults for all members: times, users, comments
        return true;
      default:
        return false;
    }
  }

  // Records "LENGTH KEY=VALUE\n", where LENGTH counts the whole record.
  void read_pax(const std::string& text) {
    for (size_t at = 0; at < text.size() && text[at] != '\0';) {
      uint64_t length = 0;
      size_t digit = at;
      for (; digit < text.size() && text[digit] >= '0' && text[digit] <= '9' && length <= kMaxExtended; ++digit)
        length = length * 10 + static_cast<uint64_t>(text[digit] - '0');
      const size_t equals = text.find('=', digit);
      const bool fits = length <= text.size() - at && digit < text.size() && text[digit] == ' ' &&
                        equals != std::string::npos && equals < at + length && text[at + length - 1] == '\n';
      if (!fits) fail_here("damaged tar file: a pax header that cannot be read");
      take_pax_record(text.substr(digit + 1, equals - digit - 1), text.substr(equals + 1, at + length - equals - 2));
      at += length;
    }
  }

  void take_pax_record(const std::string& key, const std::string& value) {
    if (key == "path") long_name_ = value;
    if (key.rfind("GNU.sparse.", 0) == 0) sparse_ = true;
    if (key != "size") return;
    const bool digits =
        !value.empty() && value.size() <= 18 && value.find_first_not_of("0123456789") == std::string::npos;
    if (!digits) fail_here("damaged tar file: pax size '", value, "'");
    pax_size_ = std::stoull(value);
    pax_size_set_ = true;
  }

  TarMember take_member(char flag, const Block& block) {
    TarMember member;
    member.name = long_name_;
    if (member.name.empty()) {
      member.name = text_of(block, kName);
      // GNU's own format keeps times where ustar has a prefix; its magic ends in a space.
      const bool ustar = std::memcmp(block.data() + kMagic.offset, "ustar\0", 6) == 0;
      const std::string prefix = ustar ? text_of(block, kPrefix) : "";
      if (!prefix.empty()) member.name = prefix + "/" + member.name;
    }
    if (flag == 'S' || sparse_) fail_here("'", member.name, "' is stored as a sparse file, which is not read");
    member.type = type_of(flag, member.name);
    member.name = without_dot_slash(std::move(member.name));
    member.offset = at_;
    member.size = size_;
    long_name_.clear();
    pax_size_set_ = false;
    return member;
  }

  const RandomAccessFile& file_;
  const std::string& what_;
  const uint64_t begin_, end_;
  uint64_t at_, size_ = 0;  // of the present header's contents
  std::string long_name_;
  uint64_t pax_size_ = 0;
  bool pax_size_set_ = false, sparse_ = false;
};

void put(Block& block, FieldAt field, const std::string& text) {
  std::memcpy(block.data() + field.offset, text.data(), text.size());
}

std::string octal(uint64_t value, size_t digits) {
  std::string text(digits, '0');
  for (size_t i = digits; i-- > 0; value /= 8) text[i] = static_cast<char>('0' + value % 8);
  return text;
}

}  // namespace

void walk_tar(const RandomAccessFile& file, uint64_t begin, uint64_t end, const std::string& what,
              const std::function<void(const TarMember&)>& visit) {
  RIFFLE_CHECK(begin <= end && end <= file.size(), what, ": bytes ", begin, " to ", end, " of ", file.size());
  if (begin == end) fail(what, ": not a tar file: it is empty");
  Walker(file, begin, end, what).walk(visit);
}

void walk_tar(const RandomAccessFile& file, const std::function<void(const TarMember&)>& visit) {
  walk_tar(file, 0, file.size(), file.path(), visit);
}

TarWriter::TarWriter(const std::string& path) : path_(path), file_(std::fopen(path.c_str(), "wb"), std::fclose) {
  if (!file_) fail(path, ": cannot write the file: ", std::strerror(errno));
}

void TarWriter::write(const void* bytes, size_t size) {
  if (size > 0 && std::fwrite(bytes, 1, size, file_.get()) != size)
    fail(path_, ": cannot write ", size, " bytes: ", std::strerror(errno));
  position_ += size;
}

uint64_t TarWriter::add(const std::string& name, const void* bytes, size_t size) {
  RIFFLE_CHECK(!name.empty() && name.size() <= kName.length, "a tar member named '", name, "'");
  constexpr uint64_t kMaxSize = uint64_t{1} << 33;  // 11 octal digits
  RIFFLE_CHECK(size < kMaxSize, name, " has ", size, " bytes");
  Block block{};
  put(block, kName, name);
  put(block, kMode, "0000644");
  put(block, kUser, "0000000");
  put(block, kGroup, "0000000");
  put(block, kSize, octal(size, kSize.length - 1));
  put(block, kTime, octal(0, kTime.length - 1));
  put(block, kMagic, "ustar");
  block[kTypeOffset] = '0';
  block[kVersionOffset] = block[kVersionOffset + 1] = '0';
  put(block, kChecksum, "        ");
  uint64_t sum = 0;
  for (const uint8_t byte : block) sum += byte;
  put(block, kChecksum, octal(sum, 6));
  block[kChecksum.offset + 6] = 0;
  write(block.data(), block.size());
  const uint64_t offset = position_;
  write(bytes, size);
  const Block zeros{};
  write(zeros.data(), whole_blocks(size) - size);
  return offset;
}

uint64_t TarWriter::finish() {
  const Block zeros{};
  write(zeros.data(), zeros.size());
  write(zeros.data(), zeros.size());
  const bool flushed = std::fflush(file_.get()) == 0 && ::fsync(fileno(file_.get())) == 0;
  if (!flushed || std::fclose(file_.release()) != 0) fail(path_, ": cannot write the file: ", std::strerror(errno));
  return position_;
}

}  // namespace riffle
