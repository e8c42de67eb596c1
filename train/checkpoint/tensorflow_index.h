// The index of a TensorFlow checkpoint (V2, "tensor bundle"): which tensor lies where in which data file, and how the
// variables of an object-based checkpoint (TensorFlow 2) are called.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace riffle {

// A part of a partitioned variable: all of it but along `axes`' ranges.
struct TensorFlowSlice {
  static constexpr int64_t kAll = -1;
  std::vector<int64_t> starts, lengths;  // for each axis; length kAll: all of that axis, its start then 0
};

struct TensorFlowEntry {
  int64_t dtype = 0;  // TensorFlow's DataType
  std::vector<int64_t> shape;
  uint64_t shard = 0, offset = 0, size_bytes = 0;
  uint32_t masked_crc = 0;
  std::vector<TensorFlowSlice> slices;  // if any, the data are theirs, each under its slice_key()
};

struct TensorFlowIndex {
  uint64_t shards = 1;
  std::map<std::string, TensorFlowEntry> entries;  // those of slices too
};

// `name` stands for the file in messages.
TensorFlowIndex parse_tensorflow_index(std::string_view bytes, const std::string& name);

// The key of a slice's own entry, which is not text.
std::string slice_key(const std::string& tensor, const TensorFlowSlice& slice);
bool is_slice_key(const std::string& key);

// Of a serialised TrackableObjectGraph: the key of each attribute in the checkpoint -> its variable's full name. Keys
// without a name, and names that several keys share, are left out.
std::map<std::string, std::string> parse_object_graph(std::string_view bytes, const std::string& name);

}  // namespace riffle
