// Decoding of the index's messages. Their definitions are TensorFlow's: tensor_bundle.proto, tensor_shape.proto,
// tensor_slice.proto, trackable_object_graph.proto; the field numbers below are from there.
#include "train/checkpoint/tensorflow_index.h"

#include <algorithm>

#include "core/check.h"
#include "train/checkpoint/leveldb_table.h"
#include "train/checkpoint/protobuf_fields.h"

namespace riffle {
namespace {

constexpr uint64_t kOurVersion = 1;  // the version of the format that this reader knows

// VersionDef: 2 = min_consumer.
void check_version(std::string_view message, const std::string& what) {
  ProtobufFields fields(message, what);
  for (ProtobufField field; fields.next(field);) {
    if (field.number == 2 && fields.number() > kOurVersion)
      fail(what, ": needs a reader of version ", fields.number(), "; this one knows version ", kOurVersion);
  }
}

// BundleHeaderProto: 1 = num_shards, 2 = endianness, 3 = version.
uint64_t parse_header(std::string_view message, const std::string& what) {
  uint64_t shards = 0;
  ProtobufFields fields(message, what);
  for (ProtobufField field; fields.next(field);) {
    if (field.number == 1) shards = fields.number();
    if (field.number == 2 && fields.number() != 0)
      fail(what, ": its data are big-endian; expected little-endian ones (restore and save it on such a machine)");
    if (field.number == 3) check_version(fields.bytes(), what);
  }
  if (shards == 0 || shards > INT32_MAX) fail(what, ": claims ", shards, " data files");
  return shards;
}

// TensorShapeProto: 2 = dim {1 = size}, 3 = unknown_rank.
std::vector<int64_t> parse_shape(std::string_view message, const std::string& what) {
  std::vector<int64_t> shape;
  ProtobufFields fields(message, what);
  for (ProtobufField field; fields.next(field);) {
    if (field.number == 3 && fields.number() != 0) fail(what, ": its shape is not known");
    if (field.number != 2) continue;
    int64_t extent = 0;
    ProtobufFields dimension(fields.bytes(), what);
    for (ProtobufField part; dimension.next(part);)
      if (part.number == 1) extent = static_cast<int64_t>(dimension.number());
    shape.push_back(extent);
  }
  return shape;
}

// TensorSliceProto: 1 = extent {1 = start, 2 = length; without a length: all}.
TensorFlowSlice parse_slice(std::string_view message, const std::string& what) {
  TensorFlowSlice slice;
  ProtobufFields fields(message, what);
  for (ProtobufField field; fields.next(field);) {
    if (field.number != 1) continue;
    int64_t start = 0, length = TensorFlowSlice::kAll;
    ProtobufFields extent(fields.bytes(), what);
    for (ProtobufField part; extent.next(part);) {
      if (part.number == 1) start = static_cast<int64_t>(extent.number());
      if (part.number == 2) length = static_cast<int64_t>(extent.number());
    }
    slice.starts.push_back(start);
    slice.lengths.push_back(length);
  }
  return slice;
}

// BundleEntryProto: 1 = dtype, 2 = shape, 3 = shard_id, 4 = offset, 5 = size, 6 = crc32c, 7 = slices.
TensorFlowEntry parse_entry(std::string_view message, const std::string& what) {
  TensorFlowEntry entry;
  ProtobufFields fields(message, what);
  for (ProtobufField field; fields.next(field);) {
    switch (field.number) {
      case 1:
        entry.dtype = static_cast<int64_t>(fields.number());
        break;
      case 2:
        entry.shape = parse_shape(fields.bytes(), what);
        break;
      case 3:
        entry.shard = fields.number();
        break;
      case 4:
        entry.offset = fields.number();
        break;
      case 5:
        entry.size_bytes = fields.number();
        break;
      case 6:
        entry.masked_crc = static_cast<uint32_t>(fields.number());
        break;
      case 7:
        entry.slices.push_back(parse_slice(fields.bytes(), what));
        break;
      default:
        break;
    }
  }
  return entry;
}

// Of text in TensorFlow's OrderedCode: zero and 255 escaped, an end mark.
std::string ordered_text(const std::string& text) {
  std::string code;
  for (const char c : text) {
    code += c;
    if (c == '\0') code += '\xff';
    if (c == '\xff') code += '\0';
  }
  return code + std::string("\0\1", 2);
}

// A count >= 0 in OrderedCode: how many bytes follow, then those, the most significant first.
std::string ordered_count(uint64_t count) {
  std::string digits;
  for (; count > 0; count >>= 8) digits.insert(digits.begin(), static_cast<char>(count & 0xff));
  return static_cast<char>(digits.size()) + digits;
}

// A signed number in OrderedCode: n bytes hold 7 n - 1 bits and a sign, big-endian; of the leading bits the first n tell
// n, inverted for negative numbers.
std::string ordered_number(int64_t value) {
  const uint64_t magnitude = value < 0 ? ~static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
  int bits = 0;
  while (bits < 64 && magnitude >> bits != 0) ++bits;
  const int length = bits / 7 + 1;
  std::string code(static_cast<size_t>(length), value < 0 ? '\xff' : '\0');
  for (int i = 0; i < std::min(length, 8); ++i)
    code[static_cast<size_t>(length - 1 - i)] = static_cast<char>((value >> (8 * i)) & 0xff);
  for (int i = 0; i < length; ++i)
    code[static_cast<size_t>(i / 8)] = static_cast<char>(code[static_cast<size_t>(i / 8)] ^ (0x80 >> (i % 8)));
  return code;
}

// Message types of the object graph, by how deep they are nested.
struct NamedKey {
  std::string full_name, key;
};

// SerializedTensor: 2 = full_name, 3 = checkpoint_key.
NamedKey parse_attribute(std::string_view message, const std::string& what) {
  NamedKey result;
  ProtobufFields fields(message, what);
  for (ProtobufField field; fields.next(field);) {
    if (field.number == 2) result.full_name = fields.bytes();
    if (field.number == 3) result.key = fields.bytes();
  }
  return result;
}

}  // namespace

TensorFlowIndex parse_tensorflow_index(std::string_view bytes, const std::string& name) {
  TensorFlowIndex index;
  bool has_header = false;
  for (const auto& [key, value] : parse_leveldb_table(bytes, name)) {
    if (key.empty()) {
      index.shards = parse_header(value, join(name, ": header"));
      has_header = true;
    } else {
      const std::string what = is_slice_key(key) ? join(name, ": a slice") : join(name, ": tensor '", key, "'");
      const TensorFlowEntry& entry = index.entries.emplace(key, parse_entry(value, what)).first->second;
      if (entry.shard >= index.shards)
        fail(what, ": is in data file ", entry.shard, ", but there are only ", index.shards);
    }
  }
  if (!has_header) fail(name, " is a LevelDB table, but has no header as TensorFlow's checkpoints do");
  return index;
}

std::string slice_key(const std::string& tensor, const TensorFlowSlice& slice) {
  std::string key = ordered_count(0) + ordered_text(tensor) + ordered_count(slice.starts.size());
  for (size_t axis = 0; axis < slice.starts.size(); ++axis)
    key += ordered_number(slice.starts[axis]) + ordered_number(slice.lengths[axis]);
  return key;
}

bool is_slice_key(const std::string& key) {
  return key.substr(0, 1) == ordered_count(0);
}

// TrackableObjectGraph: 1 = nodes {2 = attributes}.
std::map<std::string, std::string> parse_object_graph(std::string_view bytes, const std::string& name) {
  std::map<std::string, std::string> names;
  std::map<std::string, int> uses;
  ProtobufFields graph(bytes, name);
  for (ProtobufField node; graph.next(node);) {
    if (node.number != 1) continue;
    ProtobufFields object(graph.bytes(), name);
    for (ProtobufField attribute; object.next(attribute);) {
      if (attribute.number != 2) continue;
      NamedKey named = parse_attribute(object.bytes(), name);
      if (named.full_name.empty() || named.key.empty()) continue;
      if (names.emplace(named.key, named.full_name).second) ++uses[named.full_name];
    }
  }
  for (auto it = names.begin(); it != names.end();) it = uses[it->second] > 1 ? names.erase(it) : std::next(it);
  return names;
}

}  // namespace riffle
