// Quick decoding: the crop's pixels are the exact decoder's where nothing is scaled, and close to them where it is.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "data/encode.h"
#include "data/loader.h"
#include "data/quick_decode.h"
#include "data/training_image.h"
#include "tests/image_fixtures.h"

namespace riffle {
namespace {

// Waves. Where they are some 15 pixels long after resizing, filters of different sharpness leave them alike, and a shift
// by half a pixel does not.
Image picture(int height, int width, double wavelength = 60) {
  const double turn = 2 * 3.14159265358979 / wavelength;
  Image image(height, width, 3);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      for (int c = 0; c < 3; ++c) {
        const double value = 128 + 50 * std::sin(turn * x + c) + 50 * std::cos(0.9 * turn * y - c);
        image.pixels[(static_cast<size_t>(y) * static_cast<size_t>(width) + static_cast<size_t>(x)) * 3 +
                     static_cast<size_t>(c)] = static_cast<uint8_t>(value);
      }
    }
  }
  return image;
}

// The difference of two images' pixels: the mean of its absolute value, and its largest.
struct Difference {
  double mean = 0;
  int largest = 0;
};

Difference difference(const Image& a, const Image& b) {
  EXPECT_EQ(a.pixels.size(), b.pixels.size());
  Difference result;
  int64_t sum = 0;
  for (size_t i = 0; i < std::min(a.pixels.size(), b.pixels.size()); ++i) {
    const int d = std::abs(a.pixels[i] - b.pixels[i]);
    sum += d;
    result.largest = std::max(result.largest, d);
  }
  result.mean = static_cast<double>(sum) / static_cast<double>(a.pixels.size());
  return result;
}

// Whether a crop at the file's own scale has the exact decoder's pixels.
void expect_exact(const std::string& path, const std::vector<uint8_t>& bytes, const Image& whole, const CropBox& box) {
  PartialJpeg file(bytes.data(), bytes.size(), whole.channels);
  ASSERT_TRUE(file.readable()) << path;
  ASSERT_EQ(file.height(), whole.height);
  ASSERT_EQ(file.width(), whole.width);
  const DecodedCrop part = file.decode(box, box.height, box.width, path);
  ASSERT_EQ(part.box.height, box.height);
  ASSERT_EQ(part.box.width, box.width);
  const CropBox inside{static_cast<int>(part.box.top), static_cast<int>(part.box.left), box.height, box.width};
  EXPECT_EQ(crop(part.image, inside).pixels, crop(whole, box).pixels)
      << path << ": " << box.height << "x" << box.width << " at row " << box.top << ", column " << box.left;
}

std::vector<CropBox> boxes_of(int height, int width, int count) {
  std::vector<CropBox> boxes{{0, 0, height, width}, {0, 0, 1, 1}, {height - 1, width - 1, 1, 1}};
  RandomStream random(3, RandomPurpose::kTest, static_cast<uint64_t>(height), static_cast<uint64_t>(width));
  for (int i = 0; i < count; ++i) boxes.push_back(draw_crop({{0.01, 1.0}, {0.5, 2.0}}, height, width, random));
  return boxes;
}

TEST(QuickDecode, UnscaledCropsAreExact) {
  for (const char* name : {"rgb_420.jpg", "rgb_422.jpg", "rgb_444.jpg", "rgb_coded.jpg", "landscape.jpg",
                           "portrait.jpg", "gray.jpg", "exif_rotated.jpg", "one_pixel.jpg"}) {
    const std::string path = image_fixture(name);
    const std::vector<uint8_t> bytes = read_file(path);
    const Image whole = decode_image(bytes.data(), bytes.size(), path, 3);
    for (const CropBox& box : boxes_of(whole.height, whole.width, 60)) expect_exact(path, bytes, whole, box);
  }
  const std::string gray = image_fixture("gray.jpg");
  const std::vector<uint8_t> bytes = read_file(gray);
  const Image whole = decode_image(bytes.data(), bytes.size(), gray, 1);
  for (const CropBox& box : boxes_of(whole.height, whole.width, 20)) expect_exact(gray, bytes, whole, box);
}

TEST(QuickDecode, OnPhotographsToo) {
  const std::string folder = real_images();
  if (folder.empty()) GTEST_SKIP() << "no photographs on this machine";
  const auto data = open_image_folder(folder, 3);
  for (int64_t i = 0; i < data->size(); i += 10) {
    const EncodedImage bytes = data->encoded(i);
    if (!PartialJpeg(bytes->data(), bytes->size(), 3).readable()) continue;
    const Image whole = data->load(i);
    for (const CropBox& box : boxes_of(whole.height, whole.width, 3)) expect_exact(data->name(i), *bytes, whole, box);
  }
}

