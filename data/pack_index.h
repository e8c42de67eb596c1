// The index of packed data, a text file: what it was made from, whether its classes are just numbers, their names, shards
// with their sizes and a checksum that tells whether their source changed, and a line for each image in its order:
//   LABEL SHARD OFFSET SIZE CRC32 MEMBER ORIGINAL-NAME
// The last line is a checksum of all others.
#pragma once

#include <string>

#include "data/listing.h"

namespace riffle {

constexpr const char* kPackIndex = "riffle-index.txt";
constexpr const char* kPackMagic = "riffle-pack 2";

Listing read_pack_index(const std::string& folder);

}  // namespace riffle
