// JPEG and PNG decoders behind decode_image(); each takes bytes whose format is already known.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "data/image.h"

namespace riffle {

// By its first bytes.
bool is_jpeg(const uint8_t* bytes, size_t size);

// What reads a JPEG's Huffman codes: JpegEntropy where it can, or libjpeg's own, to compare with. No pixel differs.
enum class HuffmanDecoder { kOurs, kLibjpegs };

// `channels`: 1 or 3. Errors start with `path`.
Image decode_jpeg(const uint8_t* bytes, size_t size, const std::string& path, int channels,
                  TruncatedImages truncated = TruncatedImages::kError, HuffmanDecoder huffman = HuffmanDecoder::kOurs);
Image decode_png(const uint8_t* bytes, size_t size, const std::string& path, int channels,
                 TruncatedImages truncated = TruncatedImages::kError);

// Refuses an image so large that only a broken header explains it, before anything is allocated for it.
void check_image_size(const std::string& path, uint64_t height, uint64_t width);

// ITU-R 601 luma in 16-bit fixed point, as Pillow's convert("L").
inline uint8_t luma(uint8_t red, uint8_t green, uint8_t blue) {
  return static_cast<uint8_t>((red * 19595u + green * 38470u + blue * 7471u + 0x8000u) >> 16);
}

}  // namespace riffle
