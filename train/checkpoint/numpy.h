// numpy's files: .npy (one array) and .npz (a zip archive of them), read and written without numpy.
// The format: numpy.lib.format, https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "train/checkpoint/host_tensor.h"

namespace riffle {

// .npy: versions 1 to 3, C order or Fortran order, little-endian floats, integers and bool. Anything else (object arrays, text, structures, big-endian) is refused. `name` stands for the file in
// messages.
HostTensor parse_npy(const std::vector<uint8_t>& bytes, const std::string& name);
// .npz: stored or deflated entries. Array "conv1/W.npy" is returned as "conv1/W". Nothing is allocated that the size of
// the file cannot justify.
TensorMap read_npz(const std::string& path);
TensorMap parse_npz(const std::vector<uint8_t>& bytes, const std::string& name);
// C order, version 1; stored in .npz. Atomic, like write_safetensors().
void write_npy(const std::string& path, const HostTensor& tensor);
void write_npz(const std::string& path, const TensorMap& tensors);
// What precedes a tensor's bytes in a .npy file; `path` is for messages.
std::string npy_header(const HostTensor& tensor, const std::string& path);

}  // namespace riffle
