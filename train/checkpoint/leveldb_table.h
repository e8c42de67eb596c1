// A table in LevelDB's format: sorted keys with values. TensorFlow's checkpoints use one as their index.
// The format: https://github.com/google/leveldb/blob/main/doc/table_format.md
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace riffle {

// All entries in the order of their keys, which are unique; the values are views into `bytes`. Throws for anything
// invalid, checksums included, and for compressed blocks, which TensorFlow does not write. `name` stands for the file in
// messages.
std::vector<std::pair<std::string, std::string_view>> parse_leveldb_table(std::string_view bytes,
                                                                          const std::string& name);

}  // namespace riffle
