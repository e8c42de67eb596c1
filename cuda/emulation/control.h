// What tests may ask of the emulated device and read from it. Everything else is the CUDA runtime API.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace riffle::emulation {

// In which order the threads of a block, and the blocks of a grid, first run.
enum class ThreadOrder { kForward, kReverse, kRandom };

// When queued work runs, and in which of the orders that streams and events allow.
enum class WorkOrder {
  kEager,     // when it is submitted
  kLate,      // when somebody waits for it, and no more than that; as submitted
  kReversed,  // like kLate, but whatever was submitted last and may run, runs first
  kRandom,    // like kLate, but any that may run
};

// First values come from the environment: RIFFLE_EMULATION_THREADS (forward, reverse, random), RIFFLE_EMULATION_WORK
// (eager, late, reversed, random), RIFFLE_EMULATION_SEED, RIFFLE_EMULATION_CAPTURE (yes, no).
struct Options {
  ThreadOrder threads = ThreadOrder::kForward;
  WorkOrder work = WorkOrder::kReversed;
  unsigned seed = 1;
  bool captures = true;  // false: every capture ends in an error, as of a driver that refuses something in it
  bool print = true;     // the first few reports go to stderr
};
Options& options();

// Something that a kernel or its caller did wrong.
struct Report {
  std::string kind;  // race, out of bounds, uninitialised, misaligned, barrier divergence, deadlock, launch limit, ...
  std::string text;
};
int report_count();
int report_count(const std::string& kind);
const std::vector<Report>& first_reports();  // at most 16
// Also forgets the error that the next synchronisation would return.
void clear_reports();

// True in a program that is linked with riffle_emulation_check.
bool is_check_build();

// 1 to 8; before the first CUDA call. The first value is RIFFLE_EMULATION_DEVICES, or 1.
void set_device_count(int count);
// What every device has, at most 4 GiB. The first value is RIFFLE_EMULATION_MEMORY_MB, or 2048.
void set_device_memory(size_t bytes);

// Operations that were submitted and have not run.
size_t pending_operations();
// Calls of cudaGraphLaunch so far.
uint64_t graph_launches();

struct Statistics {
  uint64_t launches = 0, fiber_switches = 0, checked_accesses = 0;
};
Statistics statistics();

}  // namespace riffle::emulation
