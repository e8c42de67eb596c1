// Reading LevelDB's tables. The footer leads to the index block, whose values lead to the data blocks. Blocks must follow
// one another and keys ascend, as LevelDB writes them; so no byte is expanded twice.
#include "train/checkpoint/leveldb_table.h"

#include <cstdint>
#include <cstring>

#include "core/check.h"
#include "train/checkpoint/crc32c.h"
#include "train/checkpoint/protobuf_fields.h"

namespace riffle {
namespace {

constexpr uint64_t kMagic = 0xdb4775248b80fb57;
constexpr size_t kFooterBytes = 48, kTrailerBytes = 5, kRestartBytes = 4;
// Keys are stored without the prefix that they share with their predecessor, all of it at least every 16th time.
constexpr size_t kMaxExpansion = 64, kExpansionAllowance = 1 << 20;

using Entries = std::vector<std::pair<std::string, std::string_view>>;

template <class T>
T little_endian(const char* data) {
  T value;
  std::memcpy(&value, data, sizeof value);
  return value;
}

struct BlockHandle {
  uint64_t offset = 0, size = 0;  // without the trailer
};

bool take_handle(std::string_view& bytes, BlockHandle& handle) {
  return take_varint(bytes, handle.offset) && take_varint(bytes, handle.size);
}

class TableParser {
 public:
  TableParser(std::string_view bytes, const std::string& name) : bytes_(bytes), name_(name) {}

  Entries parse() {
    Entries index, entries;
    parse_block(index_handle(), index);
    uint64_t end = 0;
    for (auto& [key, value] : index) {
      BlockHandle handle;
      if (!take_handle(value, handle)) fail(name_, ": its index block holds an invalid reference");
      if (handle.offset < end) fail(name_, ": two of its blocks overlap at byte ", handle.offset);
      parse_block(handle, entries);
      end = handle.offset + handle.size;
    }
    return entries;
  }

 private:
  BlockHandle index_handle() const {
    if (bytes_.size() < kFooterBytes)
      fail(name_, " is not a LevelDB table (as TensorFlow's .index files are): it has only ", bytes_.size(), " bytes");
    std::string_view footer = bytes_.substr(bytes_.size() - kFooterBytes);
    if (little_endian<uint64_t>(footer.data() + kFooterBytes - sizeof kMagic) != kMagic)
      fail(name_, " is not a LevelDB table (as TensorFlow's .index files are), or truncated: its last 8 bytes are not",
           " the format's mark");
    BlockHandle meta_index, index;
    if (!take_handle(footer, meta_index) || !take_handle(footer, index))
      fail(name_, ": its footer holds an invalid reference");
    return index;
  }

  // Checked: bounds, compression, checksum.
  std::string_view block(const BlockHandle& handle) const {
    const uint64_t available = bytes_.size() - kFooterBytes;
    if (handle.size > available || available - handle.size < kTrailerBytes ||
        handle.offset > available - handle.size - kTrailerBytes)
      fail(name_, ": a block of ", handle.size, " bytes at byte ", handle.offset, " lies beyond the file's ",
           bytes_.size(), " bytes");
    const std::string_view with_type = bytes_.substr(handle.offset, handle.size + 1);
    const auto stored = little_endian<uint32_t>(with_type.data() + with_type.size());
    if (!checksum_matches(crc32c(with_type), stored))
      fail(name_, ": the checksum of the block at byte ", handle.offset, " does not match; the file is damaged");
    const int type = static_cast<uint8_t>(with_type.back());
    if (type == 1)
      fail(name_, ": its blocks are compressed with Snappy; expected uncompressed ones, as TensorFlow writes");
    if (type != 0) fail(name_, ": the block at byte ", handle.offset, " has the unknown compression type ", type);
    return with_type.substr(0, handle.size);
  }

  // Entries (shared, unshared and value size; rest of the key; value), then the restart points, which only searches need.
  void parse_block(const BlockHandle& handle, Entries& entries) {
    std::string_view left = block(handle);
    const std::string where = join(name_, ": the block at byte ", handle.offset);
    if (left.size() < kRestartBytes) fail(where, " is too short");
    const auto restarts = little_endian<uint32_t>(left.data() + left.size() - kRestartBytes);
    if (restarts > left.size() / kRestartBytes - 1) fail(where, " claims ", restarts, " restart points");
    left.remove_suffix((size_t{restarts} + 1) * kRestartBytes);

    for (std::string key; !left.empty();) {
      uint64_t shared = 0, unshared = 0, value_size = 0;
      if (!take_varint(left, shared) || !take_varint(left, unshared) || !take_varint(left, value_size) ||
          shared > key.size() || unshared > left.size() || value_size > left.size() - unshared)
        fail(where, " holds an invalid entry");
      key.resize(shared);
      key.append(left.substr(0, unshared));
      if (!entries.empty() && key <= entries.back().first) fail(where, ": its keys do not ascend");
      expanded_ += key.size();
      if (expanded_ > kMaxExpansion * bytes_.size() + kExpansionAllowance)
        fail(name_, ": its keys expand to more than ", kMaxExpansion, " times the file; it is damaged or hostile");
      entries.emplace_back(key, left.substr(unshared, value_size));
      left.remove_prefix(unshared + value_size);
    }
  }

  std::string_view bytes_;
  const std::string& name_;
  size_t expanded_ = 0;  // bytes of keys so far
};

}  // namespace

std::vector<std::pair<std::string, std::string_view>> parse_leveldb_table(std::string_view bytes,
                                                                          const std::string& name) {
  return TableParser(bytes, name).parse();
}

}  // namespace riffle
