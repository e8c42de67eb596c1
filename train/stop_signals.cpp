// Signals that end a run in good order.
#include "train/stop_signals.h"

#include <unistd.h>

#include "core/check.h"

namespace riffle {
namespace {

constexpr int kInterruptedExitCode = 128 + SIGINT;

volatile std::sig_atomic_t first_signal = 0;  // a handler has nowhere else to put it

void remember(int signal) {
  if (first_signal != 0 && signal == SIGINT) _exit(kInterruptedExitCode);
  if (first_signal == 0) first_signal = signal;
}

}  // namespace

StopSignals::StopSignals() {
  first_signal = 0;
  struct sigaction action {};
  action.sa_handler = remember;
  action.sa_flags = SA_RESTART;
  for (size_t i = 0; i < kSignals.size(); ++i) {
    RIFFLE_CHECK(sigaction(kSignals[i], nullptr, &before_[i]) == 0, "signal ", kSignals[i]);
    if (before_[i].sa_handler != SIG_IGN) sigaction(kSignals[i], &action, nullptr);
  }
}

StopSignals::~StopSignals() {
  for (size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &before_[i], nullptr);
}

bool StopSignals::received() {
  return first_signal != 0;
}

std::string StopSignals::name() {
  switch (first_signal) {
    case SIGINT:
      return "SIGINT";
    case SIGTERM:
      return "SIGTERM";
    case SIGUSR1:
      return "SIGUSR1";
    default:
      return "SIGHUP";
  }
}

}  // namespace riffle
