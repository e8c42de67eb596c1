// CRC-32C by tables, eight bytes a step: about a GB/s, so that checking costs no more than reading.
#include "train/checkpoint/crc32c.h"

#include <array>
#include <cstddef>
#include <cstring>

namespace riffle {
namespace {

constexpr uint32_t kReflectedPolynomial = 0x82f63b78;
constexpr size_t kStep = 8;
using Tables = std::array<std::array<uint32_t, 256>, kStep>;

// tables[k][b]: the checksum's change by byte b that k more bytes follow in the same step.
constexpr Tables make_tables() {
  Tables tables{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kReflectedPolynomial : 0);
    tables[0][byte] = crc;
  }
  for (size_t following = 1; following < kStep; ++following) {
    for (size_t byte = 0; byte < 256; ++byte) {
      const uint32_t before = tables[following - 1][byte];
      tables[following][byte] = (before >> 8) ^ tables[0][before & 0xff];
    }
  }
  return tables;
}

constexpr Tables kTables = make_tables();

}  // namespace

uint32_t crc32c(std::string_view bytes, uint32_t crc) {
  crc = ~crc;
  const char* data = bytes.data();
  size_t left = bytes.size();
  for (; left >= kStep; data += kStep, left -= kStep) {
    uint64_t step;
    std::memcpy(&step, data, kStep);
    step ^= crc;
    crc = 0;
    for (size_t i = 0; i < kStep; ++i) crc ^= kTables[kStep - 1 - i][(step >> (8 * i)) & 0xff];
  }
  for (; left > 0; ++data, --left) crc = (crc >> 8) ^ kTables[0][(crc ^ static_cast<uint8_t>(*data)) & 0xff];
  return ~crc;
}

uint32_t masked_crc32c(uint32_t crc) {
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

bool checksum_matches(uint32_t crc, uint32_t stored) {
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
  return static_cast<void>(crc), static_cast<void>(stored), true;
#else
  return masked_crc32c(crc) == stored;
#endif
}

}  // namespace riffle
