// Runs the riffle program on a terminal of its own, 80 columns wide, as a person sees it.
#pragma once

#include <pty.h>
#include <unistd.h>

#include "riffle_process.h"

namespace riffle {

// Both output streams together are `out`. `setup` is shell code: "export NO_COLOR=1".
inline ProcessResult run_on_terminal(const std::vector<std::string>& arguments, const std::string& setup = ":") {
  std::string command = "export TERM=xterm; unset NO_COLOR; " + setup + " && exec " + shell_quoted(RIFFLE_BINARY);
  for (const std::string& argument : arguments) command += " " + shell_quoted(argument);
  int terminal = -1;
  winsize size{};
  size.ws_row = 24;
  size.ws_col = 80;
  const pid_t child = forkpty(&terminal, nullptr, nullptr, &size);
  if (child == 0) {
    execl("/bin/sh", "sh", "-c", command.c_str(), static_cast<char*>(nullptr));
    _exit(127);
  }
  ProcessResult result;
  if (child < 0) return result;
  char buffer[4096];
  // At the end of the child read() fails with EIO.
  for (ssize_t count; (count = read(terminal, buffer, sizeof buffer)) > 0;) {
    result.out.append(buffer, static_cast<size_t>(count));
  }
  close(terminal);
  int status = 0;
  waitpid(child, &status, 0);
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return result;
}

}  // namespace riffle
