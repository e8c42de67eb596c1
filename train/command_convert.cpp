// riffle convert
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <set>

#include "train/checkpoint/checkpoint.h"
#include "train/checkpoint/convert.h"
#include "train/checkpoint/dialect_conversion.h"
#include "train/checkpoint/file_io.h"
#include "train/checkpoint/pth.h"
#include "train/checkpoint/published_preprocessing.h"
#include "train/checkpoint/read_tensor_file.h"
#include "train/commands.h"
#include "train/conversion_check.h"
#include "train/preprocessing_options.h"
#include "train/run_folder.h"
#include "train/text.h"
#include "train/version.h"
#include "train/whole_number.h"

namespace riffle {
namespace {

namespace fs = std::filesystem;

const char* const kFooter =
    "IN is a .pth, .pth.tar, .npz, .safetensors or TensorFlow checkpoint (its prefix, its .index file or its folder), "
    "and\n"
    "its contents decide which, not its name. Nothing in it is executed. OUT's extension chooses what is written:\n"
    "  .safetensors  for riffle, with preprocessing and class names\n"
    "  .pth          a state dict under torchvision's or Megvii's names, as the dialect is\n"
    "  .npz          under tensorpack's names, for that dialect\n"
    "Every tensor is accounted for; missing and misshapen ones are errors always, the others unless allowed.\n"
    "Examples:\n"
    "  riffle convert shufflenetv2_x1.pth x1.safetensors\n"
    "  riffle convert ShuffleNetV2.0.5x.pth.tar half.pth --to torchvision\n"
    "  riffle convert runs/a/checkpoints/best.safetensors best.pth";

struct ConvertCommand {
  std::string input, output, dialect = "auto", width = "auto", classes, to, entry, json, stem_max_pool, channel_order,
                             preprocessing;
  int64_t stem_stride = 0;  // 0: not given
  bool force = false, allow_unexpected = false, allow_nonfinite = false;
};

enum class OutputFormat { kSafetensors, kPth, kNpz };

OutputFormat output_format(const std::string& path) {
  const std::string extension = fs::path(path).extension();
  if (extension == ".safetensors") return OutputFormat::kSafetensors;
  if (extension == ".pth" || extension == ".pt") return OutputFormat::kPth;
  if (extension == ".npz") return OutputFormat::kNpz;
  fail_usage("OUT is ", path, "; its extension says what to write: .safetensors, .pth or .npz");
}

// Before anything is read: what can be wrong with the command line.
void check_output(const ConvertCommand& command) {
  output_format(command.output);
  std::error_code ignored;
  if (fs::equivalent(command.input, command.output, ignored))
    fail_usage("IN and OUT are the same file, ", command.output);
  if (fs::exists(command.output, ignored) && !command.force) {
    fail(command.output, " exists already; --force replaces it");
  }
  for (const std::string& file : {command.input, command.output}) {
    if (!command.json.empty() && fs::weakly_canonical(command.json, ignored) == fs::weakly_canonical(file, ignored))
      fail_usage("--json names ", file, " itself; give the report a file of its own");
  }
  const AtomicFile probe(command.output);  // throws where the folder cannot be written
  if (!command.json.empty() && command.json != "-") check_text_file(command.json);
}

void check_dialect_of_format(OutputFormat format, Dialect dialect, const std::string& path) {
  if (format == OutputFormat::kPth && dialect == Dialect::kTensorpack) {
    fail(path,
         ": no published .pth has names for the tensorpack dialect, whose padding PyTorch's networks lack; write .npz "
         "(tensorpack's names) or .safetensors");
  }
  if (format == OutputFormat::kNpz && dialect != Dialect::kTensorpack) {
    fail(path, ": .npz is written under tensorpack's names, and this network is of the ", name_of(dialect),
         " dialect; write .pth or .safetensors");
  }
}

std::vector<std::string> read_classes(const std::string& path) {
  std::ifstream file(path);
  if (!file) fail(path, ": cannot open the file of class names");
  std::vector<std::string> classes;
  std::set<std::string> seen;
  for (std::string line; std::getline(file, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.empty()) fail(path, ": line ", classes.size() + 1, " is empty; expected one class name a line");
    if (!seen.insert(line).second) fail(path, ": line ", classes.size() + 1, " repeats the class '", line, "'");
    classes.push_back(line);
  }
  if (classes.empty()) fail(path, " is empty; expected one class name a line");
  return classes;
}

ConvertOptions read_options(const ConvertCommand& command) {
  ConvertOptions options;
  if (command.dialect != "auto") options.claims.dialect = parse_dialect(command.dialect);
  if (command.width != "auto") {
    (void)ShuffleNetV2Config::published(command.width, Dialect::kTorchvision);  // throws for what is none
    options.claims.width = command.width;
  }
  if (command.stem_stride != 0) options.claims.stem_stride = command.stem_stride;
  if (!command.stem_max_pool.empty()) options.claims.stem_max_pool = command.stem_max_pool == "true";
  if (!command.channel_order.empty()) options.bgr = command.channel_order == "bgr";
  if (!command.preprocessing.empty()) options.preprocessing = parse_dialect(command.preprocessing);
  if (!command.classes.empty()) options.classes = read_classes(command.classes);
  return options;
}

// Runs the network before and after; returns how far logits are from each other.
double check_logits(ConvertedModel& converted, const std::string& to, const std::string& path) {
  const DeviceChoice device = make_backend({"cpu"});
  const std::vector<float> before = probe_logits(*device.backend, converted.metadata, converted.tensors, path);
  if (converted.reconciliation.nonfinite_tensors() == 0 &&
      !std::all_of(before.begin(), before.end(), [](float logit) { return std::isfinite(logit); })) {
    fail(path, ": all weights are finite, but the logits of a test image are not; is a running variance negative?");
  }
  if (to.empty()) return 0;
  DialectConversion conversion = convert_dialect(converted.metadata.model, converted.tensors, parse_dialect(to), path);
  converted.metadata.model = conversion.model;
  converted.tensors = std::move(conversion.tensors);
  const std::vector<float> after = probe_logits(*device.backend, converted.metadata, converted.tensors, path);
  const double difference = relative_difference(before, after);
  constexpr double kRounding = 1e-4;  // sums in another order
  if (!(difference <= kRounding) && converted.reconciliation.nonfinite_tensors() == 0) {
    fail(path, ": the logits of a test image changed by ", format_significant(difference, 3),
         " of the largest in --to ", to, "; nothing was written");
  }
  return difference;
}

void write(const ConvertedModel& converted, const std::string& path) {
  const ShuffleNetV2Config& model = converted.metadata.model;
  switch (output_format(path)) {
    case OutputFormat::kSafetensors:
      return write_safetensors(path, {converted.tensors, to_json(converted.metadata)});
    case OutputFormat::kPth:
      return write_pth(path, to_naming(converted.tensors, model,
                                       model.dialect == Dialect::kMegvii ? Naming::kMegvii : Naming::kRiffle));
    case OutputFormat::kNpz:
      return write_npz(path, to_naming(converted.tensors, model, Naming::kTensorpack));
  }
}

void print_lines(std::ostream& log, const char* title, const std::string& text) {
  std::string indented = text;
  for (size_t at = 0; (at = indented.find('\n', at)) != std::string::npos; at += 2)
    indented.replace(at, 1, "\n            ");
  log << title << std::string(12 - std::string(title).size(), ' ') << indented << '\n';
}

std::string describe_normalisation(const Normalisation& normalisation) {
  std::string mean, std;
  for (const double value : normalisation.mean) mean += join(mean.empty() ? "" : " ", format_significant(value, 3));
  for (const double value : normalisation.std) std += join(std.empty() ? "" : " ", format_significant(value, 3));
  return join(normalisation.reverse_channels ? "BGR" : "RGB", ", scale ", format_significant(normalisation.scale, 4),
              ", mean ", mean, ", std ", std);
}

nlohmann::json report(const ConvertCommand& command, const TensorFile& file, const ConvertedModel& converted,
                      const ShuffleNetV2Config& found) {
  nlohmann::json json = converted.reconciliation.to_json();
  const nlohmann::json metadata = to_json(converted.metadata);
  json["input"] = command.input;
  json["output"] = command.output;
  json["format"] = file.format;
  json["names"] = converted.own ? "a Riffle checkpoint's" : describe(converted.naming);
  json["dialect"] = name_of(found.dialect);
  json["width"] = found.width_name();
  json["notes"] = converted.notes;
  for (const char* key : {"model", "preprocessing", "normalisation"}) json[key] = metadata.at(key);
  return json;
}

void write_report(const ConvertCommand& command, const nlohmann::json& json) {
  if (command.json.empty()) return;
  const std::string text = json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  if (command.json == "-") {
    std::cout << text;
  } else {
    write_text_file(command.json, text);
  }
}

void print_findings(std::ostream& log, const ConvertCommand& command, const TensorFile& file,
                    const ConvertedModel& converted) {
  print_lines(log, "input",
              join(command.input, ": ", file.format, ", ", file.tensors.size(), " tensors, names are ",
                   converted.own ? "a Riffle checkpoint's" : describe(converted.naming)));
  print_lines(log, "network", describe(converted.metadata.model));
  print_lines(log, "tensors", converted.reconciliation.text());
  for (const std::string& note : converted.notes) print_lines(log, "note", note);
}

// What is not recognised is explained by what was left aside.
ConvertedModel convert_or_explain(std::ostream& log, const ConvertCommand& command, const TensorFile& file,
                                  const ConvertOptions& options) {
  try {
    return convert(file, options, command.input);
  } catch (const Error& error) {
    print_lines(log, "input", join(command.input, ": ", file.format, ", ", file.tensors.size(), " tensors"));
    for (const std::string& note : file.notes) print_lines(log, "note", note);
    log << std::flush;
    write_report(command, {{"input", command.input},
                           {"output", command.output},
                           {"format", file.format},
                           {"notes", file.notes},
                           {"error", error.what()}});
    throw;
  }
}

// A state dict has tensors only. What its reader would take for granted and is not so is said, with the way back.
void warn_of_losses(std::ostream& log, const CheckpointMetadata& metadata, const std::string& output) {
  const ShuffleNetV2Config& model = metadata.model;
  print_lines(log, "note", "preprocessing and class names are not in " + output + ", which has no place for them");
  const PublishedPreprocessing published = published_preprocessing(model);
  if (!(published.transform == metadata.preprocessing) ||
      describe_normalisation(published.normalisation) != describe_normalisation(metadata.normalisation)) {
    print_lines(log, "warning",
                join("these weights want other images than the ", name_of(model.dialect), " dialect's (",
                     describe_normalisation(published.normalisation), "): see 'images' above. Whoever reads ", output,
                     " must know that; riffle convert has --preprocessing"));
  }
  if (model.stem_stride != 2 || !model.stem_max_pool) {
    print_lines(log, "warning",
                join("the stem is not the published one, which no tensor shows; the way back is --stem-stride ",
                     model.stem_stride, " --stem-max-pool ", model.stem_max_pool ? "true" : "false"));
  }
}

void run_convert(const ConvertCommand& command) {
  check_output(command);
  ConvertOptions options = read_options(command);
  std::ostream& log = command.json == "-" ? std::cerr : std::cout;
  const TensorFile file = read_tensor_file(command.input, command.entry);
  const bool foreign_entry = !command.entry.empty() && file.format.rfind("PyTorch", 0) != 0;
  options.averages = foreign_entry && command.entry == "ema";
  if (foreign_entry && !options.averages) {
    fail_usage(command.input, " is ", file.format,
               ", which has no entries; --entry is for PyTorch's files, or 'ema' of Riffle's");
  }
  ConvertedModel converted = convert_or_explain(log, command, file, options);
  const ShuffleNetV2Config found = converted.metadata.model;
  print_findings(log, command, file, converted);
  log << std::flush;
  const Dialect to = command.to.empty() ? found.dialect : parse_dialect(command.to);
  try {
    check(converted, command.allow_unexpected, command.allow_nonfinite, command.input);
    check_dialect_of_format(output_format(command.output), to, command.output);
    const double difference = check_logits(converted, command.to, command.input);
    if (!command.to.empty()) {
      print_lines(
          log, "converted",
          join("to ", command.to, ": logits of test images ",
               difference == 0 ? "are the same" : "differ by " + format_significant(difference, 2) + " of the largest",
               "; preprocessing stays that of the weights"));
    }
    write(converted, command.output);
  } catch (const Error&) {
    write_report(command, report(command, file, converted, found));
    throw;
  }
  const bool native = output_format(command.output) == OutputFormat::kSafetensors;
  print_lines(log, "images", describe(converted.metadata.preprocessing));
  print_lines(log, "", describe_normalisation(converted.metadata.normalisation));
  if (!native) warn_of_losses(log, converted.metadata, command.output);
  print_lines(log, "output", command.output);
  write_report(command, report(command, file, converted, found));
}

}  // namespace

void add_convert_command(CLI::App& app) {
  auto options = std::make_shared<ConvertCommand>();
  CLI::App* command =
      app.add_subcommand("convert", "Convert checkpoints from and to PyTorch's, tensorpack's and TensorFlow's files");
  command->add_option("IN", options->input, "A checkpoint of any known kind")->required();
  command->add_option("OUT", options->output, "What to write: .safetensors, .pth or .npz")->required();
  command
      ->add_option("--dialect", options->dialect, "auto, torchvision, megvii or tensorpack: what IN is expected to be")
      ->check(CLI::IsMember({"auto", "torchvision", "megvii", "tensorpack"}))
      ->type_name("DIALECT")
      ->capture_default_str();
  command->add_option("--width", options->width, "auto, 0.5x, 1.0x, 1.5x or 2.0x: what IN is expected to be")
      ->type_name("WIDTH")
      ->capture_default_str();
  command->add_option("--to", options->to, "Convert to this dialect, where an exact conversion exists")
      ->check(CLI::IsMember({"torchvision", "megvii", "tensorpack"}))
      ->type_name("DIALECT");
  command->add_option("--classes", options->classes, "Class names, one a line; 1000 classes are ImageNet's without it")
      ->type_name("FILE");
  command
      ->add_option("--entry", options->entry,
                   "Which weights, where IN has several: model_ema, ...; ema of Riffle's own")
      ->type_name("NAME");
  command
      ->add_option("--stem-stride", options->stem_stride,
                   "Of the first convolution, which shapes do not show; default 2")
      ->check(whole_number(1, 2))
      ->type_name("N");
  command->add_option("--stem-max-pool", options->stem_max_pool, "Whether max-pooling follows it; default true")
      ->check(CLI::IsMember({"true", "false"}))
      ->type_name("BOOL");
  command
      ->add_option("--channel-order", options->channel_order,
                   "rgb or bgr, where weights read colours in another order than their dialect's")
      ->check(CLI::IsMember({"rgb", "bgr"}))
      ->type_name("ORDER");
  command
      ->add_option("--preprocessing", options->preprocessing,
                   "Whose images the weights want, where not their dialect's: after --to, say")
      ->check(CLI::IsMember({"torchvision", "megvii", "tensorpack"}))
      ->type_name("DIALECT");
  command->add_flag("--allow-unexpected", options->allow_unexpected, "Leave out tensors that are not the network's");
  command->add_flag("--allow-nonfinite", options->allow_nonfinite, "Convert weights that are NaN or infinite");
  command->add_flag("--force", options->force, "Replace OUT if it exists");
  command->add_option("--json", options->json, "Write the report as JSON to FILE, or to standard output if it is -")
      ->type_name("FILE|-");
  command->footer(kFooter);
  command->callback([options] { run_convert(*options); });
}

}  // namespace riffle
