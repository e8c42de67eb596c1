// A kernel that touches a guard page ends as a report instead of ending the process.
#pragma once

namespace riffle::emulation {

// From now on a segmentation fault while this OS thread runs a kernel is reported, and the fiber goes on in `resume`,
// on a small stack of its own. Elsewhere such faults do what they always did.
void handle_crashes(void (*resume)());
// Whether one happened since the last call.
bool take_crash();

}  // namespace riffle::emulation
