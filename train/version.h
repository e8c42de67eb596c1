// The version of this program, as checkpoints and `riffle --version` state it. Equal to CMakeLists.txt's (tested).
#pragma once

namespace riffle {

inline constexpr const char* kVersion = "0.1.0";

}  // namespace riffle
