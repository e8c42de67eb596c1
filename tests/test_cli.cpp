// The command line as a user meets it: help, misspellings and bad input. Each mistake gets one clear message, exit code
// 2 where the command line or configuration is wrong, 1 where the world is.
#include <fstream>
#include <regex>

#include "riffle_process.h"
#include "tiny_data.h"

namespace riffle {
namespace {

class CommandLine : public testing::Test {
 protected:
  std::string path(const std::string& name) const { return folder_.path() + "/" + name; }

  // A configuration of the tiny network on `data`; returns its path.
  std::string config(const std::string& data, int channels, const std::string& more = "") const {
    std::ofstream(path("tiny.yaml")) << tiny_config(data, channels) << more;
    return path("tiny.yaml");
  }
  ProcessResult dry_run(const std::string& config_path, const std::vector<std::string>& overrides = {}) const {
    std::vector<std::string> arguments{"train", config_path, "--dry-run", "--device", "cpu"};
    arguments.insert(arguments.end(), overrides.begin(), overrides.end());
    return run_riffle(arguments);
  }

  TemporaryFolder folder_;
};

TEST_F(CommandLine, HelpTeaches) {
  const ProcessResult help = run_riffle({"--help"});
  expect_success(help);
  expect_contains(help.out, {"train", "eval", "predict", "inspect", "devices", "bench", "Examples:"});
  for (const char* command : {"train", "eval", "predict", "convert", "inspect", "bench", "devices"}) {
    const ProcessResult of_command = run_riffle({command, "--help"});
    expect_success(of_command);
    expect_contains(of_command.out, {"Example", std::string("riffle ") + command});
  }
}

TEST_F(CommandLine, NoCommandIsAnError) {
  const ProcessResult result = run_riffle({});
  EXPECT_EQ(result.exit_code, 2);
  expect_contains(result.err, {"train", "Examples:"});
}

TEST_F(CommandLine, VersionIsTheProjects) {
  std::smatch version;
  const std::string cmake = text_of(std::string(RIFFLE_SOURCE_DIR) + "/CMakeLists.txt");
  ASSERT_TRUE(std::regex_search(cmake, version, std::regex("project\\(riffle VERSION ([0-9.]+)")));
  EXPECT_EQ(run_riffle({"--version"}).out, "riffle " + version[1].str() + "\n");
}

TEST_F(CommandLine, UnknownWordsNameTheNearest) {
  expect_failure(run_riffle({"trian", "x.yaml"}), 2, {"unknown command 'trian'", "did you mean 'train'?"});
  expect_failure(run_riffle({"zzzzzzzz"}), 2, {"unknown command 'zzzzzzzz'", "train, eval, predict"});
  expect_failure(run_riffle({"--versoin"}), 2, {"unknown option --versoin", "did you mean '--version'?"});
  expect_failure(run_riffle({"train", "x.yaml", "--devise", "cpu"}), 2, {"--devise", "did you mean '--device'?"});
  expect_failure(run_riffle({"eval", "x", "--bacth=3"}), 2, {"--bacth of 'eval'", "did you mean '--batch'?"});
}

TEST_F(CommandLine, OptionsWithOneDashNameTheNearest) {
  expect_failure(run_riffle({"train", "x.yaml", "-device", "cpu"}), 2, {"option -device", "did you mean '--device'?"});
  expect_failure(run_riffle({"train", "x.yaml", "-output", "d"}), 2, {"option -output", "did you mean '--output'?"});
  expect_failure(run_riffle({"eval", "x", "-bacth=3"}), 2, {"option -bacth of", "did you mean '--batch'?"});
  expect_failure(run_riffle({"train", "x.yaml", "-s", "3"}), 2, {"option -s of 'train'", "did you mean '--seed'?"});
  expect_failure(run_riffle({"-x"}), 2, {"option -x;", "the options are --help, --version"});
  expect_failure(run_riffle({"eval", "x", "--qqqqqqqq"}), 2,
                 {"option --qqqqqqqq", "--batch, --allow-bad, --truncated, --json"});
  // A value may begin with a dash, and may stand in the option's own word.
  expect_failure(run_riffle({"train", path("absent.yaml"), "-o", "-device"}), 2, {"absent.yaml"});
  expect_failure(run_riffle({"train", path("absent.yaml"), "-o" + path("run")}), 2, {"absent.yaml"});
}

TEST_F(CommandLine, NumbersThatAreNoneAreQuoted) {
  expect_failure(run_riffle({"eval", "x", "--batch", "abc"}), 2, {"--batch: 'abc' is not a whole number from 1 to"});
  expect_failure(run_riffle({"predict", "x", "y", "--limit", "1.5"}), 2, {"--limit: '1.5' is not a whole number"});
  expect_failure(run_riffle({"bench", "--threads", "two"}), 2, {"--threads: 'two' is not a whole number from 0"});
}

TEST_F(CommandLine, OptionsOfImagesAndOfTensorsExcludeEachOther) {
  const std::vector<std::string> tensor{"predict", "x", "--tensor", "in.npz", "--logits", "out.npy"};
  for (const std::vector<std::string>& more :
       std::vector<std::vector<std::string>>{{"--topk", "3"}, {"--json"}, {"--limit", "2"}}) {
    std::vector<std::string> arguments = tensor;
    arguments.insert(arguments.end(), more.begin(), more.end());
    expect_failure(run_riffle(arguments), 2, {more.front(), "excludes", "--tensor"});
  }
}

TEST_F(CommandLine, FilesOfTheWrongKindAreNamed) {
  const std::vector<uint8_t> zip{'P', 'K', 3, 4, 10, 0, 0, 0, 0, 0, 0, 0},
      pickle{0x80, 2, 0x8a, 10, 'l', 0, 0, 0, 0, 0};
  write_bytes(path("model.pth"), zip);
  write_bytes(path("model.pt"), pickle);
  expect_failure(run_riffle({"eval", path("model.pth")}), 1, {"model.pth is a zip archive", "riffle convert"});
  expect_failure(run_riffle({"eval", path("model.pt")}), 1, {"model.pt is a Python pickle", "riffle convert"});
  expect_failure(run_riffle({"inspect", path("model.pth")}), 1, {"model.pth"});
  expect_failure(run_riffle({"train", path("model.pth")}), 2, {"model.pth: is not a text file", "YAML"});
}

TEST_F(CommandLine, WrongArgumentsAreUsageErrors) {
  expect_failure(run_riffle({"train"}), 2, {"CONFIG", "riffle train --help"});
  expect_failure(run_riffle({"eval", "x", "--batch", "many"}), 2, {"--batch", "many"});
  expect_failure(run_riffle({"predict", "x", "y", "--topk", "0"}), 2, {"--topk"});
  expect_failure(run_riffle({"predict", "x"}), 2, {"PATH", "--tensor"});
  expect_failure(run_riffle({"predict", "x", "--tensor", "in.npz"}), 2, {"--logits"});
  expect_failure(run_riffle({"bench", "--mode", "sleep"}), 2, {"--mode", "infer"});
  expect_failure(run_riffle({"bench", "-q"}), 2, {"-q"});
}

// Without a GPU, in a build with CUDA and in one without, auto computes on the CPU and says why, once; what was asked for
// by name fails with the same reason.
TEST_F(CommandLine, WithoutAGpuTheReasonIsSaidOnce) {
  const ProcessResult devices = run_riffle({"devices"});
  expect_success(devices);
  const std::string before = "cuda    not used: ";
  const size_t at = devices.out.find(before);
  if (devices.out.find("cuda:0 ") != std::string::npos) GTEST_SKIP() << "CUDA is used here:\n" << devices.out;
  ASSERT_NE(at, std::string::npos) << devices.out;
  const size_t begin = at + before.size();
  const std::string reason = devices.out.substr(begin, devices.out.find('\n', begin) - begin);
  EXPECT_FALSE(reason.empty());
  const std::vector<std::string> bench{"bench",   "--mode", "infer",   "--width", "0.5x",      "--size", "32",
                                       "--batch", "1",      "--steps", "1",       "--repeats", "1"};
  const ProcessResult automatic = run_riffle(bench);
  expect_success(automatic);
  const std::string all = automatic.out + automatic.err;
  expect_contains(all, {"device      CPU: ", "(chosen by auto: " + reason + ")"});
  EXPECT_EQ(all.find(reason), all.rfind(reason)) << all;
  std::vector<std::string> on_gpu = bench;
  on_gpu.insert(on_gpu.end(), {"--device", "cuda"});
  expect_failure(run_riffle(on_gpu), 1, {"--device cuda: " + reason + "; use --device cpu"});
}

TEST_F(CommandLine, BenchShowsTheTimeOfEachLayer) {
  const ProcessResult bench = run_riffle({"bench", "--layers", "--width", "0.5x", "--size", "32", "--batch", "2",
                                          "--steps", "2", "--repeats", "1", "--device", "cpu"});
  expect_success(bench);
  for (const char* row :
       {"layer +forward ms  backward ms +share", "stage4.3.branch2 +[0-9.]+ +[0-9.]+ +[0-9.]+%",
        "fc +[0-9.]+ +[0-9.]+ +[0-9.]+%", "loss +[0-9.]+ +- +[0-9.]+%", "sum +[0-9.]+% of the [0-9.]+ ms of a step"})
    EXPECT_TRUE(std::regex_search(bench.out, std::regex("\n" + std::string(row)))) << row << " in\n" << bench.out;
}

TEST_F(CommandLine, DevicesAreCheckedAndExplained) {
  expect_failure(run_riffle({"bench", "--device", "gpu"}), 2, {"--device gpu", "auto, cpu, cuda"});
  expect_failure(run_riffle({"bench", "--threads", "-1"}), 2, {"--threads", "-1"});
  const ProcessResult devices = run_riffle({"devices"});
  expect_success(devices);
  expect_contains(devices.out, {"oneDNN", "instruction set", "memory", "available", "cuda", "\nauto    "});
  const ProcessResult asked = run_riffle({"devices", "--device", "cpu", "--threads", "1"});
  expect_success(asked);
  expect_contains(asked.out, {"cuda", "\nasked   CPU: ", "1 thread"});
  const ProcessResult absent = run_riffle({"devices", "--device", "cuda:999"});
  expect_failure(absent, 1, {"--device cuda:999"});
  EXPECT_EQ(absent.out, "");
}

TEST_F(CommandLine, InspectTakesADevice) {
  write_idx_data(path("idx"));
  const std::string file = config("idx:" + path("idx"), 1);
  const ProcessResult plain = run_riffle({"inspect", file});
  expect_success(plain);
  EXPECT_EQ(run_riffle({"inspect", file, "--device", "cpu", "--threads", "1"}).out, plain.out);
  expect_failure(run_riffle({"inspect", file, "--device", "gpu"}), 2, {"--device gpu", "auto, cpu, cuda"});
  expect_failure(run_riffle({"inspect", file, "--device", "cuda:999"}), 1, {"--device cuda:999"});
}

TEST_F(CommandLine, ConfigurationErrorsSayWhereAndWhatInstead) {
  write_idx_data(path("idx"));
  const std::string file = config("idx:" + path("idx"), 1, "optimiser: {momentum: 0.8}\n");
  expect_failure(dry_run(file), 2, {"tiny.yaml:", "optimiser", "optimizer"});
  const std::string good = config("idx:" + path("idx"), 1);
  expect_failure(dry_run(good, {"schedule.lrr=0.1"}), 2, {"schedule.lrr", "schedule.lr"});
  expect_failure(dry_run(good, {"train.batch=many"}), 2, {"train.batch", "many"});
  expect_failure(dry_run(good, {"batch"}), 2, {"'batch' is not an override", "key.path=value"});
  expect_failure(dry_run(path("absent.yaml")), 2, {"absent.yaml"});
  expect_failure(dry_run(good, {"data.source="}), 2, {"data.source"});
  expect_failure(dry_run(good, {"train.batch=65"}), 1, {"65", "64"});
  expect_failure(dry_run(good, {"optimizer.accumulate=9"}), 2, {"optimizer.accumulate is 9", "8 batches"});
  expect_failure(dry_run(good, {"model.classes=3"}), 2, {"model.classes is 3", "4 classes"});
}

TEST_F(CommandLine, BadIdxFilesAreNamed) {
  write_idx_data(path("idx"));
  const std::string file = config("idx:" + path("idx"), 1);
  expect_failure(dry_run(file, {"data.class_names=[a, b, c]"}), 1, {"train-labels-idx1-ubyte", "3"});

  std::string bytes = text_of(path("idx/train-images-idx3-ubyte"));
  bytes[2] = 0x0d;
  write_bytes(path("idx/train-images-idx3-ubyte"), {bytes.begin(), bytes.end()});
  expect_failure(dry_run(file), 1, {"train-images-idx3-ubyte", "magic"});

  std::filesystem::remove(path("idx/train-images-idx3-ubyte"));
  expect_failure(dry_run(file), 1, {path("idx"), "train-images-idx3-ubyte"});
  expect_failure(dry_run(config("idx:" + path("nowhere"), 1)), 1, {path("nowhere")});
}

TEST_F(CommandLine, MistakesThatStillTrainAreWarnedOf) {
  write_idx_data(path("idx"));
  std::string labels = text_of(path("idx/train-labels-idx1-ubyte"));
  labels.back() = 9;
  write_bytes(path("idx/train-labels-idx1-ubyte"), {labels.begin(), labels.end()});
  const std::string step = "schedule={kind: step, milestones: [1ep, 30ep]}";
  const ProcessResult result = dry_run(config("idx:" + path("idx"), 1), {step});
  expect_success(result);
  expect_contains(result.out, {"warning: 5 of the 10 classes have no training image: '4', '5', '6', '7', '8';",
                               "data.class_names", "warning: schedule.milestones: 30ep is step 240"});
}

TEST_F(CommandLine, BadImageFoldersAreNamed) {
  expect_failure(dry_run(config("folder:" + path("nowhere"), 3)), 1, {path("nowhere")});
  std::filesystem::create_directories(path("empty"));
  expect_failure(dry_run(config("folder:" + path("empty"), 3)), 1, {path("empty")});

  write_image_folder(path("data/train"), 16, 32, 1);
  write_image_folder(path("data/val"), 8, 32, 2);
  std::filesystem::create_directories(path("data/train/west"));
  expect_failure(dry_run(config("folder:" + path("data"), 3)), 1, {path("data/train/west")});
  std::filesystem::remove(path("data/train/west"));

  std::filesystem::rename(path("data/val/north-east"), path("data/val/north-oest"));
  expect_failure(dry_run(config("folder:" + path("data"), 3)), 1, {"'north-oest'", "did you mean 'north-"});
}

TEST_F(CommandLine, DryRunWritesNothing) {
  write_idx_data(path("idx"));
  const std::string file = config("idx:" + path("idx"), 1);
  const ProcessResult result = run_riffle({"train", file, "--dry-run", "-o", path("run")}, "cd " + folder_.path());
  expect_success(result);
  expect_contains(result.out, {"images/s", "16 steps", "nothing was written", "weight decay",
                               "\n  schedule: {kind: cosine, lr: 0.1,"});
  EXPECT_FALSE(std::filesystem::exists(path("run")));
  EXPECT_FALSE(std::filesystem::exists(path("runs")));
}

TEST_F(CommandLine, UnusableRunFoldersAreRefused) {
  write_idx_data(path("idx"));
  const std::string file = config("idx:" + path("idx"), 1);
  // /proc cannot be written to, not even by root. A dry run sees what can be seen without writing.
  expect_failure(run_riffle({"train", file, "-o", "/proc/riffle"}), 1, {"cannot create the run folder /proc/riffle"});
  expect_failure(run_riffle({"train", file, "-o", file + "/run", "--dry-run"}), 1, {file + "/run", "-o"});
  expect_failure(run_riffle({"train", file, "-o", file + "/run"}), 1, {file + "/run", "-o"});
  expect_failure(run_riffle({"train", file, "-o", file}), 1, {file, "-o"});
  std::filesystem::create_directories(path("used"));
  write_bytes(path("used/precious.txt"), {'x'});
  expect_failure(run_riffle({"train", file, "-o", path("used")}), 1, {path("used"), "not empty", "--overwrite"});
  expect_success(run_riffle({"train", file, "-o", path("used"), "--overwrite", "train.duration=1it"}));
  EXPECT_EQ(text_of(path("used/precious.txt")), "x");
}

// Files may not grow beyond 4 KiB: to the program the disk is full at its first checkpoint.
TEST_F(CommandLine, AFullDiskIsAClearErrorAndLeavesNoHalfCheckpoint) {
  write_idx_data(path("idx"));
  const std::string file = config("idx:" + path("idx"), 1);
  const ProcessResult result =
      run_riffle({"train", file, "-o", path("run"), "train.duration=1it"}, "trap '' XFSZ && ulimit -f 40");
  expect_failure(result, 1, {path("run/checkpoints/")});
  EXPECT_TRUE(std::filesystem::is_empty(path("run/checkpoints")));
  expect_contains(result.out, {"warning: cannot write " + path("run/"), "training goes on"});
  const ProcessResult full_output = run_riffle({"devices"}, "exec >/dev/full");
  EXPECT_EQ(full_output.exit_code, 1);
}

TEST_F(CommandLine, DivergenceStopsTheRun) {
  write_idx_data(path("idx"));
  const std::string file = config("idx:" + path("idx"), 1);
  expect_failure(run_riffle({"train", file, "-o", path("run"), "schedule.lr=1e6"}), 1,
                 {"the gradients of step ", "learning rate 9", "loss scale 1", "training has diverged",
                  "The first tensor that is not finite is the ", "schedule.lr", path("run/nonfinite_batch.npz")});
  EXPECT_GT(std::filesystem::file_size(path("run/nonfinite_batch.npz")), 8u * 32 * 32);
  EXPECT_TRUE(std::filesystem::is_empty(path("run/checkpoints")));
  expect_success(run_riffle({"train", file, "-o", path("run"), "--overwrite", "train.duration=1it"}));
  EXPECT_FALSE(std::filesystem::exists(path("run/nonfinite_batch.npz")));
  EXPECT_FALSE(std::filesystem::exists(path("run/nonfinite_batch.txt")));
  expect_failure(run_riffle({"train", file, "-o", path("skipping"), "schedule.lr=1e6", "train.nonfinite=skip",
                             "train.max_skipped_steps=2", "train.log_every_steps=1"}),
                 1, {"3 steps had gradients that are not finite", "train.max_skipped_steps, 2"});
  expect_failure(run_riffle({"train", file, "-o", path("clipped"), "schedule.lr=1e30", "optimizer.weight_decay=0.5",
                             "optimizer.clip_norm=1"}),
                 1, {"step", "learning rate", "schedule.lr"});
}

// What a checkpoint of a run that has ended before its time says when it is asked to go on.
TEST_F(CommandLine, RunsThatEndedBeforeTheirTimeSayWhy) {
  write_idx_data(path("idx"));
  const std::string file = config("idx:" + path("idx"), 1);
  const ProcessResult limited = run_riffle({"train", file, "-o", path("limited"), "train.limit_steps=2"});
  expect_success(limited);
  expect_contains(limited.out, {"stops after step 2 (train.limit_steps)", "step 2/2", "best        top-1 accuracy"});
  const ProcessResult again = run_riffle({"train", "--resume", path("limited")});
  expect_success(again);
  expect_contains(again.out, {"has taken the 2 steps of train.limit_steps; for more: a larger one, or 0"});
  const ProcessResult longer = run_riffle({"train", "--resume", path("limited"), "train.limit_steps=3"});
  expect_success(longer);
  expect_contains(longer.out, {"train.limit_steps: 2 -> 3", "goes on after step 2 of 3", "step 3/3"});
}

}  // namespace
}  // namespace riffle
