// numpy's files: .npy (one array) and .npz (a zip archive of them), read and written without numpy.
// The format: numpy.lib.format, https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "train/checkpoint/host_tensor.h"

namespace riffle {

// .npy: versions 1 to 3, C order or Fortran order, little-endian f2 f4 f8 u1 i4 i8. i8 is converted to kI32 (range
// checked). Anything else (object arrays, text, structures, big-endian) is refused. `name` stands for the file in
// messages.
HostTensor parse_npy(const std::vector<uint8_t>& bytes, const std::string& name);
// .npz: stored or deflated entries. Array "conv1/W.npy" is returned as "conv1/W". Nothing is allocated that the size of
// the file cannot justify.
TensorMap read_npz(const std::string& path);
// C order, version 1; atomic, like write_safetensors().
void write_npy(const std::string& path, const HostTensor& tensor);

}  // namespace riffle
