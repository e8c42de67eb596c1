// Image: decoded 8-bit pixels, H,W,C, packed; C is 1 (gray) or 3 (RGB).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace riffle {

// Larger images are neither read nor made: where Pillow refuses an image as a decompression bomb.
inline constexpr int64_t kMaxImagePixels = 178956970;

inline constexpr int kUpright = 1;  // EXIF's orientation of pixels that need no turning

// What becomes of a file that ends too early, after its header: an error, or the picture as far as it goes. The rest is then
// what Pillow makes of it with ImageFile.LOAD_TRUNCATED_IMAGES: gray in a JPEG (docs/data.md has the
// rest), black in a PNG. Other damage is an error.
enum class TruncatedImages { kError, kAccept };

struct Image {
  int height = 0, width = 0, channels = 0;
  int orientation = kUpright;   // EXIF's, as the file says; the pixels are as stored. See data/orientation.h
  bool truncated = false;       // its file ended too early
  std::vector<uint8_t> pixels;  // (height, width, channels)

  Image() = default;
  Image(int h, int w, int c)
      : height(h),
        width(w),
        channels(c),
        pixels(static_cast<size_t>(h) * static_cast<size_t>(w) * static_cast<size_t>(c)) {}
};

// Decodes a JPEG or PNG, recognised by its first bytes (ImageNet has a PNG named .JPEG), as Pillow's convert("RGB") or
// convert("L") would: `channels` is 3 or 1. Exact mode: islow DCT, fancy upsampling; EXIF orientation is
// reported, not applied.
// Throws Error with `path` in the message: empty, truncated (see above), corrupt, or a format we do not read (named where
// known).
Image decode_image(const uint8_t* bytes, size_t size, const std::string& path, int channels,
                   TruncatedImages truncated = TruncatedImages::kError);

bool is_image_name(const std::string& path);  // .jpg, .jpeg or .png, in any case

std::vector<uint8_t> read_file(const std::string& path);  // throws with the path and the reason

}  // namespace riffle
