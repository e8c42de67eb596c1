// What a terminal can show.
#pragma once

#include <cstddef>

namespace riffle {

size_t terminal_columns(int descriptor);  // 80 where it is none, or does not say
// Whether the environment's locale (LC_ALL, LC_CTYPE, LANG) is one of UTF-8 that this machine has.
bool locale_is_utf8();

}  // namespace riffle
