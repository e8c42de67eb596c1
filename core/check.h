// Errors of one type. A message is written for the person who reads it: what was wrong, where, and what would be right.
// RIFFLE_CHECK guards contracts between parts of the program (it adds file, line and the expression); fail() and
// fail_usage() report bad input, where our own source line would not help anybody.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace riffle {

// kUsage: the command line or a configuration file is wrong (exit code 2). kRuntime: everything else (exit code 1).
enum class ErrorKind { kRuntime, kUsage };

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

// Joins anything that has operator<< into one string.
template <class... Parts>
std::string join(const Parts&... parts) {
  std::ostringstream out;
  ((out << parts), ...);
  return out.str();
}

template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  throw Error(ErrorKind::kRuntime, join(parts...));
}

template <class... Parts>
[[noreturn]] void fail_usage(const Parts&... parts) {
  throw Error(ErrorKind::kUsage, join(parts...));
}

}  // namespace riffle

// RIFFLE_CHECK(x.shape() == y.shape(), "x is ", x.shape(), ", y is ", y.shape());
#define RIFFLE_CHECK(condition, ...)                                                                            \
  do {                                                                                                          \
    if (!(condition))                                                                                           \
      ::riffle::fail(__FILE__, ":", __LINE__, ": check failed: " #condition ": ", ::riffle::join(__VA_ARGS__)); \
  } while (0)
