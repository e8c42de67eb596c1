// Contact sheet: many small images on one, with captions, for people to look at.
#pragma once

#include <string>
#include <vector>

#include "data/image.h"

namespace riffle {

// RGB, `columns` cells wide. captions[i] stands below images[i], on two lines at most; what does not fit is cut. Printable
// ASCII is drawn, any other character is a box. Pixels are copied as they are; where the largest image is narrower than
// kContactSheetCell, all are enlarged by the same whole factor. Throws if there are no images, or not as many captions.
Image contact_sheet(const std::vector<Image>& images, const std::vector<std::string>& captions, int columns);

inline constexpr int kContactSheetCell = 96;

}  // namespace riffle
