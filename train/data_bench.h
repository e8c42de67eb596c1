// How quickly training images are read, decoded and augmented, stage by stage on one core and by the loader as a whole.
#pragma once

#include <cstdint>
#include <functional>

#include "data/dataset.h"
#include "data/loader.h"

namespace riffle {

// Seconds for all images: of the processor, but for reading, which waits.
struct StageSeconds {
  double read = 0, decode = 0, resample = 0, augment = 0;
  double copy = 0;         // into the batch
  double normalise = 0;    // of the batch, which a GPU does itself
  double full_decode = 0;  // of the same images, whole and at their own scale: the floor of the exact mode

  double whole() const { return read + decode + resample + augment + copy + normalise; }
};

struct LoaderRate {
  double seconds = 0;      // by the clock
  double cpu_seconds = 0;  // of all threads
};

// The first `images` images of an epoch of the loader, and of those after it, if that is more. A first round, which is
// not counted, brings files into the system's cache. `progress` hears after each how many are done.
StageSeconds time_stages(const Dataset& data, const LoaderOptions& options, int64_t images,
                         const std::function<void(const uint8_t* pixels)>& normalise,
                         const std::function<void(int64_t done)>& progress);
// The same with the loader's threads. `images` becomes what was measured: whole batches.
LoaderRate time_loader(const Dataset& data, const LoaderOptions& options, int64_t& images);

}  // namespace riffle
