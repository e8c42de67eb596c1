// safetensors: 8 bytes of header length, a JSON header (name -> dtype, shape, byte range; text metadata), then the
// tensors' bytes. Riffle's own format: trivially safe to read, and Python reads it too.
// The format: https://github.com/huggingface/safetensors
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "train/checkpoint/host_tensor.h"

namespace riffle {

struct CheckpointFile {
  TensorMap tensors;
  // An object. The format stores text only, so each entry is stored as JSON text; a string that is not itself JSON text
  // is stored as it is. Reading inverts this exactly, but for numbers that are not finite: JSON has only null for them.
  nlohmann::json metadata = nlohmann::json::object();
};

// A checksum (CRC-32C) of the tensors' bytes and of the metadata is stored as the metadata entry "crc32c", which `metadata`
// does not show. Reading checks it where it is there; files of other programs need not have it.

// Written atomically: temporary file beside it, fsync, rename, fsync of the folder. Throws with the path and the reason
// (read-only folder, disk full, ...); the old file is then intact and no temporary file is left.
void write_safetensors(const std::string& path, const CheckpointFile& file);
// Throws for anything invalid (truncated, overlapping, holes, bad header, size mismatch), naming path and tensor, and for
// the dtypes that FileDType lacks (complex numbers, floating point of 4 and 6 bits, exponents only).
CheckpointFile read_safetensors(const std::string& path);
// The same, of a file in memory; `name` stands for it in messages.
CheckpointFile parse_safetensors(const std::vector<uint8_t>& bytes, const std::string& name);

}  // namespace riffle
