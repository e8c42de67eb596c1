// JPEG's markers up to the frame header, and PNG's IHDR chunk.
#include "data/probe.h"

#include <cstring>

namespace riffle {
namespace {

int big_endian(const uint8_t* bytes, int count) {
  uint32_t value = 0;
  for (int i = 0; i < count; ++i) value = value << 8 | bytes[i];
  return value > INT32_MAX ? 0 : static_cast<int>(value);
}

// SOF0 to SOF15, without DHT, JPG and DAC, which share their range.
bool is_frame_header(uint8_t marker) {
  return marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC;
}

void probe_jpeg(const uint8_t* bytes, size_t size, ImageProbe& probe) {
  for (size_t at = 2; at + 4 <= size;) {
    if (bytes[at] != 0xFF) {  // bytes between segments, which decoders skip
      ++at;
      continue;
    }
    const uint8_t marker = bytes[at + 1];
    if (marker == 0xFF) {  // padding
      ++at;
      continue;
    }
    if (marker == 0 || marker == 1 || (marker >= 0xD0 && marker <= 0xD8)) {  // without contents
      at += 2;
      continue;
    }
    if (marker == 0xD9 || marker == 0xDA) return;  // the end, or picture data
    const auto length = static_cast<size_t>(big_endian(bytes + at + 2, 2));
    if (is_frame_header(marker) && at + 10 <= size) {
      probe.bits = bytes[at + 4];
      probe.height = big_endian(bytes + at + 5, 2);
      probe.width = big_endian(bytes + at + 7, 2);
      probe.components = bytes[at + 9];
      probe.progressive = marker == 0xC2 || marker == 0xC6 || marker == 0xCA || marker == 0xCE;
      return;
    }
    at += 2 + length;
  }
}

void probe_png(const uint8_t* bytes, size_t size, ImageProbe& probe) {
  if (size < 29 || std::memcmp(bytes + 12, "IHDR", 4) != 0) return;
  probe.width = big_endian(bytes + 16, 4);
  probe.height = big_endian(bytes + 20, 4);
  probe.bits = bytes[24];
  const int colour = bytes[25];
  probe.palette = colour == 3;
  probe.components = colour == 0 ? 1 : colour == 4 ? 2 : colour == 6 ? 4 : 3;
}

}  // namespace

ImageProbe probe_image(const uint8_t* bytes, size_t size) {
  ImageProbe probe;
  if (size >= 3 && std::memcmp(bytes, "\xFF\xD8\xFF", 3) == 0) {
    probe.format = ImageProbe::Format::kJpeg;
    probe_jpeg(bytes, size, probe);
  } else if (size >= 8 && std::memcmp(bytes, "\x89PNG\r\n\x1A\n", 8) == 0) {
    probe.format = ImageProbe::Format::kPng;
    probe_png(bytes, size, probe);
  }
  return probe;
}

}  // namespace riffle
