// Parsing and error reporting.
#include "train/cli.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <exception>
#include <iostream>
#include <string>
#include <vector>

#include "core/check.h"
#include "train/commands.h"
#include "train/config_reader.h"
#include "train/version.h"

namespace riffle {
namespace {

constexpr int kRuntimeError = 1, kUsageError = 2;

const char* const kDescription =
    "Riffle trains, evaluates and runs ShuffleNetV2.\n"
    "The usual order: train writes checkpoints, eval measures one, predict uses it on images.";

const char* const kFooter =
    "Examples:\n"
    "  riffle train configs/fashion_mnist.yaml -o runs/fashion\n"
    "  riffle eval runs/fashion/checkpoints/best.safetensors\n"
    "  riffle predict runs/fashion/checkpoints/best.safetensors photo.jpg\n"
    "'riffle COMMAND --help' explains a command. Exit codes: 0 success, 1 error, 2 wrong command line or "
    "configuration.";

void add_commands(CLI::App& app) {
  app.set_version_flag("--version", std::string("riffle ") + kVersion);
  app.require_subcommand(1);
  app.footer(kFooter);
  add_train_command(app);
  add_eval_command(app);
  add_predict_command(app);
  add_inspect_command(app);
  add_bench_command(app);
  add_devices_command(app);
}

std::string did_you_mean(const std::string& word, const std::vector<std::string>& candidates) {
  const std::string suggestion = nearest(word, candidates);
  return suggestion.empty() ? "." : "; did you mean '" + suggestion + "'?";
}

std::string join_names(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

// CLI11 only says that a subcommand is missing; this names the word that is none.
const CLI::App* find_command(const CLI::App& app, const std::string& word) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (command->get_name() == word) return command;
    names.push_back(command->get_name());
  }
  fail_usage("unknown command '", word, "'", did_you_mean(word, names), " The commands are ", join_names(names));
}

void check_long_options(const CLI::App& command, const std::vector<std::string>& arguments) {
  std::vector<std::string> known;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
  }
  for (const std::string& argument : arguments) {
    if (argument == "--") return;
    if (argument.rfind("--", 0) != 0) continue;
    const std::string name = argument.substr(0, argument.find('='));
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    const std::string owner = command.get_parent() == nullptr ? "" : " of '" + command.get_name() + "'";
    fail_usage("unknown option ", name, owner, did_you_mean(name, known), " See 'riffle ",
               command.get_parent() == nullptr ? "" : command.get_name() + " ", "--help'");
  }
}

void check_words(const CLI::App& app, const std::vector<std::string>& arguments) {
  const bool has_command = arguments.front().rfind('-', 0) != 0;
  check_long_options(has_command ? *find_command(app, arguments.front()) : app, arguments);
}

// Buffered output that could not be written (a full disk, a closed pipe) must not look like success.
void flush_standard_output() {
  std::cout.flush();
  if (!std::cout) fail("cannot write the standard output (is the disk full?)");
}

int report(const std::string& message, int exit_code) {
  std::cout.flush();
  std::cerr << "riffle: error: " << message << std::endl;
  return exit_code;
}

int parse_and_run(CLI::App& app, int argc, char** argv) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) {
      app.exit(error);  // prints the help or the version
    } else {
      const std::string command = argv[1][0] == '-' ? "" : std::string(argv[1]) + " ";
      fail_usage(error.what(), ". See 'riffle ", command, "--help'");
    }
  }
  flush_standard_output();
  return 0;
}

}  // namespace

int run_cli(int argc, char** argv) {
  try {
    CLI::App app(kDescription, "riffle");
    add_commands(app);
    if (argc < 2) {
      std::cerr << app.help();
      return kUsageError;
    }
    check_words(app, std::vector<std::string>(argv + 1, argv + argc));
    return parse_and_run(app, argc, argv);
  } catch (const Error& error) {
    return report(error.what(), error.kind() == ErrorKind::kUsage ? kUsageError : kRuntimeError);
  } catch (const std::bad_alloc&) {
    return report("out of memory; a smaller batch needs less", kRuntimeError);
  } catch (const std::exception& error) {
    return report(error.what(), kRuntimeError);
  }
}

}  // namespace riffle
