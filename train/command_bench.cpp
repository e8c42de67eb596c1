// riffle bench
#include <CLI/CLI.hpp>
#include <algorithm>
#include <functional>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>

#include "train/commands.h"
#include "train/stopwatch.h"
#include "train/text.h"
#include "train/train_step.h"
#include "train/whole_number.h"

namespace riffle {
namespace {

constexpr int64_t kWarmUpSteps = 3;  // as the allocator's cache and the convolutions' plans need
constexpr int64_t kClasses = 1000;

const char* const kFooter =
    "Synthetic images, already normalised and on the device: data loading is measured by 'riffle bench data'. train:\n"
    "forward, loss, backward, SGD. infer: forward with batch norms folded into the convolutions.\n"
    "Example:\n"
    "  riffle bench --width 1.0x --mode infer --batch 32 --threads 2";

struct BenchOptions {
  std::string width = "1.0x", dialect = "torchvision", mode = "train";
  int64_t batch = 32, size = 224, steps = 10, repeats = 5;
  bool json = false, graphs = true;
  DeviceOptions device;
};

struct Measurement {
  double median = 0, slowest = 0, fastest = 0;  // images/s
  std::string execution{};                      // TrainStep::execution()
};

Measurement measure(Backend& backend, const BenchOptions& options, const std::function<void()>& step) {
  for (int64_t i = 0; i < kWarmUpSteps; ++i) step();
  backend.synchronize();
  std::vector<double> rates;
  for (int64_t repeat = 0; repeat < options.repeats; ++repeat) {
    const Stopwatch clock;
    for (int64_t i = 0; i < options.steps; ++i) step();
    backend.synchronize();
    rates.push_back(static_cast<double>(options.batch * options.steps) / clock.seconds());
  }
  std::sort(rates.begin(), rates.end());
  return {rates[rates.size() / 2], rates.front(), rates.back()};
}

Tensor random_images(Backend& backend, const Shape& shape) {
  RandomStream random(/*seed=*/1, RandomPurpose::kTest);
  std::vector<float> values(static_cast<size_t>(shape.elements()));
  std::generate(values.begin(), values.end(), [&random] { return static_cast<float>(random.normal()); });
  Tensor images = backend.empty(shape);
  backend.upload(values.data(), DType::kF32, images);
  return images;
}

Tensor counted_labels(Backend& backend, int64_t batch) {
  std::vector<int32_t> values(static_cast<size_t>(batch));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<int32_t>(i % kClasses);
  Tensor labels = backend.empty({batch, 1, 1, 1}, DType::kI32);
  backend.upload(values.data(), DType::kI32, labels);
  return labels;
}

Measurement bench(Backend& backend, const BenchOptions& options) {
  ShuffleNetV2Config model = ShuffleNetV2Config::published(options.width, parse_dialect(options.dialect));
  model.classes = kClasses;
  ShuffleNetV2 network(backend, model, /*seed=*/1);
  const Variable x(random_images(backend, {options.batch, options.size, options.size, model.input_channels}),
                   /*requires_grad=*/false);
  if (options.mode == "infer") {
    network.fold_batch_norm(backend);
    return measure(backend, options, [&] { network.forward(Context{backend}, x); });
  }
  const Tensor labels = counted_labels(backend, options.batch);
  TrainStepOptions step_options;
  step_options.batch = options.batch;
  step_options.scale_loss = options.device.request.precision == "fp16";
  step_options.cuda_graphs = options.graphs;
  TrainStep step(backend, network, step_options);
  Measurement result = measure(backend, options, [&] {
    step.begin(/*lr=*/1e-3);
    step.forward_backward(x, labels);
    step.finish();
    step.read_metrics();
  });
  result.execution = step.execution();
  if (step.gave_up_graph()) std::cerr << "warning: " << step.execution() << '\n';
  return result;
}

void run_bench(const BenchOptions& options) {
  std::ostream& log = options.json ? std::cerr : std::cout;
  const DeviceChoice device = options.device.open(log);
  const Measurement result = bench(*device.backend, options);
  if (options.json) {
    const nlohmann::json line{{"mode", options.mode},
                              {"width", options.width},
                              {"dialect", options.dialect},
                              {"batch", options.batch},
                              {"size", options.size},
                              {"precision", options.device.request.precision},
                              {"graphs", options.graphs},
                              {"execution", result.execution},
                              {"cudnn_depthwise", options.device.request.cudnn_depthwise},
                              {"threads", device.threads},
                              {"device", device.backend->description()},
                              {"repeats", options.repeats},
                              {"steps", options.steps},
                              {"images_per_s", result.median},
                              {"images_per_s_min", result.slowest},
                              {"images_per_s_max", result.fastest},
                              {"peak_bytes", device.backend->memory().peak_bytes}};
    std::cout << line.dump() << '\n';
    return;
  }
  if (!result.execution.empty()) std::cout << "execution   " << result.execution << '\n';
  std::cout << "bench       ShuffleNetV2 " << options.width << " (" << options.dialect << ") " << options.mode
            << ", batch " << options.batch << ", " << options.size << 'x' << options.size << '\n'
            << "result      " << format_fixed(result.median, 1) << " images/s, median of " << options.repeats
            << " repeats of " << options.steps << " steps (" << format_fixed(result.slowest, 1) << " to "
            << format_fixed(result.fastest, 1) << "); peak memory "
            << format_bytes(static_cast<double>(device.backend->memory().peak_bytes)) << '\n';
}

}  // namespace

void add_bench_command(CLI::App& app) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App* command = app.add_subcommand("bench", "Measure images/s of training or inference on synthetic data");
  command->add_option("--width", options->width, "0.5x, 1.0x, 1.5x or 2.0x")->capture_default_str();
  command->add_option("--dialect", options->dialect, "torchvision, megvii or tensorpack")->capture_default_str();
  command->add_option("--mode", options->mode, "train or infer")
      ->check(CLI::IsMember({"train", "infer"}))
      ->capture_default_str();
  const auto at_least_one = whole_number(1, 1 << 20);
  command->add_option("--batch", options->batch, "Images a step")->check(at_least_one)->capture_default_str();
  command->add_option("--size", options->size, "Height and width of the images")
      ->check(whole_number(32, 4096))
      ->capture_default_str();
  command->add_option("--steps", options->steps, "Steps a repeat")->check(at_least_one)->capture_default_str();
  command->add_option("--repeats", options->repeats, "Repeats; the median counts")
      ->check(at_least_one)
      ->capture_default_str();
  command->add_flag("--json", options->json, "One line of JSON");
  command->add_flag("--graphs,!--no-graphs", options->graphs, "On a GPU: replay a training step as one CUDA graph");
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
