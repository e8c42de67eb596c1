// Text as HTML: escaping, which every name and message passes through, and files as data URLs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace riffle {

// For text and for attributes in double quotes. What is not UTF-8, and control characters, become U+FFFD.
std::string html_escaped(const std::string& text);
// JSON for a <script> element: no '<' is left that could end it. `json` must be UTF-8 JSON.
std::string script_escaped(std::string json);
// "data:image/png;base64,..." of a PNG or JPEG file's bytes. Throws with `path` if they are neither.
std::string image_data_url(const std::vector<uint8_t>& bytes, const std::string& path);

}  // namespace riffle
