// riffle bench data
#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "core/check.h"
#include "train/commands.h"
#include "train/config_reader.h"
#include "train/data_bench.h"
#include "train/network_input.h"
#include "train/progress.h"
#include "train/text.h"
#include "train/train_data.h"
#include "train/whole_number.h"

namespace riffle {
namespace {

const char* const kFooter =
    "The stages run one after the other on one core; read counts waiting, the others processor time. whole is\n"
    "their sum; libjpeg, the floor of exact mode, is the full decoding of the same images. Normalising is a GPU's "
    "work\n"
    "where there is one, and no part of the loader's rate. A GPU waits where the loader's rate is below its own "
    "('riffle\n"
    "bench'); data.decode=quick, packed data with a --short-edge, and more threads raise it.\n"
    "Examples:\n"
    "  riffle bench data configs/imagenet.yaml data.source=folder:/data/imagenet\n"
    "  riffle bench data configs/imagenet.yaml data.source=/data/packed data.decode=quick --threads 2 --json";

struct BenchDataOptions {
  std::string config;
  std::vector<std::string> overrides;
  int64_t images = 2000;
  int threads = 0;
  bool json = false;
};

LoaderOptions loader_options(const Config& config, int threads) {
  LoaderOptions options;
  options.training = true;
  options.train_transform = config.train_transform();
  options.batch = std::min<int64_t>(config.train.batch, 64);
  options.threads = threads;
  options.prefetch = std::max(config.data.prefetch, 2);
  options.seed = config.train.seed;
  options.max_bad_images = config.data.max_bad_images;
  return options;
}

struct Stage {
  const char* name;
  double seconds;
};

std::vector<Stage> stages_of(const StageSeconds& seconds) {
  return {{"read", seconds.read},       {"decode", seconds.decode},      {"resample", seconds.resample},
          {"augment", seconds.augment}, {"copy", seconds.copy},          {"normalise", seconds.normalise},
          {"whole", seconds.whole()},   {"libjpeg", seconds.full_decode}};
}

// Pixels that are stored take no time to decode.
double rate_of(double seconds, int64_t images) {
  return seconds > 0 ? static_cast<double>(images) / seconds : 0;
}

void show(const Config& config, const Dataset& data, const StageSeconds& seconds, int64_t images) {
  std::cout << "data        " << printable(data.description()) << '\n'
            << "decoding    " << config.data.decode << ", " << config.augment.size << 'x' << config.augment.size
            << " pixels, " << format_count(images) << " images\n";
  for (const Stage& stage : stages_of(seconds)) {
    std::string name = stage.name;
    name.resize(12, ' ');
    std::cout << name << format_fixed(1e6 * stage.seconds / static_cast<double>(images), 1) << " us an image, "
              << format_fixed(rate_of(stage.seconds, images), 0) << " images/s per core\n";
  }
}

void run_bench_data(const BenchDataOptions& options) {
  const Config config = read_config(options.config, options.overrides);
  if (config.data.source.empty())
    fail_usage("data.source is not set; name the data, such as data.source=/data/imagenet");
  const auto data = open_dataset(config.data.source, config.data.train_split,
                                 static_cast<int>(config.model.input_channels), dataset_options(config.data));
  const int threads =
      options.threads > 0 ? options.threads : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  LoaderOptions loader = loader_options(config, threads);
  loader.batch = std::min(loader.batch, data->size());
  DeviceRequest one_core;
  one_core.device = "cpu";
  one_core.threads = 1;
  const std::unique_ptr<Backend> backend = make_backend(one_core).backend;
  NetworkInput input(*backend, config.network_input(), {1, config.augment.size, config.augment.size, data->channels()});
  const StageSeconds seconds = [&] {
    Progress progress = options.json ? Progress::for_standard_error() : Progress::for_standard_output();
    return time_stages(
        *data, loader, options.images, [&](const uint8_t* pixels) { input.images(pixels, 1); },
        [&](int64_t done) { progress.evaluation("measuring", done, options.images); });
  }();
  int64_t loaded = options.images;
  const LoaderRate rate = time_loader(*data, loader, loaded);
  const double images_per_s = rate_of(rate.seconds, loaded), per_core = rate_of(rate.cpu_seconds, loaded);
  if (!options.json) {
    show(config, *data, seconds, options.images);
    std::cout << "loader      " << format_fixed(images_per_s, 0) << " images/s with " << threads << " threads, "
              << format_fixed(per_core, 0) << " per second of processor time\n";
    return;
  }
  nlohmann::json per_stage;
  for (const Stage& stage : stages_of(seconds))
    per_stage[stage.name] = 1e6 * stage.seconds / static_cast<double>(options.images);
  std::cout << nlohmann::json{{"data", data->description()}, {"decode", config.data.decode},
                              {"images", options.images},    {"us_per_image", per_stage},
                              {"threads", threads},          {"images_per_s", images_per_s},
                              {"images_per_cpu_s", per_core}}
                   .dump()
            << '\n';
}

}  // namespace

void add_bench_data_command(CLI::App& bench) {
  auto options = std::make_shared<BenchDataOptions>();
  CLI::App* command = bench.add_subcommand("data", "Measure images/s of every stage of a training image");
  command->add_option("CONFIG", options->config, "A YAML file")->required();
  command->add_option("OVERRIDES", options->overrides, "key.path=value: replaces a value of the configuration");
  command->add_option("--images", options->images, "Images to measure; a small set is repeated")
      ->check(whole_number(1, 1 << 24))
      ->capture_default_str();
  command->add_option("--threads", options->threads, "Of the loader; 0: as many as the processor runs")
      ->check(whole_number(0, 1024))
      ->capture_default_str();
  command->add_flag("--json", options->json, "One line of JSON");
  command->footer(kFooter);
  command->callback([options] { run_bench_data(*options); });
}

}  // namespace riffle
