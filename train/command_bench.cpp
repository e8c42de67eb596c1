// riffle bench
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "train/commands.h"
#include "train/step_bench.h"
#include "train/text.h"
#include "train/whole_number.h"

namespace riffle {
namespace {

const char* const kFooter =
    "Synthetic images, already normalised and on the device: data loading is measured by 'riffle bench data'. train:\n"
    "forward, loss, backward, SGD. infer: forward with batch norms folded into the convolutions. The device is waited\n"
    "for once a repeat; with fp16 once a step, to ask whether gradients overflowed.\n"
    "--layers: medians over the repeats of the mean over a repeat's steps, of the time that the device is in a layer:\n"
    "on a GPU between events before and after its kernels, waits for the next launch included. A branch of a unit is\n"
    "one layer, and so is the stem. What is in none is the last line's rest.\n"
    "Examples:\n"
    "  riffle bench --width 1.0x --mode infer --batch 32 --threads 2\n"
    "  riffle bench --layers --batch 256 --precision bf16";

struct BenchOptions {
  StepBenchOptions steps;
  DeviceOptions device;
  bool json = false;
};

double share(const LayerTime& layer, const StepBenchResult& result) {
  return (layer.forward_ms + layer.backward_ms) / result.step_ms;
}

nlohmann::json layers_json(const StepBenchResult& result) {
  nlohmann::json rows = nlohmann::json::array();
  for (const LayerTime& layer : result.layers)
    rows.push_back({{"name", layer.name},
                    {"forward_ms", layer.forward_ms},
                    {"backward_ms", layer.backward_ms},
                    {"share", share(layer, result)}});
  return rows;
}

void print_json(const BenchOptions& options, const DeviceChoice& device, const StepBenchResult& result) {
  const StepBenchOptions& steps = options.steps;
  nlohmann::json line{{"mode", steps.mode},
                      {"width", steps.width},
                      {"dialect", steps.dialect},
                      {"batch", steps.batch},
                      {"size", steps.size},
                      {"precision", options.device.request.precision},
                      {"graphs", steps.graphs && !steps.layers},
                      {"execution", result.execution},
                      {"cudnn_depthwise", options.device.request.cudnn_depthwise},
                      {"threads", device.threads},
                      {"device", device.backend->description()},
                      {"repeats", steps.repeats},
                      {"steps", steps.steps},
                      {"images_per_s", result.images_per_s},
                      {"images_per_s_min", result.slowest},
                      {"images_per_s_max", result.fastest},
                      {"peak_bytes", device.backend->memory().peak_bytes}};
  if (steps.layers) {
    line["step_ms"] = result.step_ms;
    line["covered"] = result.covered;
    line["layers"] = layers_json(result);
  }
  std::cout << line.dump() << '\n';
}

void print_layers(const StepBenchResult& result) {
  const auto ms = [](double value) { return value > 0 ? format_fixed(value, 3) : "-"; };
  std::vector<std::vector<std::string>> cells{{"layer", "forward ms", "backward ms", "share"}};
  for (const LayerTime& layer : result.layers)
    cells.push_back({layer.name, ms(layer.forward_ms), ms(layer.backward_ms), format_percent(share(layer, result))});
  std::cout << aligned_table(cells, /*first_number=*/1) << "sum         " << format_percent(result.covered)
            << " of the " << format_fixed(result.step_ms, 3) << " ms of a step are in these layers\n";
}

void print_text(const StepBenchOptions& steps, const MemoryStatistics& memory, const StepBenchResult& result) {
  if (!result.execution.empty()) std::cout << "execution   " << result.execution << '\n';
  std::cout << "bench       ShuffleNetV2 " << steps.width << " (" << steps.dialect << ") " << steps.mode << ", batch "
            << steps.batch << ", " << steps.size << 'x' << steps.size << '\n'
            << "result      " << format_fixed(result.images_per_s, 1) << " images/s, median of " << steps.repeats
            << " repeats of " << steps.steps << " steps (" << format_fixed(result.slowest, 1) << " to "
            << format_fixed(result.fastest, 1) << "); peak memory "
            << format_bytes(static_cast<double>(memory.peak_bytes)) << '\n';
  if (steps.layers) print_layers(result);
}

void run_bench(BenchOptions& options) {
  const DeviceChoice device = options.device.open(options.json ? std::cerr : std::cout);
  options.steps.scale_loss = options.device.request.precision == "fp16";
  const StepBenchResult result = bench_steps(*device.backend, options.steps);
  if (result.gave_up_graph) std::cerr << "warning: " << result.execution << '\n';
  if (options.json) {
    print_json(options, device, result);
  } else {
    print_text(options.steps, device.backend->memory(), result);
  }
}

}  // namespace

void add_bench_command(CLI::App& app) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App* command = app.add_subcommand("bench", "Measure images/s of training or inference on synthetic data");
  command->add_option("--width", options->steps.width, "0.5x, 1.0x, 1.5x or 2.0x")->capture_default_str();
  command->add_option("--dialect", options->steps.dialect, "torchvision, megvii or tensorpack")->capture_default_str();
  command->add_option("--mode", options->steps.mode, "train or infer")
      ->check(CLI::IsMember({"train", "infer"}))
      ->capture_default_str();
  const auto at_least_one = whole_number(1, 1 << 20);
  command->add_option("--batch", options->steps.batch, "Images a step")->check(at_least_one)->capture_default_str();
  command->add_option("--size", options->steps.size, "Height and width of the images")
      ->check(whole_number(32, 4096))
      ->capture_default_str();
  command->add_option("--steps", options->steps.steps, "Steps a repeat")->check(at_least_one)->capture_default_str();
  command->add_option("--repeats", options->steps.repeats, "Repeats; the median counts")
      ->check(at_least_one)
      ->capture_default_str();
  command->add_flag("--json", options->json, "One line of JSON");
  command->add_flag("--layers", options->steps.layers,
                    "Also the time of each layer, forward and backward, and its share of a step; without CUDA graphs");
  command->add_flag("--graphs,!--no-graphs", options->steps.graphs,
                    "On a GPU: replay a training step as one CUDA graph");
  command->add_flag("--cudnn-depthwise", options->device.request.cudnn_depthwise,
                    "On a GPU: depthwise convolutions by cuDNN instead of riffle's kernels, to compare them");
  options->device.add_to(*command);
  options->device.add_precision_to(*command);
  command->footer(kFooter);
  add_bench_data_command(*command);
  command->callback([options, command] {
    if (command->get_subcommands().empty()) run_bench(*options);
  });
}

}  // namespace riffle
