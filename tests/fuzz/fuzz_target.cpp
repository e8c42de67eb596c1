// libFuzzer's entry point for one parser, RIFFLE_FUZZ_TARGET. See scripts/fuzz.sh.
#include "core/check.h"
#include "tests/fuzz/parsers.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const riffle::FuzzedParser& parser = riffle::fuzzed_parser(RIFFLE_FUZZ_TARGET);
  try {
    parser.parse({data, data + size});
  } catch (const riffle::Error&) {  // refused: as it should be
  }
  return 0;
}
