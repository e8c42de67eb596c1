// The image files that the words of a command line mean: files, folders (searched recursively) and globs.
#pragma once

#include <string>
#include <vector>

namespace riffle {

// In the order given; the files of a folder or glob in byte order. Each real folder is searched once, however many links
// lead to it. A file that is named directly need not have an image's extension. Throws for a word that stands for no
// image.
std::vector<std::string> find_images(const std::vector<std::string>& words);

}  // namespace riffle
