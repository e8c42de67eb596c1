// riffle data: pack, verify, stats; show is in command_data_show.cpp
#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "core/check.h"
#include "data/examine.h"
#include "data/pack.h"
#include "train/commands.h"
#include "train/progress.h"
#include "train/run_folder.h"
#include "train/text.h"
#include "train/train_data.h"
#include "train/whole_number.h"

namespace riffle {
namespace {

namespace fs = std::filesystem;

const char* const kPackFooter =
    "Writes DST/train and DST/val (DST itself where SRC has no parts): tar files that WebDataset reads too, and an "
    "index\n"
    "with a checksum for each image. Images are copied as they are, but for those that --short-edge makes smaller.\n"
    "An interrupted run goes on where it stopped: the same command checks and keeps finished shards.\n"
    "Examples:\n"
    "  riffle data pack /data/imagenet /data/packed --short-edge 400\n"
    "  riffle train configs/imagenet.yaml data.source=/data/packed";

const char* const kVerifyFooter =
    "Bad images cannot be read or decoded. Truncated ones end too early; data.truncated=accept trains on what there "
    "is.\n"
    "Odd ones are unlike the rest: CMYK, a PNG named .JPEG, 16 bits, tiny. Duplicates have the same bytes.\n"
    "Exit code: 0, or 1 if an image is bad or truncated.\n"
    "Examples:\n"
    "  riffle data verify /data/flowers\n"
    "  riffle data verify /data/imagenet --split train --json report.json";

const char* const kStatsFooter =
    "Shows the smallest and the largest class, sizes in pixels and bytes; --json has the images of every class.\n"
    "mean and std are of pixels from 0 to 1, every image weighing the same, before any resizing.\n"
    "An unreadable image is an error; 'riffle data verify' finds all of them.\n"
    "Examples:\n"
    "  riffle data stats /data/flowers --split train\n"
    "  riffle data stats /data/imagenet --val-labels val.txt --json stats.json";

struct DataOptions {
  std::string source, split, val_labels, json, destination;
  int threads = 0, short_edge = 0, quality = 90;
  int64_t shards = 0;

  int thread_count() const { return threads > 0 ? threads : std::max(1u, std::thread::hardware_concurrency()); }
};

struct Part {
  std::string name;  // "" where the data has no parts
  std::unique_ptr<Dataset> data;

