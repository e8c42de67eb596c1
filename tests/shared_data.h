// Data for development that is not part of the project: beside it, in shared/data. Tests that want it are skipped, with
// a message, where it is absent.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

namespace riffle {

inline std::string shared_data(const std::string& name) {
  return (std::filesystem::path(RIFFLE_SOURCE_DIR).parent_path() / "shared" / "data" / name).string();
}

}  // namespace riffle

// Ends the test unless shared/data/NAME exists.
#define RIFFLE_NEED_SHARED_DATA(name)                                                       \
  do {                                                                                      \
    if (!std::filesystem::exists(::riffle::shared_data(name)))                              \
      GTEST_SKIP() << ::riffle::shared_data(name) << " is not here, which this test needs"; \
  } while (0)
