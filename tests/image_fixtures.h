// What the data tests share: fixture files, throw-away folders, and expectations about error messages.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "core/check.h"
#include "data/image.h"

namespace riffle {

inline std::string image_fixture(const std::string& name) {
  return std::string(RIFFLE_SOURCE_DIR) + "/tests/fixtures/images/" + name;
}

inline Image decode_file(const std::string& path, int channels) {
  const std::vector<uint8_t> bytes = read_file(path);
  return decode_image(bytes.data(), bytes.size(), path, channels);
}

inline void write_bytes(const std::string& path, const std::vector<uint8_t>& bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  ASSERT_TRUE(file.good()) << path;
}

// A folder that lives as long as the object.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "riffle-test-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) fail("cannot make ", pattern);
    path_ = pattern;
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }

  const std::string& path() const { return path_; }
  // Copies a fixture to `name` below the folder, making the folders in between.
  void add_fixture(const std::string& fixture, const std::string& name) const {
    const std::filesystem::path target = std::filesystem::path(path_) / name;
    std::filesystem::create_directories(target.parent_path());
    std::filesystem::copy_file(image_fixture(fixture), target);
  }

 private:
  std::string path_;
};

// Runs `action`, which must throw Error, and checks that the message contains every part.
template <class Action>
void expect_error(Action action, const std::vector<std::string>& parts) {
  try {
    action();
  } catch (const Error& error) {
    const std::string message = error.what();
    for (const std::string& part : parts)
      EXPECT_NE(message.find(part), std::string::npos) << "\"" << part << "\" is missing in: " << message;
    return;
  }
  ADD_FAILURE() << "no Error was thrown; expected one with \"" << parts.front() << "\"";
}

// Real photographs, or "" where this machine has none.
inline std::string real_images() {
  const char* given = std::getenv("RIFFLE_SHARED_DATA");
  const std::string data = given != nullptr ? given : std::string(RIFFLE_SOURCE_DIR) + "/../shared/data";
  const std::string folder = data + "/imagenet-samples/val";
  return std::filesystem::is_directory(folder) ? folder : "";
}

}  // namespace riffle
