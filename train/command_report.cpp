// riffle report
#include <CLI/CLI.hpp>
#include <filesystem>
#include <iostream>
#include <memory>

#include "train/commands.h"
#include "train/report/page.h"
#include "train/run_folder.h"
#include "train/text.h"

namespace riffle {
namespace {

const char* const kFooter =
    "One self-contained HTML page: curves (with JavaScript: zoom by dragging, values under the pointer, switches for\n"
    "each run), results, configuration and what differs between runs, environment, and the pictures of the run "
    "folder.\n"
    "Where RUN_DIR/evaluation exists ('riffle eval CHECKPOINT --report RUN_DIR/evaluation' writes it), also confusion\n"
    "matrix, classes, calibration and worst mistakes. It works while the run goes on, and opens without a network.\n"
    "Examples:\n"
    "  riffle report runs/a --out a.html\n"
    "  riffle report runs/a runs/b runs/c --out compared.html\n"
    "  riffle eval runs/a/checkpoints/best.safetensors --report runs/a/evaluation && riffle report runs/a --out "
    "a.html\n"
    "  riffle report runs/a --evaluation /tmp/other-data --out a.html";

struct ReportOptions {
  std::vector<std::string> runs;
  std::string out, evaluation;
};

// Folders of one name are told apart by their paths.
void name_apart(std::vector<RunData>& runs) {
  for (size_t i = 0; i < runs.size(); ++i) {
    for (size_t j = 0; j < runs.size(); ++j) {
      if (i != j && runs[i].name == runs[j].name && runs[i].path != runs[j].path) {
        const std::string name = runs[i].name;
        for (RunData& run : runs) {
          if (run.name == name) run.name = run.path;
        }
      }
    }
  }
}

void run_report(const ReportOptions& options) {
  check_text_file(options.out);
  if (!options.evaluation.empty() && options.runs.size() > 1) {
    fail_usage("--evaluation is the evaluation of one run, and there are ", options.runs.size(),
               "; each run's own is taken from RUN_DIR/evaluation");
  }
  std::vector<RunData> runs;
  for (const std::string& path : options.runs) runs.push_back(read_run(path));
  name_apart(runs);
  if (!options.evaluation.empty()) runs.front().evaluation = options.evaluation;
  for (const RunData& run : runs) {
    for (const std::string& note : run.notes) std::cerr << "riffle: warning: " << printable(note) << '\n';
  }
  const std::string page = report_page(runs);
  write_text_file(options.out, page);
  std::cout << "report      " << options.out << "  (" << format_bytes(static_cast<double>(page.size())) << ")\n";
}

}  // namespace

void add_report_command(CLI::App& app) {
  auto options = std::make_shared<ReportOptions>();
  CLI::App* command = app.add_subcommand("report", "Make one HTML page of runs: curves, configuration, evaluation");
  command->add_option("RUN_DIR", options->runs, "Folders that riffle train wrote; several are compared")->required();
  command->add_option("--out", options->out, "The page")->type_name("FILE.html")->required();
  command
      ->add_option("--evaluation", options->evaluation,
                   "What riffle eval --report wrote; by default RUN_DIR/evaluation, where that exists")
      ->type_name("DIR");
  command->footer(kFooter);
  command->callback([options] { run_report(*options); });
}

}  // namespace riffle
