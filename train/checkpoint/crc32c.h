// CRC-32C (Castagnoli), which guards LevelDB tables and TensorFlow's checkpoints.
#pragma once

#include <cstdint>
#include <string_view>

namespace riffle {

// Of `bytes` appended to what `crc` is already the checksum of.
uint32_t crc32c(std::string_view bytes, uint32_t crc = 0);

// What files store: a checksum of data that contains checksums would lose its strength, so stored ones are disguised.
uint32_t masked_crc32c(uint32_t crc);

// Whether `stored` is the disguised `crc`. Always, in fuzz targets, whose inputs would get no further otherwise.
bool checksum_matches(uint32_t crc, uint32_t stored);

}  // namespace riffle
