// What the twins of cuBLASLt and cuDNN share: elements, device memory, and work in the order of a stream.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <functional>
#include <string>

namespace riffle::emulation {

enum class Element { kF32, kBF16, kF16 };
size_t bytes_of(Element type);
float load_element(const void* data, size_t index, Element type);
// To the nearest, ties to even.
void store_element(float value, void* data, size_t index, Element type);
// As tensor cores read f32: with 10 bits of mantissa, to the nearest.
float rounded_to_tf32(float x);

// Whether these bytes lie in one allocation of the emulated device.
bool in_device_memory(const void* data, size_t bytes);
// Tells the check build that a twin has written device memory.
void note_written(void* data, size_t bytes);
// What a library may leave in its workspace.
void spoil(void* workspace, size_t bytes);

// Runs `work` when its turn comes; every time its graph is launched, if the stream is captured.
cudaError_t queue_work(cudaStream_t stream, std::function<void()> work);

// Notes why a call is refused, and whether the caller is to blame.
void complain(const std::string& reason, bool is_misuse);

}  // namespace riffle::emulation
