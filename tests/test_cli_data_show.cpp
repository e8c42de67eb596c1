// riffle data show, as a user would run it: the pixels of the loader, in files that can be read.
#include "data/encode.h"
#include "data/transform.h"
#include "riffle_process.h"
#include "tests/tiny_data.h"
#include "train/config_reader.h"
#include "train/train_data.h"

namespace riffle {
namespace {

class CliDataShow : public testing::Test {
 protected:
  void SetUp() override {
    write_image_folder(source_ + "/train", 24, 32, 1);
    write_image_folder(source_ + "/val", 4, 32, 2);
    write_bytes(config_, bytes_of(tiny_config(source_, 3)));
  }
  static std::vector<uint8_t> bytes_of(const std::string& text) { return {text.begin(), text.end()}; }
  ProcessResult show(std::vector<std::string> words) const {
    words.insert(words.begin(), {"data", "show", config_});
    return run_riffle(words);
  }
  // The images of a batch of training, each enlarged by `factor`, one after the other.
  std::vector<std::vector<uint8_t>> expected(int64_t epoch, int64_t batch_number, int factor) const {
    const Config config = read_config(config_, {});
    const TrainData data = open_train_data(config);
    Loader loader(*data.train, train_loader_options(config, 1));
    loader.start_epoch(epoch - 1, batch_number - 1);
    Batch batch;
    EXPECT_TRUE(loader.next(batch));
    std::vector<std::vector<uint8_t>> all;
    for (int64_t i = 0; i < batch.count; ++i) {
      std::vector<uint8_t> pixels;
      for (int64_t y = 0; y < batch.height * factor; ++y) {
        for (int64_t x = 0; x < batch.width * factor; ++x) {
          const uint8_t* at = batch.images + ((i * batch.height + y / factor) * batch.width + x / factor) * 3;
          pixels.insert(pixels.end(), at, at + 3);
        }
      }
      all.push_back(pixels);
    }
    return all;
  }

  TemporaryFolder folder_;
  std::string source_ = folder_.path() + "/source", config_ = folder_.path() + "/tiny.yaml";
};

TEST_F(CliDataShow, ShowsWhatTheLoaderGives) {
  const std::string out = folder_.path() + "/sheet.png";
  const ProcessResult result = show({"--out", out, "--images", "8", "--epoch", "2", "--batch", "3", "--columns", "4"});
  expect_success(result);
  expect_contains(result.out, {out, "8 training images of 32x32", "batch 3 of epoch 2"});
  const Image sheet = decode_file(out, 3);
  EXPECT_EQ(sheet.width, 4 * (96 + 6) + 6);
  const std::vector<std::vector<uint8_t>> images = expected(2, 3, 3);
  const int cell_height = (sheet.height - 6) / 2;
  for (int i = 0; i < 8; ++i) {
    const CropBox cell{6 + i / 4 * cell_height, 6 + i % 4 * 102, 96, 96};
    EXPECT_EQ(crop(sheet, cell).pixels, images[static_cast<size_t>(i)]) << "image " << i;
  }
  EXPECT_NE(expected(1, 3, 3), images) << "another epoch, other images";
}

TEST_F(CliDataShow, WritesJpegAndStopsAtTheEndOfTheEpoch) {
  const std::string out = folder_.path() + "/sheet.JPG";
  const ProcessResult result = show({"train.batch=5", "--out", out});
  expect_success(result);
  expect_contains(result.out, {"20 training images"});
  EXPECT_EQ(read_file(out)[0], 0xFF);
  EXPECT_EQ(decode_file(out, 3).width, 5 * 102 + 6);
}

TEST_F(CliDataShow, NamesBadImages) {
  const std::string bad = source_ + "/train/north-east/0.png";
  write_bytes(bad, {'<', 'h', 't', 'm', 'l', '>'});
  const std::string out = folder_.path() + "/sheet.png";
  const ProcessResult result = show({"data.max_bad_images=1", "--out", out});
  expect_success(result);
  expect_contains(result.out, {"warning: skipped, as in training: ", bad, "24 training images"});
  expect_failure(show({"data.max_bad_images=0", "--out", out}), 1, {bad, "data.max_bad_images"});
}

TEST_F(CliDataShow, RefusesWhatItCannotDo) {
  const std::string out = folder_.path() + "/sheet.png";
  expect_failure(show({"--out", folder_.path() + "/sheet.gif"}), 2, {"sheet.gif", ".png, .jpg or .jpeg"});
  expect_failure(show({"--out", out, "--batch", "4"}), 2, {"--batch 4", "3 batches"});
  expect_failure(show({"--out", folder_.path() + "/absent/sheet.png"}), 1, {"absent"});
  expect_failure(show({"--out", out, "no.such=1"}), 2, {"no.such"});
  EXPECT_FALSE(std::filesystem::exists(out));
}

}  // namespace
}  // namespace riffle
