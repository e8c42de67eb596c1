// Writing zip archives: APPNOTE.TXT 6.3 of PKWARE, sections 4.3.7 (local headers), 4.3.12 (directory) and 4.3.16 (its end).
#include "train/checkpoint/zip_writer.h"

#include <zlib.h>

#include <algorithm>
#include <limits>

#include "core/check.h"

namespace riffle {
namespace {

constexpr uint32_t kLocalHeaderBytes = 30, kExtraHeaderBytes = 4;
constexpr uint16_t kVersion = 20, kPaddingTag = 0x4246;  // "FB", the tag that PyTorch pads with
constexpr uint16_t kNoTime = 0, kFirstDay = 0x21;        // 1980-01-01: the same contents give the same bytes

class Record {
 public:
  Record& u16(uint64_t value) { return append(value, 2); }
  Record& u32(uint64_t value) { return append(value, 4); }
  Record& text(const std::string& text) {
    bytes_ += text;
    return *this;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  Record& append(uint64_t value, int count) {
    for (int i = 0; i < count; ++i) bytes_.push_back(static_cast<char>(value >> (8 * i) & 0xff));
    return *this;
  }
  std::string bytes_;
};

}  // namespace

ZipWriter::ZipWriter(const std::string& path, uint32_t alignment) : path_(path), alignment_(alignment), file_(path) {
  RIFFLE_CHECK(alignment >= 1 && alignment <= 4096, "alignment ", alignment);
}

void ZipWriter::write(const std::string& bytes) {
  file_.write(bytes.data(), bytes.size());
  position_ += bytes.size();
}

void ZipWriter::add(const std::string& name, const void* contents, uint64_t size) {
  constexpr uint64_t kLimit = std::numeric_limits<uint32_t>::max();
  RIFFLE_CHECK(name.size() < 0xffff, "an entry's name has ", name.size(), " bytes");
  if (size > kLimit || position_ + size + name.size() + 2 * alignment_ > kLimit || entries_.size() == 0xffff)
    fail("cannot write ", path_, ": more than 4 GiB or 65,535 entries");
  uLong checksum = crc32(0, nullptr, 0);
  for (uint64_t done = 0; done < size;) {
    const auto piece = static_cast<uInt>(std::min<uint64_t>(size - done, uint64_t{1} << 30));
    checksum = crc32(checksum, static_cast<const Bytef*>(contents) + done, piece);
    done += piece;
  }
  const Written entry{name, static_cast<uint32_t>(position_), static_cast<uint32_t>(size),
                      static_cast<uint32_t>(checksum)};
  // An extra field moves the contents to where they are aligned.
  const uint64_t begin = position_ + kLocalHeaderBytes + name.size();
  uint64_t padding = (alignment_ - begin % alignment_) % alignment_;
  while (padding != 0 && padding < kExtraHeaderBytes) padding += alignment_;
  Record header;
  header.u32(0x04034b50).u16(kVersion).u16(0).u16(0).u16(kNoTime).u16(kFirstDay);
  header.u32(entry.checksum).u32(entry.size).u32(entry.size).u16(name.size()).u16(padding).text(name);
  if (padding != 0) {
    header.u16(kPaddingTag).u16(padding - kExtraHeaderBytes);
    header.text(std::string(padding - kExtraHeaderBytes, '\0'));
  }
  write(header.bytes());
  file_.write(contents, size);
  position_ += size;
  entries_.push_back(entry);
}

void ZipWriter::commit() {
  const uint64_t begin = position_;
  for (const Written& entry : entries_) {
    Record record;
    record.u32(0x02014b50).u16(kVersion).u16(kVersion).u16(0).u16(0).u16(kNoTime).u16(kFirstDay);
    record.u32(entry.checksum).u32(entry.size).u32(entry.size).u16(entry.name.size()).u16(0).u16(0).u16(0).u16(0);
    record.u32(0).u32(entry.offset).text(entry.name);
    write(record.bytes());
  }
  Record end;
  end.u32(0x06054b50).u16(0).u16(0).u16(entries_.size()).u16(entries_.size());
  end.u32(position_ - begin).u32(begin).u16(0);
  if (position_ > std::numeric_limits<uint32_t>::max()) fail("cannot write ", path_, ": more than 4 GiB");
  write(end.bytes());
  file_.commit();
}

}  // namespace riffle