  std::string title() const { return name.empty() ? "all" : name; }
};

std::vector<Part> open_parts(const DataOptions& options) {
  DataSection section;
  section.val_labels = options.val_labels;
  const DatasetOptions how = dataset_options(section);
  const auto open = [&](const std::string& split) { return open_dataset(options.source, split, /*channels=*/3, how); };
  std::vector<Part> parts;
  if (options.split == "train" && !options.val_labels.empty())
    fail_usage(options.val_labels,
               ": labels are for validation images, and the split is train; leave out --val-labels");
  if (!options.split.empty()) {
    parts.push_back({options.split, open(options.split)});
    return parts;
  }
  try {
    parts.push_back({"train", open("train")});
    parts.push_back({"val", open("val")});
  } catch (const Error& error) {
    throw Error(error.kind(), join(error.what(), " (--split takes one part alone)"));
  }
  const Dataset &train = *parts[0].data, &val = *parts[1].data;
  if (train.size() == val.size() && train.size() > 0 && train.name(0) == val.name(0)) {
    parts.pop_back();
    parts[0].name.clear();
  }
  return parts;
}

void show_part(std::ostream& log, const Part& part) {
  log << "data        " << printable(part.data->description()) << '\n';
  for (const std::string& warning : part.data->warnings()) log << "warning: " << printable(warning) << '\n';
}

// Packing into the source would make shards of shards when it goes on, or write over what it reads.
void check_destination(const DataOptions& options, const std::string& folder) {
  std::error_code ignored;
  std::string source = options.source;
  const size_t colon = source.find(':');
  if (!fs::is_directory(source, ignored) && colon != std::string::npos) source.erase(0, colon + 1);
  if (!fs::is_directory(source, ignored)) return;
  const auto real = [](const std::string& path) {
    const fs::path whole = fs::weakly_canonical(fs::absolute(path));
    return whole.has_filename() ? whole : whole.parent_path();  // without a '/' at its end
  };
  const fs::path from = real(source), to = real(folder);
  if (std::mismatch(from.begin(), from.end(), to.begin(), to.end()).first == from.end())
    fail_usage(folder, ": lies in the source, ", source, "; name a folder outside of it");
}

void run_pack(const DataOptions& options) {
  check_destination(options, options.destination);
  const std::vector<Part> parts = open_parts(options);
  for (const Part& part : parts) check_destination(options, options.destination + "/" + part.name);
  for (const Part& part : parts) {
    show_part(std::cout, part);
    Progress progress = Progress::for_standard_output();
    PackOptions how;
    how.short_edge = options.short_edge;
    how.quality = options.quality;
    how.shards = options.shards;
    how.threads = options.thread_count();
    how.shuffle = part.name == "train";
    how.progress = [&](int64_t images) { progress.evaluation("packing " + part.title(), images, part.data->size()); };
    const std::string folder = part.name.empty() ? options.destination : options.destination + "/" + part.name;
    const PackResult result = pack(*part.data, folder, how);
    progress.line(join("packed      ", format_count(result.images), " images, ", format_count(result.resized),
                       " resized, into ", result.shards, " shards (", result.kept_shards, " kept), ",
                       format_bytes(static_cast<double>(result.bytes)), ": ", folder));
  }
}

nlohmann::json findings_to_json(const std::vector<Finding>& findings) {
  nlohmann::json list = nlohmann::json::array();
  for (const Finding& finding : findings) list.push_back({{"name", finding.name}, {"what", finding.what}});
  return list;
}

nlohmann::json to_json(const Part& part, const VerifyReport& report) {
  nlohmann::json duplicates = nlohmann::json::array();
  for (const std::vector<int64_t>& group : report.duplicates) {
    nlohmann::json names = nlohmann::json::array();
    for (const int64_t index : group) names.push_back(part.data->name(index));
    duplicates.push_back(names);
  }
  return {{"part", part.title()},
          {"images", report.images},
          {"bad", findings_to_json(report.bad)},
          {"truncated", findings_to_json(report.truncated)},
          {"odd", findings_to_json(report.odd)},
          {"duplicates", duplicates},
          {"duplicates_across_classes", report.duplicates_across_classes},
          {"jpeg", report.jpeg},
          {"png", report.png},
          {"gray", report.gray},
          {"progressive", report.progressive}};
}

void show_findings(std::ostream& log, const char* title, const std::vector<Finding>& findings, bool message_names_it) {
  constexpr size_t kShown = 20;
  for (size_t i = 0; i < std::min(findings.size(), kShown); ++i)
    log << title << printable((message_names_it ? "" : findings[i].name + ": ") + findings[i].what) << '\n';
  if (findings.size() > kShown) log << title << "and " << findings.size() - kShown << " more (--json lists all)\n";
}

void show(std::ostream& log, const Part& part, const VerifyReport& report) {
  show_findings(log, "bad         ", report.bad, /*message_names_it=*/true);
  show_findings(log, "truncated   ", report.truncated, /*message_names_it=*/true);
  show_findings(log, "odd         ", report.odd, /*message_names_it=*/false);
  constexpr size_t kShown = 10;
  for (size_t i = 0; i < std::min(report.duplicates.size(), kShown); ++i) {
    log << "duplicate   ";
    for (const int64_t index : report.duplicates[i])
      log << (index == report.duplicates[i].front() ? "" : "  =  ") << printable(part.data->name(index));
    log << '\n';
  }
  if (report.duplicates.size() > kShown)
    log << "duplicate   and " << report.duplicates.size() - kShown << " more groups (--json lists all)\n";
  log << "result      " << format_count(report.images) << " images: " << report.bad.size() << " bad, "
      << report.truncated.size() << " truncated, " << report.odd.size() << " odd, " << report.duplicates.size()
      << " groups of duplicates (" << report.duplicates_across_classes << " across classes); "
      << format_count(report.jpeg) << " JPEG (" << format_count(report.progressive) << " progressive), "
      << format_count(report.png) << " PNG, " << format_count(report.gray) << " gray\n";
}

void write_json(const std::string& path, const nlohmann::json& json) {
  // Names are bytes, and need not be UTF-8.
  const std::string text = json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  if (path == "-") {
    std::cout << text;
  } else if (!path.empty()) {
    write_text_file(path, text);
  }
}

// compute(data, options) goes over a part, with a progress line; report(log, part, result) shows it and returns its JSON.
template <class Compute, class Report>
void for_each_part(const DataOptions& options, const char* what, Compute compute, Report report) {
  // With the JSON on standard output, nothing else may be there.
  const bool json_to_output = options.json == "-";
  std::ostream& log = json_to_output ? std::cerr : std::cout;
  if (!options.json.empty() && !json_to_output) check_text_file(options.json);
  nlohmann::json json = nlohmann::json::array();
  for (const Part& part : open_parts(options)) {
    show_part(log, part);
    const auto result = [&] {
      Progress progress = json_to_output ? Progress::for_standard_error() : Progress::for_standard_output();
      ExamineOptions how;
      how.threads = options.thread_count();
      how.progress = [&](int64_t images) {
        progress.evaluation(join(what, " ", part.title()), images, part.data->size());
      };
      return compute(*part.data, how);
    }();
    json.push_back(report(log, part, result));
  }
  write_json(options.json, json);
}

void run_verify(const DataOptions& options) {
  size_t bad = 0, truncated = 0;
  for_each_part(options, "verifying", verify, [&](std::ostream& log, const Part& part, const VerifyReport& report) {
    show(log, part, report);
    bad += report.bad.size();
    truncated += report.truncated.size();
    return to_json(part, report);
  });
  if (bad + truncated > 0)
    fail(options.source, ": ", bad, bad == 1 ? " image is bad" : " images are bad", " and ", truncated,
         " truncated; they are named above");
}

nlohmann::json to_json(const Range& range) {
  return {{"least", range.least}, {"median", range.median}, {"greatest", range.greatest}};
}

void show(std::ostream& log, const Part& part, const StatsReport& report) {
  const auto range = [](const Range& r) { return join(r.least, " to ", r.greatest, ", median ", r.median); };
  const auto numbers = [](const std::vector<double>& values) {
    std::string text;
    for (const double value : values) text += (text.empty() ? "[" : ", ") + format_fixed(value, 4);
    return text + "]";
  };
  const auto [least, most] = std::minmax_element(report.per_class.begin(), report.per_class.end());
  const auto name = [&](auto at) {
    return printable(part.data->classes()[static_cast<size_t>(at - report.per_class.begin())]);
  };
  log << "classes     " << report.per_class.size() << ", of " << *least << " ('" << name(least) << "') to " << *most
      << " ('" << name(most) << "') images\n"
      << "width       " << range(report.width) << "\nheight      " << range(report.height) << "\nshort edge  "
      << range(report.short_edge) << '\n';
  if (report.encoded_bytes > 0)
    log << "bytes       " << format_bytes(static_cast<double>(report.encoded_bytes)) << ", "
        << format_bytes(static_cast<double>(report.encoded_bytes) / static_cast<double>(report.images))
        << " an image\n";
  log << "mean        " << numbers(report.mean) << "\nstd         " << numbers(report.std) << '\n';
}

void run_stats(const DataOptions& options) {
  for_each_part(options, "measuring", statistics, [](std::ostream& log, const Part& part, const StatsReport& report) {
    show(log, part, report);
    nlohmann::json per_class = nlohmann::json::object();
    for (size_t i = 0; i < report.per_class.size(); ++i) per_class[part.data->classes()[i]] = report.per_class[i];
    return nlohmann::json{{"part", part.title()},
                          {"images", report.images},
                          {"per_class", per_class},
                          {"width", to_json(report.width)},
                          {"height", to_json(report.height)},
                          {"short_edge", to_json(report.short_edge)},
                          {"encoded_bytes", report.encoded_bytes},
                          {"mean", report.mean},
                          {"std", report.std}};
  });
}

CLI::App* add_command(CLI::App& data, const char* name, const char* help, const std::shared_ptr<DataOptions>& options) {
  CLI::App* command = data.add_subcommand(name, help);
  command->add_option("SRC", options->source, "What data.source may be: DIR, FILE.tar, tar:PATH, ...")->required();
  command->add_option("--split", options->split, "train, val or test; by default train and val")
      ->check(CLI::IsMember({"train", "val", "test"}))
      ->type_name("SPLIT");
  command->add_option("--val-labels", options->val_labels, "Labels of validation images without class folders")
      ->type_name("FILE");
  command->add_option("--threads", options->threads, "Threads; 0: as many as the processor runs")
      ->check(whole_number(0, 1024))
      ->capture_default_str();
  return command;
}

}  // namespace

void add_data_command(CLI::App& app) {
  CLI::App* data =
      app.add_subcommand("data", "Pack a data set into shards, verify every image, measure it, or show it");
  data->require_subcommand(1);

  auto packing = std::make_shared<DataOptions>();
  CLI::App* pack_command = add_command(*data, "pack", "Write a data set as indexed, checksummed shards", packing);
  pack_command->add_option("DST", packing->destination, "A folder; it is made")->required();
  pack_command
      ->add_option("--short-edge", packing->short_edge, "Make larger images smaller, to this short edge; 0: copy all")
      ->check(whole_number(0, 1 << 14))
      ->capture_default_str();
  pack_command->add_option("--quality", packing->quality, "JPEG quality of images that are made smaller")
      ->check(whole_number(1, 100))
      ->capture_default_str();
  pack_command->add_option("--shards", packing->shards, "Tar files a part; 0: one for every 5,000 images")
      ->check(whole_number(0, 1 << 16))
      ->capture_default_str();
  pack_command->footer(kPackFooter);
  pack_command->callback([packing] { run_pack(*packing); });

  auto verifying = std::make_shared<DataOptions>();
  CLI::App* verify_command =
      add_command(*data, "verify", "Decode every image; report bad, truncated, odd and duplicate ones", verifying);
  auto measuring = std::make_shared<DataOptions>();
  CLI::App* stats_command = add_command(*data, "stats", "Images per class, sizes, mean and std per channel", measuring);
  for (const auto& [command, options] : {std::pair(verify_command, verifying), std::pair(stats_command, measuring)})
    command->add_option("--json", options->json, "Write the report as JSON to FILE, or to standard output if it is -")
        ->type_name("FILE|-");
  verify_command->footer(kVerifyFooter);
  verify_command->callback([verifying] { run_verify(*verifying); });
  stats_command->footer(kStatsFooter);
  stats_command->callback([measuring] { run_stats(*measuring); });
  add_data_show_command(*data);
}

}  // namespace riffle
