// One object of cuDNN's graph interface: attributes are set, then it is finalized, then others may refer to it.
#pragma once

#include <cudnn_graph.h>

#include <string>
#include <vector>

#include "core/check.h"
#include "cuda/libraries.h"

namespace riffle {

// What cuDNN says of the call that failed last.
inline std::string last_account(const Cudnn& library) {
  char account[512] = "";
  library.last_error_string(account, sizeof account);
  return account;
}

inline void check_cudnn(const Cudnn& library, cudnnStatus_t status, const std::string& what) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  fail("cuDNN ", what, " failed: ", library.error_string(status), ": ", last_account(library));
}

class CudnnDescriptor {
 public:
  CudnnDescriptor(const Cudnn& library, cudnnBackendDescriptorType_t type) : library_(&library) {
    check_cudnn(library, library.descriptor_create(type, &descriptor_), "descriptor_create");
  }
  CudnnDescriptor(CudnnDescriptor&& other) noexcept : library_(other.library_), descriptor_(other.descriptor_) {
    other.descriptor_ = nullptr;
  }
  CudnnDescriptor(const CudnnDescriptor&) = delete;
  CudnnDescriptor& operator=(const CudnnDescriptor&) = delete;
  CudnnDescriptor& operator=(CudnnDescriptor&&) = delete;
  ~CudnnDescriptor() {
    if (descriptor_) library_->descriptor_destroy(descriptor_);
  }

  cudnnBackendDescriptor_t get() const { return descriptor_; }

  template <class T>
  void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, const std::vector<T>& values) {
    check_cudnn(*library_, library_->set(descriptor_, name, type, static_cast<int64_t>(values.size()), values.data()),
                join("attribute ", static_cast<int>(name)));
  }
  template <class T>
  void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, T value) {
    set(name, type, std::vector<T>{value});
  }
  void set(cudnnBackendAttributeName_t name, const CudnnDescriptor& value) {
    set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, value.get());
  }
  void finalize(const char* what) { check_cudnn(*library_, library_->finalize(descriptor_), what); }
  // False where the library does not support what the descriptor asks for.
  bool try_finalize() { return library_->finalize(descriptor_) == CUDNN_STATUS_SUCCESS; }

  // The values of an attribute of a finalized descriptor, at most `limit`.
  template <class T>
  std::vector<T> values(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t limit) const {
    std::vector<T> result(static_cast<size_t>(limit));
    int64_t count = 0;
    check_cudnn(*library_, library_->get(descriptor_, name, type, limit, &count, result.data()),
                join("attribute ", static_cast<int>(name)));
    result.resize(static_cast<size_t>(count < limit ? count : limit));
    return result;
  }
  template <class T>
  T value(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type) const {
    const std::vector<T> one = values<T>(name, type, 1);
    RIFFLE_CHECK(one.size() == 1, "cuDNN attribute ", static_cast<int>(name), " has no value");
    return one.front();
  }
  // The descriptors that an attribute holds: made here, filled in by the library, which tells a bound of their number.
  std::vector<CudnnDescriptor> fill(cudnnBackendAttributeName_t name, cudnnBackendDescriptorType_t type) const {
    const auto get = [&](int64_t requested, int64_t* count, void* elements) {
      check_cudnn(*library_,
                  library_->get(descriptor_, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, requested, count, elements),
                  join("attribute ", static_cast<int>(name)));
    };
    int64_t bound = 0, count = 0;
    get(0, &bound, nullptr);
    std::vector<CudnnDescriptor> result;
    std::vector<cudnnBackendDescriptor_t> raw;
    for (int64_t i = 0; i < bound; ++i) {
      result.emplace_back(*library_, type);
      raw.push_back(result.back().get());
    }
    if (bound > 0) get(bound, &count, raw.data());
    while (static_cast<int64_t>(result.size()) > count) result.pop_back();
    return result;
  }

 private:
  const Cudnn* library_;
  cudnnBackendDescriptor_t descriptor_ = nullptr;
};

}  // namespace riffle