TEST(QuickDecode, LeavesOthersToTheExactDecoder) {
  for (const char* name : {"cmyk.jpg", "ycck.jpg", "progressive.jpg", "png_named.jpg", "rgba_8bit.png"}) {
    const std::vector<uint8_t> bytes = read_file(image_fixture(name));
    EXPECT_FALSE(PartialJpeg(bytes.data(), bytes.size(), 3).readable()) << name;
  }
  const std::vector<uint8_t> bytes = read_file(image_fixture("rgb_420.jpg"));
  EXPECT_FALSE(PartialJpeg(bytes.data(), bytes.size(), 1).readable());
  EXPECT_FALSE(PartialJpeg(bytes.data(), 0, 3).readable());
  EXPECT_FALSE(PartialJpeg(bytes.data(), 30, 3).readable());
}

TEST(QuickDecode, DamageIsNamedWhereItIsRead) {
  std::vector<uint8_t> bytes = read_file(image_fixture("landscape.jpg"));
  const Image whole = decode_image(bytes.data(), bytes.size(), "whole", 3);
  bytes.resize(bytes.size() * 2 / 3);
  const CropBox top{0, 0, whole.height / 4, whole.width}, bottom{whole.height - 8, 0, 8, whole.width};
  expect_exact("top", bytes, whole, top);
  PartialJpeg file(bytes.data(), bytes.size(), 3);
  expect_error([&] { file.decode(bottom, 8, 8, "cut.jpg"); }, {"cut.jpg: truncated or corrupt JPEG"});
}

// A crop of exactly twice the size is decoded at half the scale, one row less is not.
TEST(QuickDecode, TheScaleIsTheSmallestThatSuffices) {
  const std::vector<uint8_t> bytes = encode_jpeg(picture(400, 400, 50), 92);
  PartialJpeg exact(bytes.data(), bytes.size(), 3), smaller(bytes.data(), bytes.size(), 3);
  EXPECT_EQ(exact.decode({0, 0, 400, 400}, 200, 200, "picture").box.height, 200);
  EXPECT_EQ(smaller.decode({0, 0, 399, 400}, 200, 200, "picture").box.height, 399);
}

// A fractional box of a scaled picture has the picture of the box: no shift by a part of a pixel.
TEST(QuickDecode, ScaledCropsAreClose) {
  RandomStream random(5, RandomPurpose::kTest);
  for (const int size : {200, 100, 47}) {
    const std::vector<uint8_t> bytes = encode_jpeg(picture(901, 1203, 10000.0 / size), 92);
    const Image whole = decode_image(bytes.data(), bytes.size(), "picture", 3);
    for (int i = 0; i < 12; ++i) {
      const CropBox box = draw_crop({{0.3, 1.0}, {0.75, 1.33}}, whole.height, whole.width, random);
      PartialJpeg file(bytes.data(), bytes.size(), 3);
      const DecodedCrop part = file.decode(box, size, size, "picture");
      EXPECT_LE(part.image.height, box.height / 2 + 3);
      EXPECT_GE(part.box.height, size);
      EXPECT_GE(part.box.width, size);
      const Image exact = resize_bilinear(whole, box, size, size);
      const auto difference_to_exact = [&](double shift) {
        FractionalBox shifted = part.box;
        shifted.left += shift;
        shifted.top += shift;
        return difference(resize_fractional(part.image, shifted, size, size), exact).mean;
      };
      EXPECT_LT(difference_to_exact(0), 1.2) << size;
      EXPECT_GT(difference_to_exact(0.5), 2.4) << size;
      EXPECT_GT(difference_to_exact(-0.5), 2.4) << size;
    }
  }
}

// A data set of JPEGs in memory.
class MemoryDataset : public Dataset {
 public:
  explicit MemoryDataset(std::vector<std::vector<uint8_t>> files) {
    for (auto& file : files) files_.push_back(std::make_shared<const std::vector<uint8_t>>(std::move(file)));
  }
  int64_t size() const override { return static_cast<int64_t>(files_.size()); }
  int channels() const override { return 3; }
  const std::vector<std::string>& classes() const override { return classes_; }
  int label(int64_t) const override { return 0; }
  EncodedImage encoded(int64_t index) const override { return files_[static_cast<size_t>(index)]; }
  Image load(int64_t index) const override {
    const EncodedImage file = encoded(index);
    return decode_image(file->data(), file->size(), name(index), 3);
  }
  std::string name(int64_t index) const override { return join("memory[", index, "]"); }
  std::string description() const override { return "memory"; }

