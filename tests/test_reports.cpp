// What people and tools read: numbers, progress lines, curves, run folders, image paths, predictions.
#include <gtest/gtest.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "image_fixtures.h"
#include "train/curves.h"
#include "train/image_paths.h"
#include "train/predictor.h"
#include "train/progress.h"
#include "train/run_folder.h"
#include "train/text.h"

namespace riffle {
namespace {

namespace fs = std::filesystem;

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(Text, Numbers) {
  EXPECT_EQ(format_count(0), "0");
  EXPECT_EQ(format_count(999), "999");
  EXPECT_EQ(format_count(1366792), "1,366,792");
  EXPECT_EQ(format_count(-1000), "-1,000");
  EXPECT_EQ(format_percent(0.9213), "92.13%");
  EXPECT_EQ(format_significant(0.0001875, 4), "0.0001875");
  EXPECT_EQ(format_bytes(1536), "1.5 KiB");
  EXPECT_EQ(format_bytes(512), "512 B");
  EXPECT_EQ(format_names({"a", "b"}), "'a', 'b'");
  EXPECT_EQ(format_names({"a", "b", "c", "d", "e", "f"}), "'a', 'b', 'c', 'd', 'e', ...");
}

TEST(Text, Durations) {
  EXPECT_EQ(format_duration(0.4), "0s");
  EXPECT_EQ(format_duration(59.6), "1m00s");
  EXPECT_EQ(format_duration(252), "4m12s");
  EXPECT_EQ(format_duration(3 * 3600 + 5 * 60), "3h05m");
  EXPECT_EQ(format_duration(2 * 86400 + 4 * 3600), "2d04h");
  EXPECT_EQ(format_duration(1.0 / 0.0), "?");
}

TrainProgress some_progress() {
  TrainProgress progress;
  progress.epoch = 2;
  progress.epochs = 30;
  progress.step = 17;
  progress.steps = 300;
  progress.loss = 0.5;
  progress.top1 = 0.75;
  progress.top5 = 1;
  progress.lr = 0.125;
  progress.images_per_s = 1234;
  progress.data_wait_fraction = 0.03;
  progress.eta_s = 61;
  return progress;
}

TEST(Progress, PlainStylePrintsLoggedStepsOnly) {
  std::ostringstream out;
  Progress progress(out, Progress::Style::kPlain, /*colour=*/false);
  progress.step(some_progress(), /*logged=*/false);
  EXPECT_EQ(out.str(), "");
  progress.step(some_progress(), /*logged=*/true);
  EXPECT_EQ(out.str(),
            "epoch 2/30  step 17/300  ETA 1m01s  loss 0.5000  top-1 75.00%  top-5 100.00%  lr 0.125  1234 images/s  "
            "data wait 3%\n");
}

TEST(Progress, LiveStyleRedrawsOneLineAndClearsItForOthers) {
  std::ostringstream out;
  Progress progress(out, Progress::Style::kLive, /*colour=*/true);
  progress.step(some_progress(), /*logged=*/false);
  EXPECT_EQ(out.str().find('\r'), 0u);
  EXPECT_FALSE(contains(out.str(), "\n"));
  out.str("");
  progress.highlight("done");
  EXPECT_EQ(out.str(), "\r\x1b[K\x1b[1mdone\x1b[0m\n");
  out.str("");
  Progress(out, Progress::Style::kLive, /*colour=*/false).highlight("done");
  EXPECT_EQ(out.str(), "done\n");
}

TEST(Progress, EndsItsLiveLineBeforeAnErrorIsReported) {
  std::ostringstream out;
  try {
    Progress progress(out, Progress::Style::kLive, /*colour=*/false);
    progress.step(some_progress(), /*logged=*/false);
    fail("diverged");
  } catch (const Error& error) {
    out << error.what();
  }
  EXPECT_TRUE(contains(out.str(), "\x1b[K\ndiverged"));
  out.str("");
  { const Progress unused(out, Progress::Style::kLive, /*colour=*/false); }
  EXPECT_EQ(out.str(), "");
}

TEST(Progress, EvaluationsAreShownInLiveStyleOnly) {
  std::ostringstream live, plain;
  Progress(live, Progress::Style::kLive, /*colour=*/true).evaluation("epoch 1/2  validation", 3000, 10000);
  EXPECT_EQ(live.str(), "\repoch 1/2  validation  3,000/10,000 images\x1b[K\n");
  Progress(plain, Progress::Style::kPlain, /*colour=*/false).evaluation("epoch 1/2  validation", 3000, 10000);
  EXPECT_EQ(plain.str(), "");
}

TEST(Progress, LiveLinesFitTheirTerminal) {
  TrainProgress progress = some_progress();
  EXPECT_EQ(describe_within(progress, 500), describe(progress));
  EXPECT_EQ(describe_within(progress, 79),
            "ep 2/30 17/300 ETA 1m01s loss 0.5000 top-1/5 75.0/100.0% lr 0.12 1234/s wait 3%");
  progress.prefetch = 4;
  progress.data_queue = 3.94;
  progress.grad_norm = 1.5;
  progress.process_peak_bytes = 3 << 20;
  EXPECT_EQ(
      describe_within(progress, 115),
      "ep 2/30 17/300 ETA 1m01s loss 0.5000 top-1/5 75.0/100.0% lr 0.12 1234/s wait 3% queue 3.9/4 norm 1.5 3.0 MiB");
  EXPECT_EQ(describe_within(progress, 79),
            "ep 2 5% ETA 1m01s loss 0.500 top-1 75% lr 0.12 1234/s wait 3% q 3.9 norm 1.5 3M");
  progress.images_per_s = 12;
  progress.epochs = 3;
  progress.steps = 30;
  progress.eta_s = 1;
  EXPECT_EQ(describe_within(progress, 79),
            "ep 2/3 17/30 ETA 1s loss 0.500 top-1 75% lr 0.12 12/s wait 3% q 3.9 norm 1.5 3M");
  EXPECT_EQ(describe_within(progress, 3), "");
}

// A week of ImageNet: what is asked for of a line of 80 columns is there, in the order of its worth when there is less room.
TEST(Progress, LongRunsFitEightyColumns) {
  TrainProgress progress = some_progress();
  progress.epoch = progress.epochs = 240;
  progress.step = progress.steps = 300000;
  progress.eta_s = 6 * 86400 + 23 * 3600;
  progress.loss = 12.345;
  progress.top1 = progress.data_wait_fraction = 1;
  progress.images_per_s = 12345;
  progress.prefetch = 16;
  progress.data_queue = 15.96;
  progress.grad_norm = 123;
  progress.process_peak_bytes = int64_t{100} << 30;
  EXPECT_EQ(describe_within(progress, 79),
            "ep 240 100% ETA 6d23h loss 12.345 12345/s wait 100% q 16.0 norm 1.2e+02 100.0G");
  EXPECT_EQ(describe_within(progress, 41), "ep 240 100% ETA 6d23h loss 12.345 12345/s");
  progress.step = 299999;
  EXPECT_EQ(describe_within(progress, 12), "ep 240 99%") << "not done before it is";
}

TEST(Progress, GradientNormLossScaleAndMemoryAreShownWhereKnown) {
  TrainProgress progress = some_progress();
  progress.grad_norm = 1.25;
  progress.loss_scale = 65536;
  progress.process_peak_bytes = 3 << 20;
  EXPECT_TRUE(contains(describe(progress), "data wait 3%  grad norm 1.25  loss scale 65536  memory 3.0 MiB"));
  progress.device_peak_bytes = 1 << 20;
  EXPECT_EQ(describe_memory(progress), "3.0 MiB, tensors 1.0 MiB");
}

TEST(Progress, EvaluationsNameAccuracyAndError) {
  EvalResult result;
  result.sums.images = 1000;
  result.sums.top1_correct = 921;
  result.sums.top5_correct = 999;
  result.sums.loss_sum = 250;
  result.seconds = 0.5;
  EXPECT_EQ(describe(result),
            "top-1 accuracy 92.10% (error 7.90%)  top-5 accuracy 99.90% (error 0.10%)  loss 0.2500  1,000 images  "
            "2000 images/s");
  result.sums.not_finite = 3;
  EXPECT_TRUE(contains(describe(result), "WARNING: 3 images have a non-finite loss"));
}

size_t count_of(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

TEST(Curves, DrawEveryFinitePointInsideThePanel) {
  const Curve curve{"loss <a&b>", "val", {{1, 2}, {2, NAN}, {3, 0.5}}};
  const std::string svg = curves_svg("run", "epoch", {{"loss", {curve}}, {"empty", {{"none", "train", {}}}}});
  EXPECT_EQ(svg.rfind("<svg", 0), 0u);
  EXPECT_TRUE(contains(svg, "loss &lt;a&amp;b&gt;"));
  EXPECT_TRUE(contains(svg, "prefers-color-scheme: dark"));
  EXPECT_FALSE(contains(svg, "nan"));
  EXPECT_EQ(count_of(svg, "<polyline"), 2u);
  const size_t begin = svg.find("points=\"") + 8;
  const std::string points = svg.substr(begin, svg.find('"', begin) - begin);
  // x axis 0..3, y axis 0.5..2 of a 386 x 208 plot at (58, 64).
  EXPECT_EQ(points, "186.7,64.0 444.0,272.0 ");
}

TEST(Curves, OnePointAndEqualPointsHaveAxes) {
  const Curve flat{"flat", "train", {{1, 0.25}, {2, 0.25}}};
  const std::string svg = curves_svg("run", "epoch", {{"loss", {flat}}});
  EXPECT_FALSE(contains(svg, "nan"));
  EXPECT_FALSE(contains(svg, "inf"));
}

TEST(RunFolder, AppendsMetricsAndKeepsForeignFiles) {
  const TemporaryFolder temporary;
  const std::string path = temporary.path() + "/runs/a";
  auto folder = std::make_unique<RunFolder>(path, /*overwrite=*/false);
  folder->append_metrics({{"step", 1}});
  folder->append_metrics({{"step", 2}});
  std::ifstream log(folder->metrics());
  std::string first, second;
  std::getline(log, first);
  std::getline(log, second);
  EXPECT_EQ(first, "{\"step\":1}");
  EXPECT_EQ(second, "{\"step\":2}");
  expect_error([&] { RunFolder(path, /*overwrite=*/false); }, {path, "not empty", "--overwrite"});
  write_bytes(path + "/notes.txt", {'x'});
  expect_error([&] { RunFolder(path, /*overwrite=*/true); }, {path, "another riffle is training"});
  // What a killed process left half written, and what was set aside.
  const std::vector<std::string> left{path + "/config.resolved.yaml.tmp-12", folder->step_checkpoint(4) + ".tmp-12",
                                      RunFolder::superseded(folder->step_checkpoint(8))};
  for (const std::string& name : left) write_bytes(name, {'x'});
  folder.reset();
  const RunFolder again(path, /*overwrite=*/true);
  EXPECT_FALSE(fs::exists(again.metrics()));
  for (const std::string& name : left) EXPECT_FALSE(fs::exists(name)) << name;
  EXPECT_TRUE(fs::exists(path + "/notes.txt"));
  fs::remove_all(path);
  expect_error([&] { again.append_metrics({{"step", 3}}); }, {again.metrics(), "No such file"});
}

TEST(RunFolder, ADiskThatIsFullIsSaid) {
  const TemporaryFolder temporary;
  const RunFolder folder(temporary.path() + "/run", /*overwrite=*/false);
  fs::create_symlink("/dev/full", folder.metrics());
  expect_error([&] { folder.append_metrics({{"step", 1}}); }, {folder.metrics(), "No space left on device"});
}

TEST(RunFolder, IsCheckedWithoutBeingMade) {
  const TemporaryFolder temporary;
  const std::string path = temporary.path() + "/deep/run", file = temporary.path() + "/file";
  RunFolder::check(path, /*overwrite=*/false);
  EXPECT_TRUE(fs::is_empty(temporary.path()));
  write_bytes(file, {'x'});
  expect_error([&] { RunFolder::check(file, false); }, {"cannot create the run folder " + file, "Not a directory"});
  expect_error([&] { RunFolder::check(file + "/run", false); }, {file + "/run", "Not a directory", "-o"});
  fs::create_directories(path + "/checkpoints");
  expect_error([&] { RunFolder::check(path, false); }, {path, "not empty", "--overwrite"});
  RunFolder::check(path, /*overwrite=*/true);
  if (geteuid() == 0) GTEST_SKIP() << "root may write everywhere";
  fs::permissions(path + "/checkpoints", fs::perms::owner_read | fs::perms::owner_exec);
  expect_error([&] { RunFolder::check(path, true); }, {path, "Permission denied"});
  fs::permissions(path, fs::perms::owner_read | fs::perms::owner_exec);
  expect_error([&] { RunFolder::check(path + "/new", false); }, {path + "/new", "Permission denied", "-o"});
  fs::permissions(path, fs::perms::owner_all);
}

TEST(RunFolder, TextFilesAreCheckedWithoutBeingWritten) {
  const TemporaryFolder folder;
  const std::string file = folder.path() + "/a.json";
  check_text_file(file);
  EXPECT_TRUE(fs::is_empty(folder.path()));
  write_text_file(file, "one");
  check_text_file(file);
  EXPECT_EQ(read_file(file), (std::vector<uint8_t>{'o', 'n', 'e'}));
  check_text_file("/dev/null");
  expect_error([&] { check_text_file(folder.path()); }, {folder.path(), "it is a folder"});
  expect_error([&] { check_text_file(folder.path() + "/none/a.json"); }, {"/none/a.json", "does not exist"});
}

TEST(RunFolder, TextFilesReplaceFilesButNeverDevices) {
  const TemporaryFolder folder;
  const std::string file = folder.path() + "/a.txt";
  write_text_file(file, "one");
  write_text_file(file, "two");
  EXPECT_EQ(read_file(file), (std::vector<uint8_t>{'t', 'w', 'o'}));
  write_text_file("/dev/null", "gone");
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
  expect_error([] { write_text_file("/dev/full", "x"); }, {"/dev/full", "No space left"});
  EXPECT_TRUE(fs::is_character_file("/dev/full"));
}

TEST(RunFolder, DefaultIsNamedAfterTheConfiguration) {
  const std::string name = default_run_folder("configs/fashion.mnist.yaml");
  EXPECT_EQ(name.rfind("runs/fashion.mnist-20", 0), 0u) << name;
  EXPECT_EQ(name.size(), std::string("runs/fashion.mnist-20260102-030405").size());
}

TEST(ImagePaths, FilesFoldersAndPatterns) {
  const TemporaryFolder folder;
  const std::string& root = folder.path();
  for (const char* name :
       {"b.JPG", "a.png", "notes.txt", ".hidden.png", "deep/er/c.jpeg", ".cache/d.png", "e[1].png"}) {
    fs::create_directories(fs::path(root + "/" + name).parent_path());
    write_bytes(root + "/" + name, {'x'});
  }
  const auto below = [&](std::vector<std::string> names) {
    for (std::string& name : names) name.insert(0, root + "/");
    return names;
  };
  EXPECT_EQ(find_images({root}), below({"a.png", "b.JPG", "deep/er/c.jpeg", "e[1].png"}));
  EXPECT_EQ(find_images({root + "/*.png"}), below({"a.png", "e[1].png"}));
  EXPECT_EQ(find_images({root + "/e[1].png", root + "/notes.txt"}), below({"e[1].png", "notes.txt"}));
  EXPECT_EQ(find_images({root + "/d*"}), below({"deep/er/c.jpeg"}));
  expect_error([&] { find_images({root + "/*.gif"}); }, {root + "/*.gif", "no match"});
  fs::create_directories(root + "/none");
  expect_error([&] { find_images({root + "/none"}); }, {root + "/none", ".png"});
}

// A loop of links, and a folder that is reached by two ways.
TEST(ImagePaths, EveryRealFolderIsSearchedOnce) {
  const TemporaryFolder folder;
  const std::string& root = folder.path();
  fs::create_directories(root + "/photos/deep");
  fs::create_directories(root + "/elsewhere");
  write_bytes(root + "/photos/deep/a.png", {'x'});
  write_bytes(root + "/elsewhere/b.png", {'x'});
  fs::create_directory_symlink("..", root + "/photos/deep/up");
  fs::create_directory_symlink("deep", root + "/photos/again");
  fs::create_directory_symlink("../elsewhere", root + "/photos/link");
  const std::vector<std::string> expected{root + "/photos/deep/a.png", root + "/photos/link/b.png"};
  EXPECT_EQ(find_images({root + "/photos"}), expected);
  fs::create_directory_symlink("photos", root + "/entry");
  EXPECT_EQ(find_images({root + "/entry"}).size(), 2u);
}

TEST(Prediction, SoftmaxOfLargeLogitsAndTies) {
  const std::vector<float> logits{1000, 1001, 1001, -1000};
  const std::vector<Prediction> top = most_probable(logits.data(), 4, 3);
  ASSERT_EQ(top.size(), 3u);
  EXPECT_EQ(top[0].index, 1);
  EXPECT_EQ(top[1].index, 2);
  EXPECT_EQ(top[2].index, 0);
  EXPECT_DOUBLE_EQ(top[0].probability, 1 / (2 + std::exp(-1.0)));
  EXPECT_EQ(most_probable(logits.data(), 4, 10).size(), 4u);
}

}  // namespace
}  // namespace riffle
