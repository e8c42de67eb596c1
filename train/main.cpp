// The riffle program.
#include <csignal>

#include "train/build_commit.h"
#include "train/cli.h"

int main(int argc, char** argv) {
  // Past a file size limit, write() then fails, which we report, instead of the process dying in the middle of a file.
  std::signal(SIGXFSZ, SIG_IGN);
  return riffle::run_cli(argc, argv, riffle::kBuildCommit);
}
