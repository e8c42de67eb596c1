// Going on with a run through the program itself: after kills, signals, damage, a full disk and changes.
#include <chrono>
#include <csignal>
#include <fstream>
#include <thread>

#include "resumed_runs.h"

namespace riffle {
namespace {

using namespace std::chrono_literals;

// A running riffle, killed where it still runs.
class Child {
 public:
  explicit Child(std::vector<std::string> arguments, const std::string& output) {
    arguments.insert(arguments.begin(), RIFFLE_BINARY);
    pid_ = fork();
    if (pid_ != 0) return;
    std::vector<char*> argv;
    argv.reserve(arguments.size() + 1);
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    const bool redirected = std::freopen(output.c_str(), "w", stdout) && std::freopen("/dev/null", "w", stderr);
    if (redirected) execv(argv[0], argv.data());
    _exit(127);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() {
    if (pid_ > 0) send(SIGKILL);
    if (pid_ > 0) wait();
  }

  void send(int signal) const { kill(pid_, signal); }
  // The exit code, or -signal.
  int wait() {
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

 private:
  pid_t pid_;
};

class CliResume : public testing::Test {
 protected:
  void SetUp() override {
    write_idx_data(path("idx"));
    std::ofstream(path("tiny.yaml")) << tiny_config("idx:" + path("idx"), 1)
                                     << "ema: {decay: 0.9}\ncheckpoint: {every: 4it, keep: 3}\n";
  }
  std::string path(const std::string& name) const { return folder_.path() + "/" + name; }
  std::vector<std::string> command(const std::string& run, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words{"train", path("tiny.yaml"), "-o", path(run), "--threads", "1"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  ProcessResult train(const std::string& run, const std::vector<std::string>& more = {}) const {
    return run_riffle(command(run, more));
  }
  void wait_for_output(const std::string& text) const {
    for (int i = 0; i < 30000 && text_of(path("out")).find(text) == std::string::npos; ++i)
      std::this_thread::sleep_for(2ms);
  }
  void wait_for_a_record(const std::string& run) const {
    for (int i = 0; i < 3000 && text_of(path(run + "/metrics.jsonl")).empty(); ++i) std::this_thread::sleep_for(10ms);
  }

  TemporaryFolder folder_;
};

// A run that ends is compared and begun anew, so that all kills hit one that is under way.
TEST_F(CliResume, FiftyKillsChangeNothing) {
  expect_success(train("undisturbed", {"train.duration=6ep"}));
  const RunOutcome expected = outcome_of(path("undisturbed"));
  RandomStream random(1, RandomPurpose::kTest);
  int kills = 0, finished_runs = 0;
  while (kills < 50 || finished_runs == 0) {
    Child child(command("run", {"train.duration=6ep", "--resume", "auto"}), path("out"));
    if (kills < 50) {
      std::this_thread::sleep_for(std::chrono::microseconds(random.below(400'000)));
      child.send(SIGKILL);
    }
    const int code = child.wait();
    if (code == -SIGKILL) {
      ++kills;
      continue;
    }
    ASSERT_EQ(code, 0) << text_of(path("out"));
    expect_same(outcome_of(path("run")), expected);
    if (testing::Test::HasFailure()) return;
    ++finished_runs;
    if (kills < 50) std::filesystem::remove_all(path("run"));
  }
}

TEST_F(CliResume, SignalsSaveAndStop) {
  const std::vector<std::string> endless{"train.duration=1000000it", "checkpoint.every=0", "eval.every_epochs=100000"};
  int64_t step = 0;
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1, SIGHUP}) {
    std::vector<std::string> words = endless;
    if (step > 0) words.insert(words.end(), {"--resume", "auto"});
    Child child(command("run", words), path("out"));
    if (step == 0) wait_for_a_record("run");
    std::this_thread::sleep_for(step == 0 ? 0ms : 1500ms);
    child.send(signal);
    EXPECT_EQ(child.wait(), 75) << signal << text_of(path("out"));
    expect_contains(text_of(path("out")), {"stopped ", "saved; to go on: riffle train --resume " + path("run")});
    const int64_t now = RunFolder::checkpoint_steps(path("run")).at(0);
    EXPECT_GT(now, step) << signal;
    step = now;
  }
}

// The last phase of a run, batch norm's statistics for the final weights, is of a run that has taken all its steps.
TEST_F(CliResume, KillsAndSignalsInTheLastPhaseChangeNothing) {
  const std::string phase = "recalibrate.duration=600ep";
  expect_success(train("undisturbed", {phase}));
  const RunOutcome expected = outcome_of(path("undisturbed"));
  for (const int signal : {SIGKILL, SIGTERM, SIGKILL}) {
    std::filesystem::remove(path("out"));
    Child child(command("run", {phase, "--resume", "auto"}), path("out"));
    wait_for_output("recalibrate batch norm");
    child.send(signal);
    EXPECT_EQ(child.wait(), signal == SIGKILL ? -SIGKILL : 75) << text_of(path("out"));
    EXPECT_FALSE(std::filesystem::exists(path("run/checkpoints/recalibrated.safetensors")));
    if (signal == SIGTERM)
      expect_contains(text_of(path("out")), {"before batch norm's statistics were measured", "stopped     by SIGTERM",
                                             "to go on: riffle train --resume " + path("run")});
  }
  const ProcessResult last = train("run", {phase, "--resume", "auto"});
  expect_success(last);
  expect_contains(last.out, {"goes on after step 16 of 16", "recalibrated EMA  top-1", "finished "});
  expect_same(outcome_of(path("run")), expected);
  const std::string file = "/checkpoints/recalibrated.safetensors";
  EXPECT_EQ(text_of(path("run") + file) == text_of(path("undisturbed") + file), true);
  expect_contains(train("run", {phase, "--resume", "auto"}).out, {"has taken all its 16 steps"});
}

TEST_F(CliResume, ADamagedCheckpointIsReportedAndTheOneBeforeUsed) {
  expect_success(train("undisturbed"));
  expect_success(train("run"));
  const std::string newest = path("run/checkpoints/step-00000016.safetensors");
  std::string bytes = text_of(newest);
  bytes[bytes.size() - 9] = static_cast<char>(bytes[bytes.size() - 9] ^ 4);  // of a tensor: only the checksum tells
  std::ofstream(newest, std::ios::binary) << bytes;
  const ProcessResult result = train("run", {"--resume", "auto"});
  expect_success(result);
  expect_contains(result.out, {"warning: " + newest + " is damaged", "the checkpoint before it is tried",
                               "goes on after step 12 of 16", "dropped"});
  expect_same(outcome_of(path("run")), outcome_of(path("undisturbed")));

  for (const char* step : {"08", "12", "16"}) {
    std::filesystem::resize_file(path(std::string("run/checkpoints/step-000000") + step + ".safetensors"), 1000);
  }
  expect_failure(train("run", {"--resume", "auto"}), 1, {"none of the 3 checkpoints", "truncated", "--overwrite"});
}

TEST_F(CliResume, FinishedRunsSaySoAndLongerOnesNeedAFlag) {
  expect_contains(train("run", {"--resume", "auto"}).out, {"no checkpoint yet: a fresh start"});
  const ProcessResult finished = run_riffle({"train", "--resume", path("run")});
  expect_success(finished);
  expect_contains(finished.out, {"finished ", "all its 16 steps"});
  expect_failure(train("run", {"--resume", "auto", "train.duration=3ep", "data.prefetch=2"}), 2,
                 {"train.duration: 2ep -> 3ep", "--allow-config-change"});
  const ProcessResult longer =
      run_riffle({"train", "--resume", path("run"), "train.duration=3ep", "--allow-config-change", "data.prefetch=2"});
  expect_success(longer);
  expect_contains(longer.out, {"train.duration: 2ep -> 3ep", "data.prefetch: 4 -> 2", "step 24/24"});
  const ProcessResult elsewhere =
      train("branch", {"--resume", path("run/checkpoints/step-00000020.safetensors"), "train.duration=3ep"});
  expect_success(elsewhere);
  expect_contains(elsewhere.out, {"goes on after step 20 of 24"});
}

// Back to step 8 in the run's own folder: where that stops, it goes on from there, and not from what it left.
TEST_F(CliResume, GoingBackSetsLaterStepsAside) {
  expect_success(train("run"));
  const ProcessResult back = run_riffle({"train", "--resume", path("run/checkpoints/step-00000008.safetensors"),
                                         "schedule.lr=1e-9", "--allow-config-change", "train.limit_steps=10"});
  expect_success(back);
  expect_contains(back.out, {"set aside   step-00000016.safetensors, of a step after 8", "goes on after step 8 of 10"});
  EXPECT_EQ(RunFolder::checkpoint_steps(path("run")), (std::vector<int64_t>{10, 8}));
  EXPECT_TRUE(std::filesystem::exists(path("run/checkpoints/step-00000016.safetensors.superseded")));
  const ProcessResult on = run_riffle({"train", "--resume", path("run"), "train.limit_steps=0"});
  expect_success(on);
  expect_contains(on.out, {"goes on after step 10 of 16", "step 16/16"});
  expect_success(run_riffle({"inspect", path("run/checkpoints/best.safetensors")}));
}

// What the branch measures is never better: it is the best of its own folder all the same.
TEST_F(CliResume, ABranchHasABestOfItsOwn) {
  expect_success(train("run"));
  const ProcessResult branch = train("branch", {"--resume", path("run/checkpoints/step-00000016.safetensors"),
                                                "train.duration=3ep", "schedule.lr=1e-9", "--allow-config-change"});
  expect_success(branch);
  const nlohmann::json best = read_safetensors(path("branch/checkpoints/best.safetensors")).metadata;
  EXPECT_EQ(best.at("training").at("step"), 24);
  EXPECT_NE(branch.out.find("of epoch 3", branch.out.find("best        top-1")), std::string::npos) << branch.out;
}

TEST_F(CliResume, WrongCommandLinesAreExplained) {
  expect_failure(train("run", {"--resume", "auto", "--init", "x.safetensors"}), 2, {"--resume", "init.checkpoint"});
  expect_failure(train("run", {"--resume", "auto", "--overwrite"}), 2, {"--overwrite"});
  expect_failure(run_riffle({"train", path("tiny.yaml"), "--resume", "auto"}), 2, {"-o RUN_DIR"});
  expect_failure(run_riffle({"train"}), 2, {"CONFIG is required"});
  expect_failure(train("run", {"--allow-config-change"}), 2, {"--resume"});
  std::filesystem::create_directories(path("others"));
  std::ofstream(path("others/diary.txt")) << "mine";
  expect_failure(train("others", {"--resume", "auto"}), 1, {"is not empty"});
  EXPECT_EQ(text_of(path("others/diary.txt")), "mine");
}

// A limit on the size of files stands for a full disk: the best weights still fit, the state does not.
TEST_F(CliResume, AFullDiskIsAWarningUntilTheEnd) {
  expect_success(train("run"));
  const std::string before = text_of(path("run/checkpoints/step-00000016.safetensors"));
  ASSERT_GT(before.size(), 65536u);
  const ProcessResult full =
      run_riffle({"train", "--resume", path("run"), "train.duration=4ep", "--allow-config-change"},
                 "trap '' XFSZ && ulimit -f 120");
  expect_failure(full, 1, {"the run's last checkpoint could not be saved", "File too large"});
  expect_contains(full.out, {"warning: a checkpoint could not be saved: ", "; training goes on", "step 32/32"});
  EXPECT_EQ(text_of(path("run/checkpoints/step-00000016.safetensors")), before);
  EXPECT_EQ(RunFolder::checkpoint_steps(path("run")).at(0), 16);
}

TEST_F(CliResume, ARunFolderBelongsToOneProcess) {
  Child child(command("run", {"train.duration=1000000it"}), path("out"));
  wait_for_a_record("run");
  expect_failure(train("run", {"--resume", "auto", "train.duration=1000000it"}), 1, {"another riffle"});
  child.send(SIGTERM);
  EXPECT_EQ(child.wait(), 75);
}

}  // namespace
}  // namespace riffle
