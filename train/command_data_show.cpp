// riffle data show: what the network sees, on a contact sheet.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <cmath>
#include <iostream>
#include <memory>

#include "core/check.h"
#include "data/contact_sheet.h"
#include "data/encode.h"
#include "data/loader.h"
#include "train/bad_images.h"
#include "train/commands.h"
#include "train/config_reader.h"
#include "train/initial_weights.h"
#include "train/run_folder.h"
#include "train/text.h"
#include "train/train_data.h"
#include "train/whole_number.h"

namespace riffle {
namespace {

constexpr int kJpegQuality = 95;

const char* const kShowFooter =
    "The images are those of a training run with this configuration and seed: same order, same augmentation, 8-bit "
    "pixels\n"
    "before normalisation. The sheet begins with batch B of epoch E. FILE ends in .png, or in .jpg for a smaller "
    "file.\n"
    "Examples:\n"
    "  riffle data show configs/imagenet.yaml data.source=/data/imagenet --out sheet.png\n"
    "  riffle data show configs/imagenet.yaml data.source=/data/imagenet --out late.jpg --epoch 100 --images 200";

struct ShowOptions {
  std::string config, out;
  std::vector<std::string> overrides;
  int64_t images = 64, epoch = 1, batch = 1, columns = 0;
};

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// "png" or "jpeg".
std::string sheet_format(const std::string& path) {
  std::string lower = path;
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (ends_with(lower, ".png")) return "png";
  if (ends_with(lower, ".jpg") || ends_with(lower, ".jpeg")) return "jpeg";
  fail_usage(path, ": --out must end in .png, .jpg or .jpeg");
}

struct Sheet {
  std::vector<Image> images;
  std::vector<std::string> captions;
};

Sheet load_sheet(const ShowOptions& options, Loader& loader, const TrainData& data) {
  Sheet sheet;
  loader.start_epoch(options.epoch - 1, options.batch - 1);
  Batch batch;
  while (static_cast<int64_t>(sheet.images.size()) < options.images && loader.next(batch)) {
    const int64_t wanted = options.images - static_cast<int64_t>(sheet.images.size());
    const int64_t image_bytes = batch.height * batch.width * batch.channels;
    for (int64_t i = 0; i < std::min(batch.count, wanted); ++i) {
      Image image(static_cast<int>(batch.height), static_cast<int>(batch.width), static_cast<int>(batch.channels));
      std::copy_n(batch.images + i * image_bytes, image_bytes, image.pixels.begin());
      sheet.images.push_back(std::move(image));
      sheet.captions.push_back(join(batch.labels[i], " ", data.classes[static_cast<size_t>(batch.labels[i])]));
    }
  }
  return sheet;
}

void run_show(const ShowOptions& options) {
  const std::string format = sheet_format(options.out);
  const Config config = resolve_run(read_sourced_config(options.config, options.overrides)).config;
  check_text_file(options.out);
  const TrainData data = open_train_data(config);
  std::cout << "data        " << printable(data.train->description()) << '\n';
  for (const std::string& warning : data.warnings) std::cout << "warning: " << printable(warning) << '\n';

  Loader loader(*data.train, train_loader_options(config, std::max(1, config.data.loader_threads)));
  if (options.batch > loader.batches_per_epoch())
    fail_usage("--batch ", options.batch, ": an epoch has ", loader.batches_per_epoch(), " batches");
  const Sheet sheet = load_sheet(options, loader, data);
  for (const Loader::BadImage& bad : loader.bad_images())
    std::cout << "warning: skipped, as in training: " << printable(bad.reason) << '\n';
  for (const std::string& line : TruncatedImageLog(*data.train).describe(loader.truncated_images()))
    std::cout << printable(line) << '\n';

  const double square = std::sqrt(static_cast<double>(sheet.images.size()));
  const int64_t columns = options.columns > 0 ? options.columns : static_cast<int64_t>(std::ceil(square));
  const Image pixels = contact_sheet(sheet.images, sheet.captions, static_cast<int>(columns));
  const std::vector<uint8_t> bytes = format == "png" ? encode_png(pixels) : encode_jpeg(pixels, kJpegQuality);
  write_text_file(options.out, std::string(bytes.begin(), bytes.end()));
  std::cout << "written     " << printable(options.out) << ": " << sheet.images.size() << " training images of "
            << sheet.images[0].width << "x" << sheet.images[0].height << ", from batch " << options.batch
            << " of epoch " << options.epoch << '\n';
}

}  // namespace

void add_data_show_command(CLI::App& data) {
  auto options = std::make_shared<ShowOptions>();
  CLI::App* command = data.add_subcommand("show", "A picture of augmented training images: what the network sees");
  command->add_option("CONFIG", options->config, "A configuration file (YAML)")->required();
  command->add_option("OVERRIDES", options->overrides, "key.path=value, as for riffle train");
  command->add_option("--out", options->out, "Where to write it; ends in .png or .jpg")->required()->type_name("FILE");
  command->add_option("--images", options->images, "How many images; an epoch may have fewer")
      ->check(whole_number(1, 1 << 16))
      ->capture_default_str();
  command->add_option("--epoch", options->epoch, "Of this epoch, counted from 1")
      ->check(whole_number(1, 1 << 30))
      ->capture_default_str();
  command->add_option("--batch", options->batch, "From this batch on, counted from 1")
      ->check(whole_number(1, 1 << 30))
      ->capture_default_str();
  command->add_option("--columns", options->columns, "Images in a row; 0: about as many as rows")
      ->check(whole_number(0, 1 << 12))
      ->capture_default_str();
  command->footer(kShowFooter);
  command->callback([options] { run_show(*options); });
}

}  // namespace riffle
