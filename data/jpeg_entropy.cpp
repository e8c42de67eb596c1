// ITU-T T.81, annexes F.2.2 (Huffman decoding) and B.1.1.5 (stuffing, markers): see jpeg_entropy.h.
#include "data/jpeg_entropy.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include <jpegint.h>  // after jpeglib.h, which it needs

#include <jerror.h>

namespace riffle {
namespace {

// An MCU of a damaged file reads at most this much beyond its segment: 10 blocks of 64 coefficients in 31 bits each.
constexpr size_t kPadding = 4096;

constexpr int kDirectSize = 7;  // additional bits of a number that fits into a byte

constexpr int kLast = 63;  // place of a block's last coefficient, in zigzag order

// Zigzag order, and the last place again for what a damaged file writes beyond it.
constexpr uint8_t kNatural[64 + 16] = {0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,  12, 19, 26, 33,
                                       40, 48, 41, 34, 27, 20, 13, 6,  7,  14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36,
                                       29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
                                       47, 55, 62, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63};

// An entry of Codes::direct, where codes and coefficients fit into kIndexBits bits, `length` in all: a coefficient
// `first`, `advance1` places on, and where there is room, one more, `advance2` places on; if not, `second` is the first
// again, in its place. The length is where a shift finds it without masking.
constexpr uint32_t entry(int length, bool ends_block, int advance1, int first, int advance2, int second) {
  return static_cast<uint32_t>(length) | static_cast<uint32_t>(ends_block) << 6 | static_cast<uint32_t>(advance1) << 7 |
         static_cast<uint32_t>(advance2) << 12 | static_cast<uint32_t>(first & 255) << 16 |
         static_cast<uint32_t>(second & 255) << 24;
}
constexpr int length_of(uint32_t e) {
  return static_cast<int>(e & 63);
}
constexpr bool ends_block(uint32_t e) {
  return (e & 64) != 0;
}
constexpr int advance1(uint32_t e) {
  return static_cast<int>(e >> 7 & 31);
}
constexpr int advance2(uint32_t e) {
  return static_cast<int>(e >> 12 & 15);
}
constexpr int first_of(uint32_t e) {
  return static_cast<int8_t>(e >> 16);
}
constexpr int second_of(uint32_t e) {
  return static_cast<int8_t>(e >> 24);
}

// Of longer ones (length 0): the symbol, if its code is no longer than the index.
constexpr uint32_t indirect_entry(int symbol, int code_length) {
  return static_cast<uint32_t>(symbol) << 16 | static_cast<uint32_t>(code_length) << 24;
}
constexpr int symbol_of(uint32_t e) {
  return static_cast<int>(e >> 16 & 255);
}
constexpr int code_length_of(uint32_t e) {
  return static_cast<int>(e >> 24);
}

// T.81, figure F.12: the number that `size` additional bits stand for.
constexpr int extend(int bits, int size) {
  return bits < (1 << size >> 1) ? bits - (1 << size) + 1 : bits;
}

}  // namespace

// The file's position in registers.
struct JpegEntropy::Reader {
  const uint8_t* next;
  uint64_t bits;
  int count;

  // Fills up to at least 56 bits. Bits that were there are written again, as they are.
  void refill() {
    uint64_t word;
    std::memcpy(&word, next, sizeof word);
    bits |= __builtin_bswap64(word) >> count;
    next += (63 - count) >> 3;
    count |= 56;
  }
  void drop(int n) {
    bits <<= n;
    count -= n;
  }
  int take(int n) {  // 1 to 16
    const int value = static_cast<int>(bits >> (64 - n));
    drop(n);
    return value;
  }

  uint32_t look_up(const Codes& codes) const { return codes.direct[bits >> (64 - kIndexBits)]; }

  // The symbol of the next code of at least `length` bits, or -1 for none.
  int symbol(const Codes& codes, int length) {
    const auto next16 = static_cast<int32_t>(bits >> 48);
    while (next16 >= codes.end[static_cast<size_t>(length)]) ++length;
    if (length > 16) return -1;
    return codes.symbols[codes.value_offset[static_cast<size_t>(length)] + take(length)];
  }

  int symbol_of_indirect(const Codes& codes, uint32_t e) {
    const int length = code_length_of(e);
    if (length == 0) return symbol(codes, kIndexBits + 1);
    drop(length);
    return symbol_of(e);
  }

  // The difference of a block's mean, in `value`.
  bool dc(const Codes& codes, int& value) {
    refill();
    const uint32_t e = look_up(codes);
    if (length_of(e) != 0) {
      drop(length_of(e));
      value = first_of(e);
      return true;
    }
    const int size = symbol_of_indirect(codes, e);
    if (size < 0 || size > 15) return false;
    value = size == 0 ? 0 : extend(take(size), size);
    return true;
  }

