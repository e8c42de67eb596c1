// Signals that end a run in good order: SIGINT, SIGTERM, SIGUSR1 (as batch systems send before the time is over) and
// SIGHUP. The run finishes its step, saves, and ends with kStoppedExitCode.
#pragma once

#include <array>
#include <csignal>
#include <string>

namespace riffle {

inline constexpr int kStoppedExitCode = 75;  // sysexits' EX_TEMPFAIL: try again later

// While one lives, these signals only set a flag; a second SIGINT ends the process at once, with exit code 130. Signals
// that were ignored before (nohup) stay so. One at a time.
class StopSignals {
 public:
  StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;
  ~StopSignals();

  static bool received();
  static std::string name();  // "SIGTERM"; of the first that came

 private:
  static constexpr std::array<int, 4> kSignals{SIGINT, SIGTERM, SIGUSR1, SIGHUP};
  std::array<struct sigaction, kSignals.size()> before_{};
};

}  // namespace riffle
