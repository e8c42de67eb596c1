// Tar files for tests, field by field, so that every dialect and every kind of damage can be made.
#pragma once

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "image_fixtures.h"

namespace riffle {

using Bytes = std::vector<uint8_t>;

struct TarHeader {
  std::string name;
  char type = '0';
  std::string size_field{};  // empty: octal, of the contents
  std::string magic = std::string("ustar\0", 6) + "00";
  std::string prefix{};
};

inline void set_tar_checksum(uint8_t* block) {
  std::memset(block + 148, ' ', 8);
  unsigned sum = 0;
  for (int i = 0; i < 512; ++i) sum += block[i];
  std::snprintf(reinterpret_cast<char*>(block) + 148, 8, "%06o", sum);
}

inline void append_tar_member(Bytes& tar, const TarHeader& header, const Bytes& contents = {}) {
  const size_t begin = tar.size();
  tar.resize(begin + 512);
  uint8_t* block = tar.data() + begin;
  const auto put = [block](size_t at, const std::string& text) { std::copy(text.begin(), text.end(), block + at); };
  put(0, header.name.substr(0, 100));
  put(100, "0000644");
  char octal[13];
  std::snprintf(octal, sizeof(octal), "%011zo", contents.size());
  put(124, header.size_field.empty() ? octal : header.size_field);
  put(136, "00000000000");
  block[156] = static_cast<uint8_t>(header.type);
  put(257, header.magic);
  put(345, header.prefix);
  set_tar_checksum(block);
  tar.insert(tar.end(), contents.begin(), contents.end());
  tar.resize((tar.size() + 511) / 512 * 512);
}

inline void append_tar_end(Bytes& tar) {
  tar.resize(tar.size() + 1024);
}

inline Bytes bytes_of(const std::string& text) {
  return {text.begin(), text.end()};
}

inline void expect_contains_all(const std::string& text, const std::vector<std::string>& parts) {
  for (const std::string& part : parts)
    EXPECT_NE(text.find(part), std::string::npos) << part << " is missing in: " << text;
}

// Every file below `folder`, named relative to it, in an order that is not sorted.
inline Bytes tar_of_folder(const std::string& folder, const std::string& prefix = "") {
  namespace fs = std::filesystem;
  std::vector<std::string> names;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file()) names.push_back(fs::relative(entry.path(), folder).generic_string());
  std::sort(names.rbegin(), names.rend());
  Bytes tar;
  for (const std::string& name : names) append_tar_member(tar, {prefix + name}, read_file(join(folder, "/", name)));
  append_tar_end(tar);
  return tar;
}

}  // namespace riffle
