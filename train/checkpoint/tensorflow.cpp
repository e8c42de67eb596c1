// Reading TensorFlow's checkpoints: from the index's entries to tensors.
#include "train/checkpoint/tensorflow.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <utility>

#include "core/check.h"
#include "train/checkpoint/crc32c.h"
#include "train/checkpoint/protobuf_fields.h"
#include "train/checkpoint/tensorflow_index.h"

namespace riffle {
namespace {

constexpr int64_t kTextType = 7;  // DT_STRING
constexpr const char* kObjectGraphKey = "_CHECKPOINTABLE_OBJECT_GRAPH";

// TensorFlow's DataType (types.proto), of what HostTensor can hold.
std::optional<FileDType> file_dtype_of(int64_t dtype) {
  switch (dtype) {
    case 1:
      return FileDType::kF32;
    case 2:
      return FileDType::kF64;
    case 3:
      return FileDType::kI32;
    case 4:
      return FileDType::kU8;
    case 5:
      return FileDType::kI16;
    case 6:
      return FileDType::kI8;
    case 9:
      return FileDType::kI64;
    case 10:
      return FileDType::kBool;
    case 14:
      return FileDType::kBF16;
    case 17:
      return FileDType::kU16;
    case 19:
      return FileDType::kF16;
    case 22:
      return FileDType::kU32;
    case 23:
      return FileDType::kU64;
    case 24:
      return FileDType::kF8E5M2;
    case 25:
      return FileDType::kF8E4M3;
    default:
      return std::nullopt;
  }
}

const char* describe_dtype(int64_t dtype) {
  switch (dtype) {
    case kTextType:
      return "text";
    case 8:
      return "complex64";
    case 18:
      return "complex128";
    default:
      return "of a type that Riffle does not know";
  }
}

std::string_view view_of(const std::vector<uint8_t>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void verify_checksum(uint32_t crc, uint32_t stored_masked, const std::string& what) {
  if (!checksum_matches(crc, stored_masked)) fail(what, ": its checksum does not match; the data file is damaged");
}

// The texts of a tensor of `count` of them: their lengths as varints, the masked checksum of those lengths (as 32-bit
// numbers), then the texts. The entry's checksum covers the lengths as numbers and everything else as it is.
std::vector<std::string> decode_texts(std::string_view bytes, uint64_t count, uint32_t stored_masked,
                                      const std::string& what) {
  if (count > bytes.size()) fail(what, ": ", count, " texts do not fit into ", bytes.size(), " bytes");
  std::vector<uint64_t> lengths(count);
  uint32_t crc = 0;
  for (uint64_t& length : lengths) {
    if (!take_varint(bytes, length)) fail(what, ": its texts' lengths are invalid");
    const std::string_view number(reinterpret_cast<const char*>(&length), length <= UINT32_MAX ? 4 : 8);
    crc = crc32c(number, crc);
  }
  if (bytes.size() < sizeof(uint32_t)) fail(what, ": its texts are cut off");
  uint32_t stored_lengths_crc = 0;
  std::memcpy(&stored_lengths_crc, bytes.data(), sizeof stored_lengths_crc);
  verify_checksum(crc, stored_lengths_crc, what);
  verify_checksum(crc32c(bytes, crc), stored_masked, what);
  bytes.remove_prefix(sizeof stored_lengths_crc);

  std::vector<std::string> texts;
  for (const uint64_t length : lengths) {
    if (length > bytes.size()) fail(what, ": its texts are cut off");
    texts.emplace_back(bytes.substr(0, length));
    bytes.remove_prefix(length);
  }
  if (!bytes.empty()) fail(what, ": ", bytes.size(), " bytes follow its texts");
  return texts;
}

// The axis along which the slices part a tensor and their order along it. Only such partitions exist in practice
// (TensorFlow's partitioned variables have one partitioned axis); any other is refused.
struct Partition {
  size_t axis = 0;
  std::vector<TensorFlowSlice> slices;  // each with its length filled in, ascending
};

Partition partition_of(const TensorFlowEntry& entry, const std::string& what) {
  Partition partition{0, entry.slices};
  bool fits = true;
  std::optional<size_t> axis;
  for (const TensorFlowSlice& slice : entry.slices) {
    if (slice.starts.size() != entry.shape.size()) fail(what, ": one of its slices has a different rank");
    for (size_t i = 0; i < entry.shape.size(); ++i) {
      const bool all = slice.starts[i] == 0 && slice.lengths[i] == entry.shape[i];
      if (all || slice.lengths[i] == TensorFlowSlice::kAll) continue;
      fits = fits && axis.value_or(i) == i;
      axis = i;
    }
  }
  partition.axis = axis.value_or(0);
  fits = fits && (axis || entry.slices.size() == 1) && !entry.shape.empty();
  if (!fits) fail(what, " is partitioned along several axes; expected one (save it unpartitioned)");

  const size_t along = partition.axis;
  std::sort(partition.slices.begin(), partition.slices.end(),
            [along](const TensorFlowSlice& a, const TensorFlowSlice& b) { return a.starts[along] < b.starts[along]; });
  int64_t end = 0;
  for (TensorFlowSlice& slice : partition.slices) {
    const int64_t length = slice.lengths[along] == TensorFlowSlice::kAll ? entry.shape[along] : slice.lengths[along];
    if (slice.starts[along] != end || length < (entry.slices.size() > 1 ? 1 : 0) || length > entry.shape[along] - end)
      fail(what, ": its slices do not cover its ", shape_text(entry.shape), " elements, each once");
    end += length;
  }
  if (end != entry.shape[along]) fail(what, ": slices are missing from index ", end, " of axis ", along, " on");
  return partition;
}

class CheckpointReader {
 public:
  CheckpointReader(TensorFlowIndex index, const std::string& name, const OpenTensorFlowShard& open_shard)
      : index_(std::move(index)), name_(name), open_shard_(open_shard) {}

  TensorFile read() {
    file_.format = "TensorFlow checkpoint V2";
    for (const auto& [key, entry] : index_.entries) {
      if (is_slice_key(key)) continue;
      const std::string what = join(name_, ": tensor '", key, "'");
      if (key == kObjectGraphKey && entry.dtype == kTextType) {
        read_object_graph(entry, what);
      } else if (const auto dtype = file_dtype_of(entry.dtype)) {
        read_tensor(key, entry, *dtype, what);
      } else {
        file_.notes.push_back(join("'", key, "': skipped, it is ", describe_dtype(entry.dtype)));
        slices_used_ += entry.slices.size();
      }
    }
    if (slices_used_ != slices_stored())
      fail(name_, ": holds ", slices_stored(), " slices of partitioned tensors, of which ", slices_used_, " are used");
    if (!full_names_.empty()) rename_tensors();
    return std::move(file_);
  }

 private:
  struct OpenShard {
    TensorFlowShard shard;
    uint64_t unread_bytes = 0;  // no byte belongs to two tensors
  };

  size_t slices_stored() const {
    size_t count = 0;
    for (const auto& [key, entry] : index_.entries) count += is_slice_key(key) ? 1 : 0;
    return count;
  }

  // The bytes of one entry, within its data file.
  std::vector<uint8_t> read_bytes(const TensorFlowEntry& entry, const std::string& what) {
    auto it = shards_.find(entry.shard);
    if (it == shards_.end()) {
      const TensorFlowShard shard = open_shard_(entry.shard, index_.shards);
      it = shards_.emplace(entry.shard, OpenShard{shard, shard.size_bytes}).first;
    }
    OpenShard& open = it->second;
    if (entry.size_bytes > open.shard.size_bytes || entry.offset > open.shard.size_bytes - entry.size_bytes)
      fail(what, ": its ", entry.size_bytes, " bytes at byte ", entry.offset, " lie beyond the ", open.shard.size_bytes,
           " bytes of ", open.shard.name, "; was it truncated?");
    if (entry.size_bytes > open.unread_bytes)
      fail(what, ": the tensors in ", open.shard.name, " claim more bytes than it has");
    open.unread_bytes -= entry.size_bytes;
    std::vector<uint8_t> bytes(entry.size_bytes);
    if (!bytes.empty()) open.shard.read(entry.offset, bytes.data(), bytes.size());
    return bytes;
  }

  std::vector<uint8_t> read_numbers(const TensorFlowEntry& entry, FileDType dtype, const std::string& what) {
    int64_t elements = 0;
    uint64_t expected = 0;
    if (!count_elements(entry.shape, elements) ||
        __builtin_mul_overflow(static_cast<uint64_t>(elements), size_of(dtype), &expected))
      fail(what, ": shape ", shape_text(entry.shape), " is not possible");
    if (expected != entry.size_bytes)
      fail(what, ": ", shape_text(entry.shape), " ", dtype, " takes ", expected, " bytes, but its entry says ",
           entry.size_bytes);
    std::vector<uint8_t> bytes = read_bytes(entry, what);
    verify_checksum(crc32c(view_of(bytes)), entry.masked_crc, what);
    return bytes;
  }

  void read_tensor(const std::string& key, const TensorFlowEntry& entry, FileDType dtype, const std::string& what) {
    HostTensor tensor{dtype, entry.shape, {}};
    tensor.bytes = entry.slices.empty() ? read_numbers(entry, dtype, what) : read_slices(key, entry, dtype, what);
    file_.tensors.emplace(key, std::move(tensor));
  }

  // Puts a partitioned tensor together: rows of every slice, one after the other.
  std::vector<uint8_t> read_slices(const std::string& key, const TensorFlowEntry& entry, FileDType dtype,
                                   const std::string& what) {
    const Partition partition = partition_of(entry, what);
    std::vector<std::vector<uint8_t>> parts;
    size_t total = 0;
    for (const TensorFlowSlice& slice : partition.slices) {
      const auto stored = index_.entries.find(slice_key(key, slice));
      if (stored == index_.entries.end()) fail(what, ": the data of one of its slices are missing in the index");
      std::vector<int64_t> shape = entry.shape;
      if (slice.lengths[partition.axis] != TensorFlowSlice::kAll) shape[partition.axis] = slice.lengths[partition.axis];
      if (stored->second.shape != shape || stored->second.dtype != entry.dtype)
        fail(what, ": one of its slices is ", shape_text(stored->second.shape), "; expected ", shape_text(shape), " ",
             dtype);
      parts.push_back(read_numbers(stored->second, dtype, what));
      total += parts.back().size();
      ++slices_used_;
    }
    if (total == 0) return {};

    uint64_t rows = 1;
    for (size_t axis = 0; axis < partition.axis; ++axis) rows *= static_cast<uint64_t>(entry.shape[axis]);
    std::vector<uint8_t> whole;
    whole.reserve(total);
    for (uint64_t row = 0; row < rows; ++row) {
      for (const std::vector<uint8_t>& part : parts) {
        const size_t row_bytes = part.size() / rows;
        const auto begin = part.begin() + static_cast<std::ptrdiff_t>(row * row_bytes);
        whole.insert(whole.end(), begin, begin + static_cast<std::ptrdiff_t>(row_bytes));
      }
    }
    return whole;
  }

  void read_object_graph(const TensorFlowEntry& entry, const std::string& what) {
    if (!entry.shape.empty()) fail(what, " is ", shape_text(entry.shape), "; expected one text");
    const std::vector<uint8_t> bytes = read_bytes(entry, what);
    full_names_ = parse_object_graph(decode_texts(view_of(bytes), 1, entry.masked_crc, what).front(), what);
  }

  void rename_tensors() {
    TensorMap renamed;
    size_t count = 0;
    for (auto& [key, tensor] : file_.tensors) {
      const auto it = full_names_.find(key);
      // Slots are called after their variables; under their keys they are known for what they are.
      const bool slot = key.find("/.OPTIMIZER_SLOT/") != std::string::npos || key.rfind("optimizer/", 0) == 0;
      const bool has_name = !slot && it != full_names_.end() && file_.tensors.count(it->second) == 0;
      renamed.emplace(has_name ? it->second : key, std::move(tensor));
      count += has_name ? 1 : 0;
    }
    file_.tensors = std::move(renamed);
    file_.notes.push_back(join("object-based checkpoint: ", count, " of ", file_.tensors.size(),
                               " tensors are called by their variables' full names"));
  }

  TensorFlowIndex index_;
  const std::string& name_;
  const OpenTensorFlowShard& open_shard_;
  std::map<uint64_t, OpenShard> shards_;
  std::map<std::string, std::string> full_names_;  // of keys
  size_t slices_used_ = 0;
  TensorFile file_;
};

}  // namespace

TensorFile parse_tensorflow(std::string_view index, const std::string& name, const OpenTensorFlowShard& open_shard) {
  return CheckpointReader(parse_tensorflow_index(index, name), name, open_shard).read();
}

}  // namespace riffle
