// Packed data: WebDataset-compatible tar files (NUMBER.jpg or .png, and NUMBER.cls) with one index of all their images
// and their checksums, so that opening reads no tar header and every read is checked.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "data/sources.h"

namespace riffle {

// Whether `folder`, or folder/<split>, has an index.
bool is_packed(const std::string& folder, const Split& split);
// The index alone decides; a shard that is missing or has another size is an error now, a damaged image when it is read.
std::unique_ptr<Dataset> open_packed(const std::string& folder, const Split& split, int channels,
                                     const DatasetOptions& options);

}  // namespace riffle
