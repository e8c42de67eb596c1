// The image files that the words of a command line mean: files, folders (searched recursively) and globs.
#pragma once

#include <string>
#include <vector>

namespace riffle {

bool has_image_extension(const std::string& path);  // .jpg, .jpeg or .png, in any case

// In the order given; the files of a folder or glob in byte order. A file that is named directly need not have an
// image's extension. Throws for a word that stands for no image.
std::vector<std::string> find_images(const std::vector<std::string>& words);

}  // namespace riffle
