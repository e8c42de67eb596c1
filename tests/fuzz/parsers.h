// Every parser of checkpoints and data sets behind one signature, with valid and hostile inputs to start from. Shared by
// the fuzz targets (fuzz_target.cpp) and by test_fuzz_regressions.cpp, which needs no special compiler.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace riffle {

using Bytes = std::vector<uint8_t>;

struct FuzzedParser {
  std::string name;
  // Returns for what is valid, throws Error for what is not; anything else is a bug.
  void (*parse)(const Bytes& input);
  // name -> input, from tests/fixtures and from our own writers.
  std::map<std::string, Bytes> (*seeds)();
  int mutations = 20000;  // that test_fuzz_regressions tries
};

const std::vector<FuzzedParser>& fuzzed_parsers();
std::vector<FuzzedParser> data_parsers();                    // those of data sets
const FuzzedParser& fuzzed_parser(const std::string& name);  // throws for unknown names

}  // namespace riffle
