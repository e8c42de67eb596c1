// Tensors as PyTorch pickles them: calls of torch._utils._rebuild_tensor_v2 and its relatives on views of storages, which
// lie outside of the pickle.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "train/checkpoint/host_tensor.h"
#include "train/checkpoint/pickle.h"

namespace riffle {

// A storage as a tensor refers to it.
struct TorchStorage {
  std::string key;
  FileDType dtype = FileDType::kU8;  // of the storage; kU8 for untyped ones
  bool untyped = false;
  int64_t elements = 0;
  int64_t view_begin = 0;  // in elements of the storage under `key` (legacy files only)
};

// The bytes of a storage; valid until the next call. Throws if there is none.
using StorageBytes = std::function<std::string_view(const TorchStorage& storage)>;

// The storage that a persistent reference names, or nothing if its type is one that HostTensor lacks (complex, quantised);
// throws if it is malformed.
std::optional<TorchStorage> read_torch_storage(const PickleValue& persistent, const std::string& name);

class TorchTensors {
 public:
  // largest_total: bytes of all tensors together, for views may repeat elements (expand()).
  TorchTensors(StorageBytes storages, uint64_t largest_total, const std::string& name)
      : storages_(std::move(storages)), largest_total_(largest_total), name_(name) {}

  // Whether the value is a tensor or a parameter.
  static bool is_tensor(const PickleValue& value);
  // The tensor, its elements in row-major order. Nothing if it is of a kind that HostTensor lacks (`why_not` then says
  // which). Throws, naming `what`, for views beyond their storage and negative strides.
  std::optional<HostTensor> read(const PickleValue& value, const std::string& what, std::string& why_not);

 private:
  struct View {
    FileDType dtype;
    std::string_view storage;
    int64_t offset;
    std::vector<int64_t> shape, strides;  // in elements
  };
  HostTensor gather(const View& view, const std::string& what);

  StorageBytes storages_;
  uint64_t largest_total_, total_ = 0;
  std::string name_;
};

}  // namespace riffle
