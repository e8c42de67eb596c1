// The program on a terminal: one live line that fits it, colours where they are wanted, errors on lines of their own.
#include <fstream>

#include "terminal_process.h"
#include "tiny_data.h"

namespace riffle {
namespace {

class OnATerminal : public testing::Test {
 protected:
  void SetUp() override {
    write_idx_data(path("idx"));
    std::ofstream(config()) << tiny_config("idx:" + path("idx"), 1) << "ema: {decay: 0.9}\n";
  }
  std::string path(const std::string& name) const { return folder_.path() + "/" + name; }
  std::string config() const { return path("tiny.yaml"); }

  TemporaryFolder folder_;
};

TEST_F(OnATerminal, TerminalsSeeOneLiveLineThatFits) {
  const std::vector<std::string> train{"train", config(), "-o", path("live"), "--overwrite"};
  const ProcessResult live = run_on_terminal(train);
  expect_success(live);
  expect_contains(live.out, {"\rep 1/2 1/16 ETA ", "EMA         8/22 images", "\x1b[1mepoch 2/2  validation"});
  for (size_t at = 0; (at = live.out.find("\rep ", at)) != std::string::npos; ++at) {
    EXPECT_LE(live.out.find('\x1b', at) - at - 1, 79u) << live.out.substr(at, 120);
  }
  const ProcessResult no_colour = run_on_terminal(train, "export NO_COLOR=1");
  expect_contains(no_colour.out, {"\rep 1/2 1/16 ETA ", "\r\x1b[Kepoch 2/2  validation"});
  EXPECT_EQ(no_colour.out.find("\x1b[1m"), std::string::npos);
  const ProcessResult dumb = run_on_terminal(train, "export TERM=dumb");
  expect_contains(dumb.out, {"epoch 1/2  step 1/16", "data wait"});
  EXPECT_EQ(dumb.out.find('\x1b'), std::string::npos);
}

TEST_F(OnATerminal, ErrorsStartALineOfTheirOwn) {
  const ProcessResult result =
      run_on_terminal({"train", config(), "-o", path("diverged"), "schedule.lr=1e30", "optimizer.weight_decay=0.5"});
  EXPECT_EQ(result.exit_code, 1);
  expect_contains(result.out, {"\x1b[K\r\nriffle: error: the gradients of step "});
}

TEST_F(OnATerminal, EvaluationsShowHowFarTheyAre) {
  expect_success(run_riffle({"train", config(), "-o", path("run")}));
  const std::string checkpoint = path("run/checkpoints/last.safetensors");
  expect_contains(run_on_terminal({"eval", checkpoint, "--batch", "8"}).out, {"\revaluating  8/22 images"});
  const ProcessResult json = run_on_terminal({"eval", checkpoint, "--batch", "8", "--json", "-"});
  expect_contains(json.out, {"\revaluating  8/22 images", "{\"bad_images\":0,\"device\":"});
  EXPECT_EQ(run_riffle({"eval", checkpoint, "--batch", "8"}).out.find("evaluating"), std::string::npos);
}

}  // namespace
}  // namespace riffle
