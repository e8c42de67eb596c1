// The command line: parses it, runs the subcommand, and turns errors into one clear message and an exit code.
#pragma once

namespace riffle {

// Returns the exit code: 0, 1 for a runtime error, 2 for a wrong command line or configuration. git_commit: what the
// program was built from, or empty; runs record it.
int run_cli(int argc, char** argv, const char* git_commit);

}  // namespace riffle
