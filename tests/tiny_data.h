// Small data sets that a small network learns in seconds, written to disk as the real ones come: a bright square on
// noise, whose quadrant is the class.
#pragma once

#include <png.h>

#include <filesystem>
#include <string>
#include <vector>

#include "core/rng.h"
#include "image_fixtures.h"

namespace riffle {

inline const std::vector<std::string>& quadrant_names() {
  static const std::vector<std::string> names{"north-east", "north-west", "south-east", "south-west"};
  return names;
}

// Classes alternate: image i shows class i % 4.
inline Image quadrant_image(int64_t index, int size, int channels, uint64_t seed) {
  RandomStream random(seed, RandomPurpose::kTest, static_cast<uint64_t>(index));
  const int label = static_cast<int>(index % 4);
  const int top = label < 2 ? 0 : size / 2, left = label % 2 == 0 ? size / 2 : 0;
  Image image(size, size, channels);
  size_t at = 0;
  for (int y = 0; y < size; ++y) {
    for (int x = 0; x < size; ++x) {
      const bool bright = y >= top && y < top + size / 2 && x >= left && x < left + size / 2;
      for (int c = 0; c < channels; ++c) {
        image.pixels[at++] = static_cast<uint8_t>(random.below(100) + (bright ? 120 : 0));
      }
    }
  }
  return image;
}

inline void append_big_endian(std::vector<uint8_t>& bytes, uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) bytes.push_back(static_cast<uint8_t>(value >> shift));
}

// One split of an IDX data set: prefix "train" or "t10k". Images are gray.
inline void write_idx(const std::string& folder, const std::string& prefix, int64_t count, int size, uint64_t seed) {
  std::filesystem::create_directories(folder);
  std::vector<uint8_t> images, labels;
  append_big_endian(images, 0x00000803);
  append_big_endian(images, static_cast<uint32_t>(count));
  append_big_endian(images, static_cast<uint32_t>(size));
  append_big_endian(images, static_cast<uint32_t>(size));
  append_big_endian(labels, 0x00000801);
  append_big_endian(labels, static_cast<uint32_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    const Image image = quadrant_image(i, size, 1, seed);
    images.insert(images.end(), image.pixels.begin(), image.pixels.end());
    labels.push_back(static_cast<uint8_t>(i % 4));
  }
  write_bytes(folder + "/" + prefix + "-images-idx3-ubyte", images);
  write_bytes(folder + "/" + prefix + "-labels-idx1-ubyte", labels);
}

inline void write_idx_data(const std::string& folder, int size = 32) {
  write_idx(folder, "train", 64, size, 1);
  write_idx(folder, "t10k", 22, size, 2);
}

inline void write_png(const std::string& path, const Image& image) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  png_image header{};
  header.version = PNG_IMAGE_VERSION;
  header.width = static_cast<png_uint_32>(image.width);
  header.height = static_cast<png_uint_32>(image.height);
  header.format = image.channels == 3 ? PNG_FORMAT_RGB : PNG_FORMAT_GRAY;
  ASSERT_NE(png_image_write_to_file(&header, path.c_str(), 0, image.pixels.data(), 0, nullptr), 0) << path;
}

// root/<class>/<number>.png, RGB.
inline void write_image_folder(const std::string& root, int64_t count, int size, uint64_t seed) {
  for (int64_t i = 0; i < count; ++i) {
    const std::string& name = quadrant_names()[static_cast<size_t>(i % 4)];
    write_png(join(root, "/", name, "/", i, ".png"), quadrant_image(i, size, 3, seed));
  }
}

// A configuration of a network that trains in a second. `data` is a data source.
inline std::string tiny_config(const std::string& data, int channels) {
  const std::string per_channel = channels == 1 ? "[0.5]" : "[0.5, 0.5, 0.5]";
  return "model: {width: custom, stage_channels: [16, 24, 32], stage_repeats: [2, 1, 1], stem_channels: 8,\n"
         "        head_channels: 32, stem_stride: 2, stem_max_pool: false, input_channels: " +
         std::to_string(channels) +
         "}\n"
         "data: {source: \"" +
         data +
         "\"}\n"
         "normalisation: {mean: " +
         per_channel + ", std: " + per_channel +
         "}\n"
         "augment: {size: 32, transforms: [{pad_and_crop: 1}]}\n"
         "eval: {resize: 0, crop: 32}\n"
         "optimizer: {nesterov: true}\n"
         "schedule: {lr: 0.1}\n"
         "train: {duration: 2ep, batch: 8, seed: 7, log_every_steps: 3}\n";
}

}  // namespace riffle
