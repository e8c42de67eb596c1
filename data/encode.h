// Encoders, for packing data sets: JPEG where images were made smaller, PNG where pixels must stay as they are.
#pragma once

#include <cstdint>
#include <vector>

#include "data/image.h"

namespace riffle {

// Baseline JPEG, 4:2:0, islow DCT, optimised Huffman tables. quality: 1 to 100, as libjpeg defines it.
std::vector<uint8_t> encode_jpeg(const Image& image, int quality);
std::vector<uint8_t> encode_png(const Image& image);

}  // namespace riffle
