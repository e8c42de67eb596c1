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
#include "train/nearest.h"
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

void add_commands(CLI::App& app, const char* git_commit) {
  app.set_version_flag("--version", std::string("riffle ") + kVersion);
  app.require_subcommand(1);
  app.footer(kFooter);
  add_train_command(app, git_commit);
  add_eval_command(app);
  add_predict_command(app);
  add_convert_command(app);
  add_recalibrate_command(app);
  add_average_command(app);
  add_inspect_command(app);
  add_bench_command(app);
  add_devices_command(app);
  add_data_command(app);
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

// The options of a command, and what is wrong with a word that looks like one but is none. CLI11 takes -device for -d
// followed by "evice", and -output for -o with the value "utput".
class OptionNames {
 public:
  explicit OptionNames(const CLI::App& command) : command_(command) {
    for (const CLI::Option* option : command.get_options()) {
      for (const std::string& name : option->get_lnames()) long_names_.push_back("--" + name);
    }
  }

  // The option that `word` names, or null; its value may follow in the same word: --batch=3, -oDIR.
  const CLI::Option* find(const std::string& word) const {
    if (is_long(word)) return command_.get_option_no_throw(word.substr(0, word.find('=')));
    if (is_long_name("-" + word)) return nullptr;
    const CLI::Option* option = command_.get_option_no_throw(word.substr(0, 2));
    return word.size() == 2 || (option != nullptr && takes_value(*option)) ? option : nullptr;
  }
  // Whether the next word is the option's value, whatever it looks like.
  static bool value_follows(const CLI::Option& option, const std::string& word) {
    return takes_value(option) && (is_long(word) ? word.find('=') == std::string::npos : word.size() == 2);
  }
  [[noreturn]] void fail_unknown(const std::string& word) const {
    const std::string name = word.substr(0, word.find('='));
    const bool top = command_.get_parent() == nullptr;
    fail_usage("unknown option ", name, top ? "" : " of '" + command_.get_name() + "'", hint(name), " See 'riffle ",
               top ? "" : command_.get_name() + " ", "--help'");
  }

 private:
  static bool is_long(const std::string& word) { return word.rfind("--", 0) == 0; }
  static bool takes_value(const CLI::Option& option) { return option.get_items_expected_max() > 0; }
  bool is_long_name(const std::string& word) const {
    const std::string name = word.substr(0, word.find('='));
    return std::find(long_names_.begin(), long_names_.end(), name) != long_names_.end();
  }
  // The nearest option; for a single letter, one that begins with it; else all of them.
  std::string hint(const std::string& name) const {
    const std::string long_form = is_long(name) ? name : "-" + name;
    std::string suggestion = nearest(long_form, long_names_);
    for (const std::string& known : long_names_) {
      if (suggestion.empty() && name.size() == 2 && known.rfind(long_form, 0) == 0) suggestion = known;
    }
    return suggestion.empty() ? "; the options are " + join_names(long_names_) + "."
                              : "; did you mean '" + suggestion + "'?";
  }

  const CLI::App& command_;
  std::vector<std::string> long_names_;
};

void check_options(const CLI::App& command, const std::vector<std::string>& arguments) {
  const OptionNames names(command);
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& word = arguments[i];
    if (word == "--") return;
    if (word.size() < 2 || word.front() != '-') continue;
    const CLI::Option* option = names.find(word);
    if (option == nullptr) names.fail_unknown(word);
    if (OptionNames::value_follows(*option, word)) ++i;
  }
}

void check_words(const CLI::App& app, const std::vector<std::string>& arguments) {
  // A command may have commands of its own: riffle data pack.
  const CLI::App* command = &app;
  for (const std::string& word : arguments) {
    const bool has_commands = !command->get_subcommands([](const CLI::App*) { return true; }).empty();
    if (!has_commands || word.rfind('-', 0) == 0) break;
    command = find_command(*command, word);
  }
  check_options(*command, arguments);
}

// Buffered output that could not be written (a full disk, a closed pipe) must not look like success.
void flush_standard_output() {
  std::cout.flush();
  if (!std::cout) fail("cannot write the standard output (is the disk full?)");
}

// Messages quote files: nothing that a terminal would obey, and no novels.
std::string printable(std::string text) {
  constexpr size_t kLongest = 8000;
  for (char& symbol : text) {
    if ((static_cast<unsigned char>(symbol) < 0x20 && symbol != '\n') || symbol == 0x7f) symbol = '?';
  }
  return text.size() <= kLongest ? text : text.substr(0, kLongest) + "...";
}

int report(const std::string& message, int exit_code) {
  std::cout.flush();
  std::cerr << "riffle: error: " << printable(message) << std::endl;
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

int run_cli(int argc, char** argv, const char* git_commit) {
  try {
    CLI::App app(kDescription, "riffle");
    add_commands(app, git_commit);
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
