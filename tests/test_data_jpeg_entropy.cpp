// JpegEntropy against libjpeg's own Huffman decoder: the same pixels of every file, and of damaged ones the same outcome.
#include <gtest/gtest.h>

#include <csetjmp>
#include <map>
#include <random>

#include "core/check.h"
#include "data/decoders.h"
#include "data/jpeg_decoder.h"
#include "data/jpeg_entropy.h"
#include "tests/generated_images.h"

namespace riffle {
namespace {

struct Decoded {
  std::vector<uint8_t> pixels;
  std::string message;  // of the error that ended it; empty if none did
  bool attached = false, damaged = false;
  long warnings = 0;
};

bool decode_into(jpeg_decompress_struct& state, JpegErrorManager& manager, JpegEntropy* entropy,
                 const std::vector<uint8_t>& file, Decoded& decoded) {
  if (setjmp(manager.escape) != 0) return false;
  jpeg_create_decompress(&state);
  jpeg_mem_src(&state, file.data(), file.size());
  jpeg_read_header(&state, TRUE);
  jpeg_start_decompress(&state);
  if (entropy != nullptr) entropy->attach(state);
  decoded.attached = entropy != nullptr && state.client_data == entropy;
  const size_t pitch = size_t{state.output_width} * static_cast<size_t>(state.output_components);
  decoded.pixels.resize(pitch * state.output_height);
  while (state.output_scanline < state.output_height) {
    JSAMPROW row = decoded.pixels.data() + state.output_scanline * pitch;
    jpeg_read_scanlines(&state, &row, 1);
  }
  jpeg_finish_decompress(&state);
  return true;
}

Decoded decode(const std::vector<uint8_t>& file, JpegEntropy* entropy) {
  Decoded decoded;
  JpegErrorManager manager{};
  JpegDecoder decoder;
  decoder.state.err = jpeg_reading_errors(manager);
  if (!decode_into(decoder.state, manager, entropy, file, decoded)) {
    decoded.pixels.clear();
    decoded.message = manager.message;
  }
  decoded.damaged = entropy != nullptr && entropy->found_damage();
  decoded.warnings = manager.base.num_warnings;
  return decoded;
}

enum class Content { kFlat, kWaves, kNoise };

std::vector<uint8_t> content(Content kind, size_t size) {
  std::mt19937 random(7);
  std::vector<uint8_t> pixels(size, 90);
  for (size_t i = 0; i < size && kind != Content::kFlat; ++i)
    pixels[i] = static_cast<uint8_t>(kind == Content::kNoise ? random() : (i * i / 700) % 256);
  return pixels;
}

int components(J_COLOR_SPACE space) {
  return space == JCS_GRAYSCALE ? 1 : space == JCS_CMYK ? 4 : 3;
}

std::vector<uint8_t> file_of(Content kind, int height, int width, const JpegKind& jpeg) {
  const int channels = components(jpeg.in_space);
  const int bytes = height * width * channels;
  return make_jpeg(content(kind, static_cast<size_t>(bytes)), height, width, jpeg);
}

void expect_same(const std::vector<uint8_t>& file, const std::string& what) {
  JpegEntropy& entropy = JpegEntropy::of_this_thread();
  const Decoded ours = decode(file, &entropy), libjpegs = decode(file, nullptr);
  ASSERT_TRUE(ours.attached) << what;
  EXPECT_EQ(ours.message, "") << what;
  EXPECT_EQ(ours.pixels, libjpegs.pixels) << what;
}

TEST(JpegEntropy, GivesTheSamePixels) {
  const std::vector<std::pair<int, int>> sizes{{1, 1}, {7, 9}, {64, 48}, {77, 129}};
  const std::vector<std::pair<J_COLOR_SPACE, J_COLOR_SPACE>> spaces{
      {JCS_GRAYSCALE, JCS_GRAYSCALE}, {JCS_RGB, JCS_YCbCr}, {JCS_RGB, JCS_RGB}, {JCS_CMYK, JCS_YCCK}};
  for (const Content kind : {Content::kFlat, Content::kWaves, Content::kNoise})
    for (const auto& [height, width] : sizes)
      for (const auto& [in_space, file_space] : spaces)
        for (const int quality : {1, 40, 90, 100})
          for (const int sampling : {1, 2})
            for (const unsigned restart_rows : {0u, 1u, 3u})
              for (const bool own_codes : {false, true}) {
                const JpegKind jpeg{in_space, file_space, quality, false, sampling, restart_rows, own_codes};
                expect_same(file_of(kind, height, width, jpeg),
                            join("content ", static_cast<int>(kind), ", ", height, "x", width, ", colours ", file_space,
                                 ", quality ", quality, ", sampling ", sampling, ", restarts ", restart_rows,
                                 ", own codes ", own_codes));
              }
}

size_t scan_begin(const std::vector<uint8_t>& file) {
  for (size_t i = 2;; i += 2 + file[i + 2] * 256u + file[i + 3]) {
    if (file[i + 1] == 0xDA) return i + 2 + file[i + 2] * 256u + file[i + 3];
  }
}

// The place of the n-th marker of this kind in the scan.
size_t find_marker(const std::vector<uint8_t>& file, int marker) {
  size_t i = scan_begin(file);
  while (file[i] != 0xFF || file[i + 1] != marker) ++i;
  return i;
}

TEST(JpegEntropy, LeavesToLibjpegWhatItDoesNotKnow) {
  JpegKind jpeg;
  jpeg.restart_rows = 1;
  const std::vector<uint8_t> good = file_of(Content::kWaves, 64, 64, jpeg);
  std::map<std::string, std::vector<uint8_t>> files;
  JpegKind progressive;
  progressive.progressive = true;
  files["progressive"] = file_of(Content::kWaves, 64, 64, progressive);
  files["truncated"] = {good.begin(), good.end() - 40};
  files["without an end"] = {good.begin(), good.end() - 2};
  files["restart markers in a wrong order"] = good;
  files["restart markers in a wrong order"][find_marker(good, JPEG_RST0 + 1) + 1] = JPEG_RST0 + 3;
  files["a restart marker too few"] = good;
  const auto marker = files["a restart marker too few"].begin() + static_cast<long>(find_marker(good, JPEG_RST0 + 6));
  files["a restart marker too few"].erase(marker, marker + 2);
  files["fill bytes before a marker"] = good;
  files["fill bytes before a marker"].insert(files["fill bytes before a marker"].end() - 2, 0xFF);
  for (const auto& [what, file] : files) {
    JpegEntropy& entropy = JpegEntropy::of_this_thread();
    const Decoded ours = decode(file, &entropy), libjpegs = decode(file, nullptr);
    EXPECT_FALSE(ours.attached) << what;
    EXPECT_EQ(ours.message, libjpegs.message) << what;
    EXPECT_EQ(ours.pixels, libjpegs.pixels) << what;
  }
}

// Whatever a file holds, decode_jpeg() says what libjpeg says of it.
void expect_same_outcome(const std::vector<uint8_t>& file, const std::string& what) {
  const Decoded libjpegs = decode(file, nullptr);
  std::string message;
  std::vector<uint8_t> pixels;
  try {
    pixels = decode_jpeg(file.data(), file.size(), "f", 3).pixels;
  } catch (const Error& error) {
    message = error.what();
  }
  EXPECT_EQ(message, libjpegs.message.empty() ? "" : "f: truncated or corrupt JPEG: " + libjpegs.message) << what;
  EXPECT_EQ(pixels, libjpegs.pixels) << what;
}

TEST(JpegEntropy, LeavesDamagedFilesToLibjpeg) {
  std::mt19937 random(11);
  int damaged = 0, unnoticed = 0;
  for (const unsigned restart_rows : {0u, 1u}) {
    for (const bool own_codes : {false, true}) {
      const JpegKind jpeg{JCS_RGB, JCS_YCbCr, 85, false, 2, restart_rows, own_codes};
      const std::vector<uint8_t> good = file_of(Content::kWaves, 72, 88, jpeg);
      const size_t begin = scan_begin(good), size = good.size() - 2 - begin;
      for (int i = 0; i < 500; ++i) {
        std::vector<uint8_t> file = good;
        const size_t at = begin + random() % size;
        const int bit = static_cast<int>(random() % 8);
        file[at] = static_cast<uint8_t>(file[at] ^ 1 << bit);
        const std::string what = join("bit ", bit, " of byte ", at, ", restarts ", restart_rows);
        const Decoded ours = decode(file, &JpegEntropy::of_this_thread());
        if (ours.attached && !ours.damaged) {
          const Decoded libjpegs = decode(file, nullptr);
          EXPECT_EQ(ours.pixels, libjpegs.pixels) << what;
          EXPECT_EQ(libjpegs.warnings, 0) << what;
          ++unnoticed;
        }
        damaged += ours.damaged;
        expect_same_outcome(file, what);
      }
    }
  }
  EXPECT_GT(damaged, 100);
  EXPECT_GT(unnoticed, 100);  // most flips give another picture, not a damaged file
}

TEST(JpegEntropy, NoticesWhatIsLeftOver) {
  std::vector<uint8_t> file = file_of(Content::kWaves, 40, 40, {});
  file.insert(file.end() - 2, {1, 2, 3});
  const Decoded ours = decode(file, &JpegEntropy::of_this_thread());
  EXPECT_TRUE(ours.damaged);
  EXPECT_GT(decode(file, nullptr).warnings, 0);
  expect_same_outcome(file, "three bytes too many");
}

}  // namespace
}  // namespace riffle
