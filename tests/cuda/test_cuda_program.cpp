// The program on the emulated device.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "riffle_process.h"
#include "tiny_data.h"

namespace riffle {
namespace {

// Evaluations there and on the CPU have equal results.
TEST(EmulatedProgram, TrainsAndItsCheckpointAgreesWithTheCpu) {
  const TemporaryFolder folder;
  const auto path = [&](const std::string& name) { return folder.path() + "/" + name; };
  write_idx_data(path("idx"));
  std::ofstream(path("tiny.yaml")) << tiny_config("idx:" + path("idx"), 1);
  const ProcessResult training = run_riffle({"train", path("tiny.yaml"), "-o", path("run"), "--device", "cuda"});
  ASSERT_EQ(training.exit_code, 0) << training.out << training.err;
  expect_contains(training.out, {"Emulated device", "chosen      convolution", "one CUDA graph a step"});
  std::vector<nlohmann::json> results;
  for (const std::string device : {"cuda:0", "cpu"}) {
    const ProcessResult evaluation =
        run_riffle({"eval", path("run/checkpoints/last.safetensors"), "--device", device, "--json", "-"});
    ASSERT_EQ(evaluation.exit_code, 0) << evaluation.err;
    results.push_back(nlohmann::json::parse(evaluation.out));
  }
  EXPECT_EQ(results[0]["images"], results[1]["images"]);
  EXPECT_EQ(results[0]["top1_correct"], results[1]["top1_correct"]);
  EXPECT_NEAR(results[0]["loss"].get<double>(), results[1]["loss"].get<double>(), 1e-4);
}

TEST(EmulatedProgram, TellsOfItsDevices) {
  const ProcessResult devices = run_riffle({"devices"}, "export RIFFLE_EMULATION_DEVICES=2");
  expect_success(devices);
  expect_contains(devices.out, {"cuda:0 Emulated device", "cuda:1 Emulated device", "compute capability"});
  expect_failure(run_riffle({"bench", "--device", "cuda:5"}), 1, {"no CUDA device 5", "1 is visible"});
  const ProcessResult asked = run_riffle({"devices", "--device", "cuda:1"}, "export RIFFLE_EMULATION_DEVICES=2");
  expect_success(asked);
  expect_contains(asked.out, {"\nasked   CUDA: Emulated device (cuda:1)"});
}

TEST(EmulatedProgram, KeepsTheLossScaleOfFp16) {
  const TemporaryFolder folder;
  const auto path = [&](const std::string& name) { return folder.path() + "/" + name; };
  write_idx_data(path("idx"));
  std::ofstream(path("tiny.yaml")) << tiny_config("idx:" + path("idx"), 1);
  expect_success(run_riffle({"train", path("tiny.yaml"), "-o", path("run"), "--device", "cuda", "train.precision=fp16",
                             "train.duration=1it"}));
  const std::string checkpoint = path("run/checkpoints/last.safetensors");
  const ProcessResult on_gpu = run_riffle({"inspect", checkpoint, "--device", "cuda", "--json"});
  expect_success(on_gpu);
  EXPECT_EQ(on_gpu.out, run_riffle({"inspect", checkpoint, "--json"}).out);
  const nlohmann::json training = nlohmann::json::parse(on_gpu.out)["metadata"]["training"];
  EXPECT_GT(training.value("loss_scale", 1.0), 1);
}

TEST(EmulatedProgram, MeasuresDepthwiseConvolutionsOfCudnn) {
  const std::vector<std::string> bench{
      "bench", "--cudnn-depthwise", "--width", "0.5x",      "--batch", "2",       "--size",
      "32",    "--steps",           "1",       "--repeats", "1",       "--device"};
  const auto on = [&](const std::string& device) {
    std::vector<std::string> arguments = bench;
    arguments.push_back(device);
    return run_riffle(arguments);
  };
  const ProcessResult measured = on("cuda");
  expect_success(measured);
  expect_contains(measured.out, {"depthwise by cuDNN", "images/s"});
  expect_failure(on("cpu"), 2, {"--cudnn-depthwise needs a GPU"});
}

// Of every layer, from events on the device's stream, and never of replayed graphs.
TEST(EmulatedProgram, MeasuresLayers) {
  for (const std::string mode : {"train", "infer"}) {
    const ProcessResult bench =
        run_riffle({"bench", "--layers", "--mode", mode, "--device", "cuda", "--width", "0.5x", "--batch", "2",
                    "--size", "32", "--steps", "2", "--repeats", "1", "--precision", "bf16", "--json"});
    ASSERT_EQ(bench.exit_code, 0) << bench.err;
    const nlohmann::json line = nlohmann::json::parse(bench.out);
    EXPECT_EQ(line["graphs"], false);
    EXPECT_EQ(line["execution"], "");
    EXPECT_GT(line["covered"], 0.3);
    EXPECT_LE(line["covered"], 1);
    std::vector<std::string> names;
    for (const nlohmann::json& layer : line["layers"]) {
      names.push_back(layer["name"]);
      if (names.back() != "stage2.1.branch2") continue;
      EXPECT_GT(layer["forward_ms"], 0);
      EXPECT_EQ(layer["backward_ms"] > 0, mode == "train");
      const double milliseconds = layer["forward_ms"].get<double>() + layer["backward_ms"].get<double>();
      EXPECT_NEAR(layer["share"], milliseconds / line["step_ms"].get<double>(), 1e-9);
    }
    std::vector<std::string> first{"conv1", "stage2.0.branch1", "stage2.0.branch2", "stage2.1.branch2"};
    ASSERT_GT(names.size(), 19u);  // of which 19 are branches
    EXPECT_EQ(std::vector<std::string>(names.begin(), names.begin() + 4), first);
    for (const char* name : {"conv5", "globalpool", "fc"}) EXPECT_EQ(std::count(names.begin(), names.end(), name), 1);
    EXPECT_EQ(std::count(names.begin(), names.end(), "optimizer"), mode == "train" ? 1 : 0);
  }
}

// 24 MiB do not hold a step of this batch; the message says what was asked, what is held, and what would fit: a batch
// that does, and not much less than can.
TEST(EmulatedProgram, SaysWhichBatchWouldFit) {
  const auto bench = [](const std::string& batch) {
    return run_riffle({"bench", "--device", "cuda", "--width", "0.5x", "--batch", batch, "--size", "32", "--steps", "1",
                       "--repeats", "1", "--no-graphs"},
                      "export RIFFLE_EMULATION_MEMORY_MB=24");
  };
  const ProcessResult result = bench("64");
  expect_failure(result, 1,
                 {"out of memory on cuda:0: ", " MiB asked for; tensors use ", " MiB are held for captured graphs, ",
                  " of 24 MiB are free", "this was a training step on a batch of 64 images; about "});
  const std::string before = "a batch of 64 images; about ";
  const int largest = std::atoi(result.err.c_str() + result.err.find(before) + before.size());
  EXPECT_GE(largest, 14);
  EXPECT_LE(largest, 24);
  expect_success(bench(std::to_string(largest * 9 / 10)));
}

TEST(EmulatedProgram, RunsOnTheDeviceThatWasAskedFor) {
  const TemporaryFolder folder;
  const auto path = [&](const std::string& name) { return folder.path() + "/" + name; };
  write_idx_data(path("idx"));
  std::ofstream(path("tiny.yaml")) << tiny_config("idx:" + path("idx"), 1);
  const std::string two = "export RIFFLE_EMULATION_DEVICES=2";
  const ProcessResult training = run_riffle({"train", path("tiny.yaml"), "-o", path("run"), "--device", "cuda:1"}, two);
  expect_success(training);
  expect_contains(training.out, {"(cuda:1)", "one CUDA graph a step"});
  const std::string checkpoint = path("run/checkpoints/last.safetensors");
  for (const std::string command : {"eval", "inspect"})
    expect_success(run_riffle({command, checkpoint, "--device", "cuda:1"}, two));
  expect_failure(run_riffle({"eval", checkpoint, "--device", "cuda:2"}, two), 1, {"no CUDA device 2; 2 are visible"});
}

// Where the driver refuses to capture, the steps are the same ones, and nobody can overlook it.
TEST(EmulatedProgram, GoesOnWithoutAGraphAndSaysSo) {
  const TemporaryFolder folder;
  const auto path = [&](const std::string& name) { return folder.path() + "/" + name; };
  write_idx_data(path("idx"));
  std::ofstream(path("tiny.yaml")) << tiny_config("idx:" + path("idx"), 1);
  const auto train = [&](const std::string& run, const std::string& capture) {
    ProcessResult training =
        run_riffle({"train", path("tiny.yaml"), "-o", path(run), "--device", "cuda", "train.deterministic=true"},
                   "export RIFFLE_EMULATION_CAPTURE=" + capture);
    expect_success(training);
    return training.out;
  };
  const std::string refused = train("refused", "no"), captured = train("captured", "yes");
  expect_contains(refused, {"warning: no CUDA graph, each step is launched kernel by kernel, which is slower: ",
                            "CUDA refused to capture the work: cudaErrorStreamCaptureUnsupported"});
  EXPECT_EQ(captured.find("warning: "), std::string::npos) << captured;
  const auto losses = [&](const std::string& run) {
    std::vector<double> all;
    std::ifstream metrics(path(run + "/metrics.jsonl"));
    for (std::string line; std::getline(metrics, line);)
      if (const auto record = nlohmann::json::parse(line); record["type"] == "train") all.push_back(record["loss"]);
    return all;
  };
  EXPECT_FALSE(losses("captured").empty());
  EXPECT_EQ(losses("refused"), losses("captured"));

  const ProcessResult bench = run_riffle({"bench", "--device", "cuda", "--width", "0.5x", "--batch", "2", "--size",
                                          "32", "--steps", "3", "--repeats", "1", "--json"},
                                         "export RIFFLE_EMULATION_CAPTURE=no");
  expect_success(bench);
  expect_contains(bench.err, {"warning: no CUDA graph"});
  EXPECT_EQ(nlohmann::json::parse(bench.out).value("execution", "").rfind("no CUDA graph", 0), 0u) << bench.out;
}

}  // namespace
}  // namespace riffle
