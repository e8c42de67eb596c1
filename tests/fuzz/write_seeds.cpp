// Writes the seeds of every parser: write_seeds FOLDER makes FOLDER/<parser>/<seed>.
#include <filesystem>
#include <fstream>
#include <iostream>

#include "core/check.h"
#include "tests/fuzz/parsers.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: write_seeds FOLDER\n";
    return 2;
  }
  try {
    for (const riffle::FuzzedParser& parser : riffle::fuzzed_parsers()) {
      const std::filesystem::path folder = std::filesystem::path(argv[1]) / parser.name;
      std::filesystem::create_directories(folder);
      for (const auto& [name, bytes] : parser.seeds()) {
        std::ofstream out(folder / name, std::ios::binary);
        out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
        if (!out.flush()) riffle::fail("cannot write ", (folder / name).string());
      }
    }
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 1;
  }
}
