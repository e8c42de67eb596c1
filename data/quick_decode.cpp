// Partial decoding by libjpeg-turbo's jpeg_crop_scanline() and jpeg_skip_scanlines(): see quick_decode.h.
#include "data/quick_decode.h"

#include <algorithm>
#include <csetjmp>
#include <utility>

#include "core/check.h"
#include "data/decoders.h"
#include "data/jpeg_decoder.h"
#include "data/jpeg_entropy.h"

namespace riffle {
namespace {

// Columns beside the crop: smooth chroma upsampling reads the neighbour of each sample, two columns away.
constexpr int kMargin = 2;

// Eighths. Others have no vector code in libjpeg-turbo and take longer than 8/8.
constexpr int kScales[] = {1, 2, 4, 8};

int scale_for(const CropBox& crop, int height, int width) {
  for (const int eighths : kScales) {
    if (int64_t{crop.height} * eighths >= int64_t{height} * 8 && int64_t{crop.width} * eighths >= int64_t{width} * 8)
      return eighths;
  }
  return 8;
}

// Gray, or luma with two colour channels at its resolution or half of it on either axis.
bool has_usual_sampling(const jpeg_decompress_struct& decoder) {
  if (decoder.num_components == 1) return true;
  if (decoder.num_components != 3 || decoder.max_h_samp_factor > 2 || decoder.max_v_samp_factor > 2) return false;
  const jpeg_component_info* parts = decoder.comp_info;
  return parts[0].h_samp_factor == decoder.max_h_samp_factor && parts[0].v_samp_factor == decoder.max_v_samp_factor &&
         parts[1].h_samp_factor == 1 && parts[1].v_samp_factor == 1 && parts[2].h_samp_factor == 1 &&
         parts[2].v_samp_factor == 1;
}

bool is_usual(jpeg_decompress_struct& decoder, int channels) {
  const J_COLOR_SPACE space = decoder.jpeg_color_space;
  const bool gray = space == JCS_GRAYSCALE, colour = space == JCS_YCbCr || space == JCS_RGB;
  return (gray || (colour && channels == 3)) && has_usual_sampling(decoder) && !decoder.arith_code && decoder.Ss == 0 &&
         !jpeg_has_multiple_scans(&decoder) &&
         int64_t{decoder.image_height} <= kMaxImagePixels / std::max<int64_t>(decoder.image_width, 1);
}

// A part of the picture at the decoder's scale.
struct Part {
  unsigned top, left, height, width;
};

}  // namespace

struct PartialJpeg::State {
  State(const uint8_t* data, size_t data_size, int image_channels, TruncatedImages accepted)
      : bytes(data), size(data_size), channels(image_channels), truncated(accepted) {
    decoder.state.err = jpeg_reading_errors(manager);
  }

  // Both return false where libjpeg jumped out of a function, with the manager's message set. `entropy` may be null, for
  // libjpeg's own.
  bool read_header(TruncatedImages policy);
  bool read(JpegEntropy* entropy, int eighths, Part& part, Image& image);

  const uint8_t* bytes;
  size_t size;
  int channels;
  TruncatedImages truncated;
  JpegErrorManager manager{};
  JpegDecoder decoder;
  bool readable = false;
};

bool PartialJpeg::State::read_header(TruncatedImages policy) {
  if (setjmp(manager.escape) != 0) return false;
  jpeg_create_decompress(&decoder.state);
  decoder.read_from(bytes, size, policy);
  jpeg_save_markers(&decoder.state, JPEG_APP0 + 1, 0xFFFF);
  return jpeg_read_header(&decoder.state, TRUE) == JPEG_HEADER_OK && !manager.past_end &&
         is_usual(decoder.state, channels);
}

// `part` begins further left in the end, where libjpeg's blocks begin.
bool PartialJpeg::State::read(JpegEntropy* entropy, int eighths, Part& part, Image& image) {
  if (setjmp(manager.escape) != 0) return false;
  jpeg_decompress_struct& state = decoder.state;
  state.out_color_space = channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
  state.dct_method = JDCT_ISLOW;
  state.do_fancy_upsampling = TRUE;
  state.scale_num = static_cast<unsigned>(eighths);
  state.scale_denom = 8;
  jpeg_start_decompress(&state);
  if (entropy != nullptr) entropy->attach(state);
  part.height = std::min(part.height, state.output_height - part.top);
  part.width = std::min(part.width, state.output_width - part.left);
  if (part.width < state.output_width) jpeg_crop_scanline(&state, &part.left, &part.width);
  if (part.top > 0 && jpeg_skip_scanlines(&state, part.top) != part.top) {
    std::snprintf(manager.message, sizeof(manager.message), "libjpeg cannot skip %u rows", part.top);
    return false;
  }
  image = Image(static_cast<int>(part.height), static_cast<int>(state.output_width), channels);
  const size_t row_bytes = size_t{state.output_width} * static_cast<size_t>(channels);
  while (state.output_scanline < part.top + part.height) {
    JSAMPROW row = image.pixels.data() + (state.output_scanline - part.top) * row_bytes;
    if (jpeg_read_scanlines(&state, &row, 1) != 1) break;  // the file is truncated, and the rest stays black
  }
  image.truncated = manager.past_end;
  return true;
}

PartialJpeg::PartialJpeg(const uint8_t* bytes, size_t size, int channels, TruncatedImages truncated)
    : state_(std::make_unique<State>(bytes, size, channels, truncated)) {
  RIFFLE_CHECK(channels == 1 || channels == 3, "an image asked for with ", channels, " channels");
  state_->readable = size > 0 && state_->read_header(TruncatedImages::kError);
}

PartialJpeg::~PartialJpeg() = default;

bool PartialJpeg::readable() const {
  return state_->readable;
}

int PartialJpeg::height() const {
  return static_cast<int>(state_->decoder.state.image_height);
}

int PartialJpeg::width() const {
  return static_cast<int>(state_->decoder.state.image_width);
}

int PartialJpeg::orientation() const {
  return orientation_of(state_->decoder.state);
}

DecodedCrop PartialJpeg::decode(const CropBox& crop, int height, int width, const std::string& path) {
  RIFFLE_CHECK(readable(), path, " cannot be decoded in part");
  check_box(crop, this->height(), this->width());
  const int eighths = scale_for(crop, height, width);
  const int begin = crop.left * eighths / 8, end = ((crop.left + crop.width) * eighths + 7) / 8;
  const int top = crop.top * eighths / 8, bottom = ((crop.top + crop.height) * eighths + 7) / 8;
  const int left = std::max(begin - kMargin, 0);
  const Part wanted{static_cast<unsigned>(top), static_cast<unsigned>(left), static_cast<unsigned>(bottom - top),
                    static_cast<unsigned>(end + kMargin - left)};
  Part part = wanted;
  DecodedCrop decoded;
  JpegEntropy& entropy = JpegEntropy::of_this_thread();
  bool good = state_->read(&entropy, eighths, part, decoded.image);
  const TruncatedImages truncated = state_->truncated;
  if (!good && (entropy.found_damage() || truncated == TruncatedImages::kAccept)) {
    state_ = std::make_unique<State>(state_->bytes, state_->size, state_->channels, truncated);
    part = wanted;
    good = state_->read_header(truncated) && state_->read(nullptr, eighths, part, decoded.image);
    state_->readable = true;
  }
  if (!good) fail(path, ": truncated or corrupt JPEG: ", state_->manager.message);
  const double scale = eighths / 8.0;
  decoded.box = {crop.top * scale - part.top, crop.left * scale - part.left, crop.height * scale, crop.width * scale};
  return decoded;
}

}  // namespace riffle
