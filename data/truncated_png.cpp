// Chunks of a PNG: length, type, contents, CRC-32 of type and contents; numbers are big-endian.
#include "data/truncated_png.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>

namespace riffle {
namespace {

constexpr size_t kSignature = 8, kHeader = 8, kChecksum = 4;

uint32_t big_endian(const uint8_t* bytes) {
  return uint32_t{bytes[0]} << 24 | uint32_t{bytes[1]} << 16 | uint32_t{bytes[2]} << 8 | bytes[3];
}

void append_big_endian(std::vector<uint8_t>& file, size_t value) {
  for (const int shift : {24, 16, 8, 0}) file.push_back(static_cast<uint8_t>(value >> shift));
}

bool has_type(const uint8_t* chunk, const char* type) {
  return std::memcmp(chunk + 4, type, 4) == 0;
}

// `type_and_contents`: as they lie in a file.
void append_chunk(std::vector<uint8_t>& file, const uint8_t* type_and_contents, size_t contents) {
  append_big_endian(file, contents);
  file.insert(file.end(), type_and_contents, type_and_contents + 4 + contents);
  append_big_endian(file, static_cast<uint32_t>(::crc32_z(0, type_and_contents, 4 + contents)));
}

}  // namespace

std::vector<uint8_t> closed_png(const uint8_t* bytes, size_t size) {
  if (size < kSignature) return {};
  bool has_data = false;
  size_t at = kSignature;
  while (size - at >= kHeader) {
    const size_t whole = kHeader + size_t{big_endian(bytes + at)} + kChecksum;
    has_data = has_data || has_type(bytes + at, "IDAT");
    if (whole > size - at) break;
    if (has_type(bytes + at, "IEND")) return {};
    at += whole;
  }
  if (!has_data) return {};
  std::vector<uint8_t> closed(bytes, bytes + at);
  if (size - at >= kHeader && has_type(bytes + at, "IDAT"))
    append_chunk(closed, bytes + at + 4, std::min<size_t>(big_endian(bytes + at), size - at - kHeader));
  const uint8_t end[] = {'I', 'E', 'N', 'D'};
  append_chunk(closed, end, 0);
  return closed;
}

}  // namespace riffle
