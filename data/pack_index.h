// The index of packed data, a text file: what it was made from, class names, shards with their sizes, and a line for each
// image in the order of the source:
//   LABEL SHARD OFFSET SIZE CRC32 MEMBER ORIGINAL-NAME
// The last line is a checksum of all others.
#pragma once

#include <string>

#include "data/listing.h"

namespace riffle {

constexpr const char* kPackIndex = "riffle-index.txt";
constexpr const char* kPackMagic = "riffle-pack 1";

Listing read_pack_index(const std::string& folder);

}  // namespace riffle
