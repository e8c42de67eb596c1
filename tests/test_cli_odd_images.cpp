// Training and evaluation on a folder of odd and broken images, as a user would run them.
#include "data/encode.h"
#include "riffle_process.h"
#include "tests/generated_images.h"
#include "tests/tiny_data.h"

namespace riffle {
namespace {

namespace fs = std::filesystem;
using Bytes = std::vector<uint8_t>;

class CliOddImages : public testing::Test {
 protected:
  void SetUp() override {
    write_image_folder(source_ + "/train", 32, 40, 1);
    write_image_folder(source_ + "/val", 8, 40, 2);
    std::string config = tiny_config(source_, 3);
    const std::string crops = "transforms: [{pad_and_crop: 1}]", evaluation = "eval: {resize: 0, crop: 32}";
    config.replace(config.find(crops), crops.size(), "transforms: [random_resized_crop]");
    config.replace(config.find(evaluation), evaluation.size(), "eval: {resize: 36, crop: 32}");
    write_bytes(config_, {config.begin(), config.end()});
  }
  ProcessResult train(const std::string& out, std::vector<std::string> words) const {
    words.insert(words.begin(), {"train", config_, "-o", folder_.path() + "/" + out, "--device", "cpu"});
    return run_riffle(words);
  }
  void add_odd_images(const std::string& part) const {
    const std::string folder = source_ + "/" + part + "/south-east/";
    const Bytes four(size_t{48} * 64 * 4, 90), three(size_t{48} * 64 * 3, 90), one(48 * 64, 90);
    JpegKind ycck, gray, progressive;
    ycck.in_space = JCS_CMYK;
    ycck.file_space = JCS_YCCK;
    gray.in_space = gray.file_space = JCS_GRAYSCALE;
    progressive.progressive = true;
    PngKind wide, interlaced;
    wide.bit_depth = 16;
    wide.color_type = PNG_COLOR_TYPE_GRAY_ALPHA;
    interlaced.interlaced = true;
    write_bytes(folder + "ycck.jpg", make_jpeg(four, 48, 64, ycck));
    write_bytes(folder + "gray.JPEG", make_jpeg(one, 48, 64, gray));
    write_bytes(folder + "progressive.JPG", make_jpeg(three, 48, 64, progressive));
    write_bytes(folder + "a_png.JPEG", make_png(three, 48, 64, interlaced));
    write_bytes(folder + "wide_alpha.png", make_png(four, 48, 64, wide));
    write_bytes(folder + "pixel.jpg", make_jpeg({1, 2, 3}, 1, 1, {}));
    write_bytes(folder + "long.png", make_png(Bytes(size_t{20000} * 3, 7), 1, 20000, {}));
  }
  // Their names.
  std::vector<std::string> add_broken_images(const std::string& part) const {
    const std::string folder = source_ + "/" + part + "/north-west/";
    Bytes cut = make_jpeg(Bytes(size_t{48} * 64 * 3, 90), 48, 64, {});
    cut.resize(cut.size() - 40);
    const std::string html = "<html>404</html>", gif("GIF89a\1\0\1\0", 10);
    write_bytes(folder + "cut.jpg", cut);
    write_bytes(folder + "page.jpg", {html.begin(), html.end()});
    write_bytes(folder + "moving.png", {gif.begin(), gif.end()});
    write_bytes(folder + "nothing.jpg", {});
    return {folder + "cut.jpg", folder + "page.jpg", folder + "moving.png", folder + "nothing.jpg"};
  }

  TemporaryFolder folder_;
  std::string source_ = folder_.path() + "/source", config_ = folder_.path() + "/tiny.yaml";
};

TEST_F(CliOddImages, TrainAndEvaluate) {
  add_odd_images("train");
  add_odd_images("val");
  const ProcessResult result = train("run", {"data.max_bad_images=0"});
  expect_success(result);
  const ProcessResult eval =
      run_riffle({"eval", folder_.path() + "/run/checkpoints/last.safetensors", "--device", "cpu", "--json", "-"});
  expect_success(eval);
  expect_contains(eval.out, {"\"images\":15"});
}

TEST_F(CliOddImages, BrokenOnesAreSkippedAndNamedUpToTheLimit) {
  const std::vector<std::string> broken = add_broken_images("train");
  const ProcessResult skipped = train("skipped", {"data.max_bad_images=4"});
  expect_success(skipped);
  expect_contains(skipped.out, broken);
  expect_contains(skipped.out, {"truncated or corrupt JPEG", "not an image", "this is GIF", "the file is empty"});
  expect_failure(train("stopped", {"data.max_bad_images=3"}), 1, {"4 unreadable images", "data.max_bad_images"});
}

TEST_F(CliOddImages, ABrokenOneEndsEvaluation) {
  expect_success(train("run", {}));
  const std::string checkpoint = folder_.path() + "/run/checkpoints/last.safetensors";
  for (const std::string& path : add_broken_images("val")) {
    SCOPED_TRACE(path);
    const std::string data = folder_.path() + "/one";
    fs::remove_all(data);
    for (const std::string& name : quadrant_names()) {
      fs::create_directories(join(data, "/", name));
      write_png(join(data, "/", name, "/a.png"), quadrant_image(0, 40, 3, 1));
    }
    fs::copy(path, data + "/north-east");
    const std::string copied = data + "/north-east/" + fs::path(path).filename().string();
    expect_failure(run_riffle({"eval", checkpoint, "--device", "cpu", "--data", data}), 1, {copied + ": "});
  }
}

}  // namespace
}  // namespace riffle
