// EXIF orientation: how a camera was held. Decoders report it in Image::orientation; transforms apply it where asked.
#pragma once

#include <cstddef>
#include <cstdint>

#include "data/image.h"

namespace riffle {

// The orientation in EXIF data, a TIFF structure: 1 to 8; 1 (upright) where it has none or is broken.
int exif_orientation(const uint8_t* bytes, size_t size);

// The image as it was seen: turned and mirrored as image.orientation says, as Pillow's ImageOps.exif_transpose does.
Image upright(const Image& image);

}  // namespace riffle
