// Every parser of checkpoints and of data sets on hostile inputs: what fuzzing once found
// (tests/fixtures/fuzz_regressions/PARSER), the seeds that fuzzing starts from, and mutations of those, the same ones in
// every run. scripts/fuzz.sh searches further.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "core/check.h"
#include "tests/fuzz/parsers.h"

namespace riffle {
namespace {

namespace fs = std::filesystem;

class Parsers : public ::testing::TestWithParam<std::string> {
 protected:
  const FuzzedParser& parser() const { return fuzzed_parser(GetParam()); }

  // Whether the parser accepts; anything but an Error fails the test.
  bool accepts(const Bytes& input, const std::string& what) const {
    try {
      parser().parse(input);
      return true;
    } catch (const Error&) {
      return false;
    } catch (const std::exception& error) {
      ADD_FAILURE() << what << ": " << error.what();
      return false;
    }
  }
};

// A number below `bound`; distributions of the standard library differ between its implementations.
size_t below(std::mt19937& random, size_t bound) {
  return bound == 0 ? 0 : random() % bound;
}

// Changes that parsers stumble over: flipped bits, extreme values, pieces cut out, doubled or moved, cut ends.
void mutate(Bytes& bytes, std::mt19937& random) {
  static const std::vector<uint8_t> kExtremes{0x00, 0x01, 0x7f, 0x80, 0xff};
  const size_t at = below(random, bytes.size()), length = std::min(bytes.size() - at, below(random, 16) + 1);
  const auto begin = bytes.begin() + static_cast<std::ptrdiff_t>(at);
  const auto end = begin + static_cast<std::ptrdiff_t>(length);
  switch (bytes.empty() ? 4 : below(random, 7)) {
    case 0:
      *begin = static_cast<uint8_t>(*begin ^ (1 << below(random, 8)));
      break;
    case 1:
      *begin = static_cast<uint8_t>(random());
      break;
    case 2:
      std::fill(begin, end, kExtremes[below(random, kExtremes.size())]);
      break;
    case 3:
      bytes.erase(begin, end);
      break;
    case 4:
      bytes.insert(bytes.begin(), below(random, 9), static_cast<uint8_t>(random()));
      break;
    case 5: {
      const Bytes piece(begin, end);
      bytes.insert(bytes.begin() + static_cast<std::ptrdiff_t>(below(random, bytes.size())), piece.begin(),
                   piece.end());
      break;
    }
    default:
      bytes.resize(below(random, 4) == 0 ? at : bytes.size() - std::min(bytes.size(), below(random, 3)));
      break;
  }
}

TEST_P(Parsers, AcceptSomeSeeds) {
  int accepted = 0;
  for (const auto& [name, bytes] : parser().seeds()) accepted += accepts(bytes, name) ? 1 : 0;
  EXPECT_GT(accepted, 0) << "mutations of what is refused anyway would prove little";
}

TEST_P(Parsers, OnlyThrowErrorsForMutations) {
  const std::map<std::string, Bytes> seeds = parser().seeds();
  std::vector<Bytes> inputs;
  inputs.reserve(seeds.size());
  for (const auto& [name, bytes] : seeds) inputs.push_back(bytes);
  const int mutations = parser().mutations;
  std::mt19937 random(1);
  int refused = 0;
  for (int i = 0; i < mutations && !HasFailure(); ++i) {
    Bytes input = inputs[below(random, inputs.size())];
    for (size_t count = 1 + below(random, 4); count > 0; --count) mutate(input, random);
    refused += accepts(input, "mutation " + std::to_string(i)) ? 0 : 1;
  }
  EXPECT_GT(refused, mutations / 10);
}

TEST_P(Parsers, WithstandWhatFuzzingFound) {
  const fs::path folder = fs::path(RIFFLE_SOURCE_DIR) / "tests" / "fixtures" / "fuzz_regressions" / GetParam();
  if (!fs::exists(folder)) GTEST_SKIP() << "nothing was found in this parser so far";
  for (const auto& entry : fs::directory_iterator(folder)) {
    std::ifstream in(entry.path(), std::ios::binary);
    accepts({std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()}, entry.path().string());
  }
}

std::vector<std::string> names() {
  std::vector<std::string> all;
  for (const FuzzedParser& parser : fuzzed_parsers()) all.push_back(parser.name);
  return all;
}

INSTANTIATE_TEST_SUITE_P(Files, Parsers, ::testing::ValuesIn(names()), [](const auto& test) { return test.param; });

}  // namespace
}  // namespace riffle
