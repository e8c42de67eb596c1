// Huffman decoding for libjpeg's baseline decoder in place of its own, which takes 70 % of the time of a photograph. The
// coefficients are the same. What makes it quick: stuffed bytes are removed beforehand, so that whole words are read
// without looking at them; and one look at a table often gives two coefficients.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <vector>

#include <jpeglib.h>

namespace riffle {

class JpegEntropy {
 public:
  // One for all images that a thread decodes, so that its memory is made once.
  static JpegEntropy& of_this_thread();

  // Takes the place of libjpeg's decoder: after jpeg_start_decompress(), for an image in memory (jpeg_mem_src()), until
  // that is decoded. Leaves libjpeg's where the file is not one baseline scan in Huffman codes, or is damaged on the
  // surface. Uses jpeg_decompress_struct::client_data.
  void attach(jpeg_decompress_struct& decoder);

  // Whether error_exit was called because this decoder found damage, since of_this_thread(). What a damaged file gives
  // is for libjpeg's own decoder to say: decode again without attaching.
  bool found_damage() const { return damaged_; }

 private:
  static constexpr int kIndexBits = 11;

  // Of one Huffman table. `direct`: by the next kIndexBits bits of the file; made of entries, see the source.
  struct Codes {
    std::array<uint32_t, size_t{1} << kIndexBits> direct;
    std::array<int32_t, 18> end;           // of the codes of each length, as 16 bits; of length 17: beyond all
    std::array<int32_t, 17> value_offset;  // of each length: index of a code's symbol, less the code
    const uint8_t* symbols;
  };
  struct Segment {  // between restart markers
    const uint8_t *begin, *end;
  };
  struct Reader;

  // Of a code of `length` bits that is followed by `rest`, up to kIndexBits together.
  using MakeEntry = uint32_t(int symbol, int length, int rest);
  static uint32_t dc_entry(int symbol, int length, int rest);
  static uint32_t ac_entry(int symbol, int length, int rest);
  static bool make_codes(const JHUFF_TBL* table, MakeEntry* make_entry, Codes& codes);
  static void pair(Codes& codes);
  static boolean decode_mcu(j_decompress_ptr decoder, JBLOCKROW* blocks);

  bool make_tables(const jpeg_decompress_struct& decoder);
  bool remove_stuffing(jpeg_decompress_struct& decoder);
  void begin_segment(size_t segment);
  bool decode_blocks(const jpeg_decompress_struct& decoder, JBLOCKROW* blocks);

  std::vector<uint8_t> bytes_;  // of all segments, without stuffing, and zeros behind
  std::vector<Segment> segments_;
  size_t segment_ = 0;
  const uint8_t* next_ = nullptr;
  uint64_t bits_ = 0;  // the next `count_` bits, from the top
  int count_ = 0;
  unsigned interval_ = 0;    // MCUs of a segment
  unsigned mcus_to_go_ = 0;  // of this segment
  unsigned mcus_left_ = 0;   // of the segments behind it
  std::array<int, MAX_COMPS_IN_SCAN> last_dc_{};
  std::array<Codes, NUM_HUFF_TBLS> dc_codes_, ac_codes_;
  bool damaged_ = false;
};

}  // namespace riffle
