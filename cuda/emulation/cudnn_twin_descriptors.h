// Descriptors of cuDNN's graph interface as the twin keeps them, and what finalizing one checks.
#pragma once

#include <cudnn_graph.h>

#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/check.h"
#include "cuda/emulation/cudnn_twin_convolution.h"

namespace riffle::emulation {

struct Handle {
  cudaStream_t stream = nullptr;
};

struct Engine {
  int64_t index;
  std::vector<cudnnBackendNumericalNote_t> notes;
  int64_t workspace_bytes;
  bool needs_alignment;  // of 16 bytes
  bool can_be_planned;   // engines of a list may turn out not to support the problem
};

struct Attribute {
  cudnnBackendAttributeType_t type;
  std::vector<char> bytes;
};

struct Descriptor {
  cudnnBackendDescriptorType_t type;
  bool finalized = false;
  std::map<cudnnBackendAttributeName_t, Attribute> attributes;
  // What finalizing found.
  std::shared_ptr<const PlainConvolution> convolution;  // of operations, and all that follows from them
  std::vector<int64_t> alignments;                      // of x, w, y, as their descriptors promise
  std::vector<int64_t> names;                           // of x, w, y
  std::vector<const Engine*> results;                   // of heuristics
  const Engine* engine = nullptr;                       // of engines, configurations and plans
};

// Those that were made and not destroyed.
std::map<const void*, std::unique_ptr<Descriptor>>& descriptors();
std::map<const void*, std::unique_ptr<Handle>>& handles();
// Null if there is no such.
Descriptor* find_descriptor(const void* descriptor);
Handle* find_handle(const void* handle);

size_t size_of_type(cudnnBackendAttributeType_t type);

// The values of an attribute; throws the reason where it is missing or has another type or count.
template <class T>
std::vector<T> values(const Descriptor& d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                      size_t count) {
  const auto found = d.attributes.find(name);
  if (found == d.attributes.end()) fail("attribute ", static_cast<int>(name), " is missing");
  const Attribute& attribute = found->second;
  if (attribute.type != type || attribute.bytes.size() != count * size_of_type(type) || sizeof(T) != size_of_type(type))
    fail("attribute ", static_cast<int>(name), " has the wrong type or count");
  std::vector<T> result(count);
  std::memcpy(result.data(), attribute.bytes.data(), attribute.bytes.size());
  return result;
}
template <class T>
T value(const Descriptor& d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type) {
  return values<T>(d, name, type, 1).front();
}
// What follows from an operation: its graph, heuristics, configurations, plans.
void inherit(const Descriptor& from, Descriptor* to);
// Checks a descriptor and works out what it stands for; throws the reason where it cannot be finalized.
void finalize_descriptor(Descriptor* d);

}  // namespace riffle::emulation