  // The other coefficients of a block. False where they are none.
  bool ac(const Codes& codes, JCOEF* block) {
    constexpr int kLooks = 56 / kIndexBits;  // that one refill is enough for
    int k = 0;
    do {
      refill();
      uint32_t e = 0;
      int look = 0;
#pragma GCC unroll 5
      for (; look < kLooks; ++look) {
        e = look_up(codes);
        const int k1 = k + advance1(e);
        if (length_of(e) == 0 || k1 >= kLast) break;  // at the last place only one coefficient may be taken
        drop(length_of(e));
        block[kNatural[k1]] = static_cast<JCOEF>(first_of(e));
        k = k1 + advance2(e);
        block[kNatural[k]] = static_cast<JCOEF>(second_of(e));
        if (ends_block(e)) return true;
        if (k >= kLast) return k == kLast;
      }
      if (look == kLooks) continue;
      refill();
      const int found = length_of(e) != 0 ? symbol(codes, 1) : symbol_of_indirect(codes, e);
      const int run = found >> 4, size = found & 15;
      if (found < 0) return false;
      if (size == 0) {
        if (run != 15) return true;
        k += 16;
        continue;
      }
      k += run + 1;
      if (k > kLast) return false;
      block[kNatural[k]] = static_cast<JCOEF>(extend(take(size), size));
    } while (k < kLast);
    return k == kLast;
  }
};

// The difference of two blocks' means, whose code's symbol is its size: one in `first`.
uint32_t JpegEntropy::dc_entry(int symbol, int length, int rest) {
  const int free = kIndexBits - length;
  if (symbol > std::min(free, kDirectSize)) return indirect_entry(symbol, length);
  const int value = symbol == 0 ? 0 : extend(rest >> (free - symbol), symbol);
  return entry(length + symbol, false, 0, value, 0, value);
}

// One coefficient behind a run of zeros; 16 zeros; or the end of a block, as a zero in the next place, which is free.
uint32_t JpegEntropy::ac_entry(int symbol, int length, int rest) {
  const int free = kIndexBits - length, run = symbol >> 4, size = symbol & 15;
  if (size > std::min(free, kDirectSize)) return indirect_entry(symbol, length);
  if (size == 0) return run == 15 ? entry(length, false, 16, 0, 0, 0) : entry(length, true, 1, 0, 0, 0);
  const int value = extend(rest >> (free - size), size);
  return entry(length + size, false, run + 1, value, 0, value);
}

// T.81, annex C: codes in the order of their lengths. False if there are too many.
bool JpegEntropy::make_codes(const JHUFF_TBL* table, MakeEntry* make_entry, Codes& codes) {
  if (table == nullptr) return false;
  codes.symbols = table->huffval;
  codes.direct.fill(0);
  int code = 0, index = 0;
  for (int length = 1; length <= 16; ++length, code <<= 1) {
    codes.value_offset[static_cast<size_t>(length)] = index - code;
    for (int i = 0; i < table->bits[length]; ++i, ++code, ++index) {
      if (index > 255 || code >= 1 << length) return false;
      const int free = kIndexBits - length;
      for (int rest = 0; free >= 0 && rest < 1 << free; ++rest)
        codes.direct[static_cast<size_t>((code << free) + rest)] = make_entry(table->huffval[index], length, rest);
    }
    codes.end[static_cast<size_t>(length)] = code << (16 - length);
  }
  codes.end[17] = INT32_MAX;
  return true;
}

// Puts a second coefficient, or the end of the block, into the entries that have room for it.
void JpegEntropy::pair(Codes& codes) {
  const auto single = codes.direct;
  for (size_t i = 0; i < single.size(); ++i) {
    const uint32_t e = single[i];
    if (length_of(e) == 0 || ends_block(e)) continue;
    const uint32_t next = single[i << length_of(e) & (single.size() - 1)];
    const int length = length_of(e) + length_of(next);
    if (length_of(next) == 0 || length > kIndexBits || advance1(next) > 15) continue;
    codes.direct[i] = ends_block(next) ? entry(length, true, advance1(e), first_of(e), 0, first_of(e))
                                       : entry(length, false, advance1(e), first_of(e), advance1(next), first_of(next));
  }
}

bool JpegEntropy::make_tables(const jpeg_decompress_struct& decoder) {
  std::array<bool, NUM_HUFF_TBLS> dc_made{}, ac_made{};
  for (int i = 0; i < decoder.comps_in_scan; ++i) {
    const auto dc = static_cast<size_t>(decoder.cur_comp_info[i]->dc_tbl_no);
    const auto ac = static_cast<size_t>(decoder.cur_comp_info[i]->ac_tbl_no);
    if (dc >= NUM_HUFF_TBLS || ac >= NUM_HUFF_TBLS) return false;
    if (!dc_made[dc] && !make_codes(decoder.dc_huff_tbl_ptrs[dc], dc_entry, dc_codes_[dc])) return false;
    if (!ac_made[ac]) {
      if (!make_codes(decoder.ac_huff_tbl_ptrs[ac], ac_entry, ac_codes_[ac])) return false;
      pair(ac_codes_[ac]);
    }
    dc_made[dc] = ac_made[ac] = true;
  }
  return true;
}

// Copies the scan up to EOI, and moves libjpeg's source there. False where the scan does not end so, or its restart
// markers are not as they should be.
bool JpegEntropy::remove_stuffing(jpeg_decompress_struct& decoder) {
  const uint8_t *from = decoder.src->next_input_byte, *end = from + decoder.src->bytes_in_buffer;
  bytes_.resize(decoder.src->bytes_in_buffer + kPadding);
  uint8_t *to = bytes_.data(), *begin = to;
  for (;;) {
    const auto* found = static_cast<const uint8_t*>(std::memchr(from, 0xFF, static_cast<size_t>(end - from)));
    if (found == nullptr || found + 1 == end) return false;
    const size_t run = static_cast<size_t>(found - from);
    std::memcpy(to, from, run);
    to += run;
    from = found + 2;
    const int marker = found[1];
    if (marker == 0) {
      *to++ = 0xFF;
      continue;
    }
    segments_.push_back({begin, to});
    begin = to;
    if (marker == JPEG_EOI) {
      decoder.src->bytes_in_buffer = static_cast<size_t>(end - found);
      decoder.src->next_input_byte = found;
      break;
    }
    if (marker != JPEG_RST0 + static_cast<int>((segments_.size() - 1) % 8)) return false;
  }
  std::memset(to, 0, kPadding);
  return true;
}

JpegEntropy& JpegEntropy::of_this_thread() {
  thread_local JpegEntropy entropy;
  entropy.damaged_ = false;
  return entropy;
}

void JpegEntropy::attach(jpeg_decompress_struct& decoder) {
  segments_.clear();
  // Ss: in lossless files, which libjpeg-turbo 3 reads, it is the predictor.
  if (decoder.progressive_mode || decoder.arith_code || decoder.data_precision != 8 || decoder.Ss != 0 ||
      decoder.comps_in_scan != decoder.num_components)
    return;
  mcus_left_ = decoder.MCUs_per_row * decoder.MCU_rows_in_scan;
  interval_ = decoder.restart_interval == 0 ? mcus_left_ : decoder.restart_interval;
  const jpeg_source_mgr source = *decoder.src;
  if (!make_tables(decoder) || !remove_stuffing(decoder) ||
      segments_.size() != (mcus_left_ + interval_ - 1) / interval_) {
    *decoder.src = source;
    return;
  }
  begin_segment(0);
  decoder.client_data = this;
  decoder.entropy->decode_mcu = decode_mcu;
}

void JpegEntropy::begin_segment(size_t segment) {
  segment_ = segment;
  mcus_to_go_ = std::min(interval_, mcus_left_);
  mcus_left_ -= mcus_to_go_;
  next_ = segments_[segment].begin;
  bits_ = 0;
  count_ = 0;
  last_dc_.fill(0);
}

// An MCU of the picture; `blocks` is null where it is only to be passed over.
bool JpegEntropy::decode_blocks(const jpeg_decompress_struct& decoder, JBLOCKROW* blocks) {
  if (mcus_to_go_ == 0) {
    if (segment_ + 1 == segments_.size()) return false;
    begin_segment(segment_ + 1);
  }
  --mcus_to_go_;
  JBLOCK passed_over;
  Reader reader{next_, bits_, count_};
  for (int b = 0; b < decoder.blocks_in_MCU; ++b) {
    const auto c = static_cast<size_t>(decoder.MCU_membership[b]);
    const jpeg_component_info& component = *decoder.cur_comp_info[c];
    JCOEF* block = blocks == nullptr ? passed_over : blocks[b][0];
    int difference = 0;
    if (!reader.dc(dc_codes_[static_cast<size_t>(component.dc_tbl_no)], difference)) return false;
    last_dc_[c] += difference;
    if (std::abs(last_dc_[c]) > INT16_MAX) return false;  // grows without end in some damaged files
    block[0] = static_cast<JCOEF>(last_dc_[c]);
    if (!reader.ac(ac_codes_[static_cast<size_t>(component.ac_tbl_no)], block)) return false;
  }
  next_ = reader.next;
  bits_ = reader.bits;
  count_ = reader.count;
  // Bits that are there, less those that were read: less than a byte of padding may be left at a segment's end.
  const Segment& segment = segments_[segment_];
  const int64_t left = 8 * (segment.end - next_) + count_;
  return left >= 0 && (mcus_to_go_ > 0 || left < 8);
}

boolean JpegEntropy::decode_mcu(j_decompress_ptr decoder, JBLOCKROW* blocks) {
  auto& self = *static_cast<JpegEntropy*>(decoder->client_data);
  if (!self.decode_blocks(*decoder, blocks)) {
    self.damaged_ = true;
    ERREXIT(decoder, JERR_BAD_DCT_COEF);
  }
  return TRUE;
}

}  // namespace riffle
