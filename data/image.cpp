// Files and formats: reads a file whole, and picks the decoder by the first bytes.
#include "data/image.h"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include <sys/stat.h>

#include "core/check.h"
#include "data/decoders.h"

namespace riffle {
namespace {

bool has_bytes_at(const uint8_t* bytes, size_t size, size_t offset, const char* expected, size_t count) {
  return size >= offset + count && std::memcmp(bytes + offset, expected, count) == 0;
}

// The name of a format that we do not read, or nullptr.
const char* foreign_format(const uint8_t* bytes, size_t size) {
  // NOLINTBEGIN(bugprone-string-literal-with-embedded-nul): the lengths are given
  const auto starts = [&](const char* magic, size_t count) { return has_bytes_at(bytes, size, 0, magic, count); };
  if (starts("GIF8", 4)) return "GIF";
  if (starts("RIFF", 4) && has_bytes_at(bytes, size, 8, "WEBP", 4)) return "WebP";
  if (starts("BM", 2)) return "BMP";
  if (starts("II*\0", 4) || starts("MM\0*", 4)) return "TIFF";
  if (has_bytes_at(bytes, size, 4, "ftypavif", 8)) return "AVIF";
  if (has_bytes_at(bytes, size, 4, "ftyphei", 7) || has_bytes_at(bytes, size, 4, "ftypmif1", 8)) return "HEIF";
  if (starts("\0\0\0\x0CjP  ", 8)) return "JPEG 2000";
  if (starts("\0\0\0\x0CJXL ", 8) || starts("\xFF\x0A", 2)) return "JPEG XL";
  if (starts("8BPS", 4)) return "Photoshop";
  // NOLINTEND(bugprone-string-literal-with-embedded-nul)
  return nullptr;
}

}  // namespace

bool is_jpeg(const uint8_t* bytes, size_t size) {
  return has_bytes_at(bytes, size, 0, "\xFF\xD8\xFF", 3);
}

void check_image_size(const std::string& path, uint64_t height, uint64_t width) {
  if (height == 0 || width == 0 || height > uint64_t{kMaxImagePixels} / width)
    fail(path, ": the header says ", width, "x", height, " pixels; images of 1 to ", kMaxImagePixels,
         " pixels are read");
}

Image decode_image(const uint8_t* bytes, size_t size, const std::string& path, int channels,
                   TruncatedImages truncated) {
  RIFFLE_CHECK(channels == 1 || channels == 3, path, " asked for with ", channels, " channels");
  if (size == 0) fail(path, ": the file is empty");
  if (is_jpeg(bytes, size)) return decode_jpeg(bytes, size, path, channels, truncated);
  if (has_bytes_at(bytes, size, 0, "\x89PNG\r\n\x1A\n", 8)) return decode_png(bytes, size, path, channels, truncated);
  if (const char* name = foreign_format(bytes, size)) fail(path, ": this is ", name, "; JPEG and PNG are read");
  fail(path, ": not an image: its first bytes are neither JPEG's nor PNG's");
}

bool is_image_name(const std::string& path) {
  const size_t dot = path.rfind('.');
  std::string extension = dot == std::string::npos ? "" : path.substr(dot);
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return extension == ".jpg" || extension == ".jpeg" || extension == ".png";
}

std::vector<uint8_t> read_file(const std::string& path) {
  const auto fail_reading = [&path](int error) { fail(path, ": cannot read the file: ", std::strerror(error)); };
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), std::fclose);
  if (!file) fail_reading(errno);
  struct stat status {};
  if (fstat(fileno(file.get()), &status) != 0) fail_reading(errno);
  if (!S_ISREG(status.st_mode)) fail(path, ": not a regular file");

  std::vector<uint8_t> bytes(static_cast<size_t>(status.st_size));
  errno = 0;
  if (std::fread(bytes.data(), 1, bytes.size(), file.get()) != bytes.size()) {
    if (errno != 0) fail_reading(errno);
    fail(path, ": the file became shorter while it was read");
  }
  return bytes;
}

}  // namespace riffle