 private:
  std::vector<EncodedImage> files_;
  std::vector<std::string> classes_{"only"};
};

TrainTransform standard(int size) {
  TrainTransform transform;
  transform.size = size;
  transform.steps = {RandomResizedCrop{}, Flip{}, ColorJitter{0.4, 0.4, 0.4, 0}, RandomErasing{}};
  return transform;
}

Image training_image(const Dataset& data, int64_t index, TrainTransform transform, DecodeMode mode, uint64_t epoch) {
  transform.decode = mode;
  TrainingImage image(data, index, transform, RandomStream(7, RandomPurpose::kAugment, epoch, 11));
  image.read();
  image.decode();
  image.resample();
  return image.augment();
}

TEST(TrainingImage, QuickModeDrawsTheSame) {
  std::vector<std::vector<uint8_t>> files{encode_jpeg(picture(480, 640, 150), 92)};
  for (const char* name : {"landscape.jpg", "progressive.jpg", "cmyk.jpg", "rgba_8bit.png", "gray.jpg"})
    files.push_back(read_file(image_fixture(name)));
  const MemoryDataset data(std::move(files));
  for (int64_t i = 0; i < data.size(); ++i) {
    for (uint64_t epoch = 0; epoch < 10; ++epoch) {
      const auto pair = [&](int size) {
        const TrainTransform transform = standard(size);
        return difference(training_image(data, i, transform, DecodeMode::kExact, epoch),
                          training_image(data, i, transform, DecodeMode::kQuick, epoch));
      };
      EXPECT_EQ(pair(400).largest, 0) << data.name(i);  // nothing is scaled down so far
      EXPECT_LT(pair(32).mean, 2.0) << data.name(i);
    }
  }
}

TEST(TrainingImage, ResizeIsScaledWhole) {
  const MemoryDataset data({encode_jpeg(picture(401, 603, 80), 92)});
  TrainTransform transform;
  transform.size = 80;
  transform.steps = {Resize{100}, PadAndCrop{0}, Flip{}};
  for (uint64_t epoch = 0; epoch < 5; ++epoch) {
    const Difference found = difference(training_image(data, 0, transform, DecodeMode::kExact, epoch),
                                        training_image(data, 0, transform, DecodeMode::kQuick, epoch));
    EXPECT_LT(found.mean, 0.8);
    EXPECT_GT(found.mean, 0);
  }
}

TEST(TrainingImage, OrientationIsLeftToTheExactDecoder) {
  const MemoryDataset data({read_file(image_fixture("exif_rotated.jpg"))});
  TrainTransform transform = standard(16);
  transform.exif_orientation = true;
  for (uint64_t epoch = 0; epoch < 5; ++epoch)
    EXPECT_EQ(training_image(data, 0, transform, DecodeMode::kExact, epoch).pixels,
              training_image(data, 0, transform, DecodeMode::kQuick, epoch).pixels);
}

TEST(TrainingImage, WhyNotQuick) {
  EXPECT_EQ(why_not_quick(standard(224)), "");
  TrainTransform transform;
  transform.steps = {Flip{}, RandomResizedCrop{}};
  EXPECT_NE(why_not_quick(transform), "");
  transform.steps = {PadAndCrop{}};
  EXPECT_NE(why_not_quick(transform), "");
}

std::vector<std::vector<uint8_t>> batches_of(const Dataset& data, int threads) {
  LoaderOptions options;
  options.batch = 4;
  options.threads = threads;
  options.training = true;
  options.train_transform = standard(64);
  options.train_transform.decode = DecodeMode::kQuick;
  options.max_bad_images = 1;
  Loader loader(data, options);
  loader.start_epoch(2);
  std::vector<std::vector<uint8_t>> batches;
  for (Batch batch; loader.next(batch);)
    batches.emplace_back(batch.images, batch.images + batch.count * batch.height * batch.width * batch.channels);
  EXPECT_EQ(loader.bad_images().size(), 1u);
  return batches;
}

TEST(TrainingImage, ThreadsChangeNothingAndBadImagesAreReplaced) {
  std::vector<std::vector<uint8_t>> files;
  files.reserve(16);
  for (int i = 0; i < 16; ++i) files.push_back(encode_jpeg(picture(150 + 10 * i, 200), 90));
  files[6].resize(200);
  const MemoryDataset data(std::move(files));
  const std::vector<std::vector<uint8_t>> one = batches_of(data, 1), four = batches_of(data, 4);
  ASSERT_EQ(one.size(), 4u);
  EXPECT_EQ(one, four);
}

}  // namespace
}  // namespace riffle
