// A PNG that ends too early, closed so that libpng reads what there is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace riffle {

constexpr size_t kPngEndChunk = 12;  // bytes of the IEND chunk at the end

// The file up to its last piece of image data, that chunk's length and checksum made to fit, and an IEND chunk. Empty where
// the file is not truncated, or ends before its image data.
std::vector<uint8_t> closed_png(const uint8_t* bytes, size_t size);

}  // namespace riffle
