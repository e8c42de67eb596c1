// Runs the riffle program as a user would: arguments in, exit code and both output streams out.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "image_fixtures.h"

namespace riffle {

struct ProcessResult {
  int exit_code = -1;
  std::string out, err;
};

inline std::string text_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

inline std::string shell_quoted(const std::string& word) {
  std::string quoted = "'";
  for (const char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

// `setup` is shell code that runs before the program, in its process: "cd DIR", "ulimit -f 8", ...
inline ProcessResult run_riffle(const std::vector<std::string>& arguments, const std::string& setup = ":") {
  const TemporaryFolder folder;
  std::string command = "(" + setup + " && exec " + shell_quoted(RIFFLE_BINARY);
  for (const std::string& argument : arguments) command += " " + shell_quoted(argument);
  command += ") >" + folder.path() + "/out 2>" + folder.path() + "/err </dev/null";
  const int status = std::system(command.c_str());
  ProcessResult result;
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  result.out = text_of(folder.path() + "/out");
  result.err = text_of(folder.path() + "/err");
  return result;
}

inline void expect_contains(const std::string& text, const std::vector<std::string>& parts) {
  for (const std::string& part : parts) {
    EXPECT_NE(text.find(part), std::string::npos) << "\"" << part << "\" is missing in:\n" << text;
  }
}

inline void expect_success(const ProcessResult& result) {
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
}

// The exit code, and one message on standard error that contains every part and looks like nothing but a message.
inline void expect_failure(const ProcessResult& result, int exit_code, const std::vector<std::string>& parts) {
  EXPECT_EQ(result.exit_code, exit_code) << result.out << result.err;
  expect_contains(result.err, {"riffle: error: "});
  expect_contains(result.err, parts);
  for (const char* trace : {"check failed", "terminate called", "Aborted"}) {
    EXPECT_EQ(result.err.find(trace), std::string::npos) << result.err;
  }
}

}  // namespace riffle
