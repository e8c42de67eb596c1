// TensorFlow's checkpoints, format V2: PREFIX.index and PREFIX.data-00000-of-00001, as tf.train.Saver and
// tf.train.Checkpoint write them. Read without TensorFlow, and without its protocol buffers' library.
// The format: tensorflow/core/util/tensor_bundle and tensorflow/core/protobuf/tensor_bundle.proto in TensorFlow's sources
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "train/checkpoint/tensor_file.h"

namespace riffle {

// One data file: how large it is, and any range of it.
struct TensorFlowShard {
  std::string name;
  uint64_t size_bytes = 0;
  std::function<void(uint64_t offset, void* destination, size_t size)> read;
};
using OpenTensorFlowShard = std::function<TensorFlowShard(uint64_t shard, uint64_t shards)>;

// `path`: the prefix, one of the files, or a folder whose file "checkpoint" names the newest prefix. Tensors keep
// TensorFlow's layouts (filters kH,kW,I,O; matrices I,O). Of an object-based checkpoint (TensorFlow 2) each variable gets
// its full name where the checkpoint tells one; otherwise its key stays. Partitioned variables are put together. Texts and
// types that FileDType lacks are left out, with a note. Checksums are verified.
TensorFile read_tensorflow(const std::string& path);

// The same, of an index in memory; `name` stands for it in messages. Nothing is allocated that the data files do not hold.
TensorFile parse_tensorflow(std::string_view index, const std::string& name, const OpenTensorFlowShard& open_shard);

}  // namespace riffle
