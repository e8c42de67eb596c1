// The riffle program.
#include "train/cli.h"

int main(int argc, char** argv) { return riffle::run_cli(argc, argv); }
