// Writes a TensorBoard event file. A killed run loses what was added since the last flush(); the file then ends early,
// which readers take.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "train/checkpoint/file_io.h"
#include "train/tensorboard/histogram.h"

namespace riffle {

// Whether a file of this name is one of TensorBoard's.
bool is_event_file(const std::string& name);

class EventWriter {
 public:
  // Begins a new file in `folder`, whose name sorts behind those of earlier files there, since TensorBoard reads them in
  // that order. What those say of `first_step` and later steps, TensorBoard forgets then: a resumed run repeats them.
  EventWriter(const std::string& folder, int64_t first_step);

  const std::string& path() const { return path_; }
  void scalars(int64_t step, const std::vector<std::pair<std::string, double>>& values);
  void histograms(int64_t step, const std::vector<std::pair<std::string, Histogram>>& values);
  void image(int64_t step, const std::string& tag, int width, int height, int channels,
             const std::vector<uint8_t>& png);
  // Throws where the file cannot be written; it then ends with the record before, and the added ones are kept for the
  // next flush().
  void flush();

 private:
  void add_record(const std::string& message);

  std::string path_;
  FileDescriptor fd_;
  int64_t size_ = 0;     // of the file
  std::string pending_;  // whole records
};

}  // namespace riffle
