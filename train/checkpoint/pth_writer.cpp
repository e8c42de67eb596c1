// Writing PyTorch's zip format: one pickle (protocol 2) that rebuilds an OrderedDict of tensors, and a file for each
// storage.
#include <algorithm>
#include <cstring>

#include "train/checkpoint/pth.h"
#include "train/checkpoint/zip_writer.h"

namespace riffle {
namespace {

constexpr uint32_t kStorageAlignment = 64;  // PyTorch's

const char* storage_type(FileDType dtype, const std::string& path) {
  switch (dtype) {
    case FileDType::kF64:
      return "DoubleStorage";
    case FileDType::kF32:
      return "FloatStorage";
    case FileDType::kF16:
      return "HalfStorage";
    case FileDType::kBF16:
      return "BFloat16Storage";
    case FileDType::kI64:
      return "LongStorage";
    case FileDType::kI32:
      return "IntStorage";
    case FileDType::kI16:
      return "ShortStorage";
    case FileDType::kI8:
      return "CharStorage";
    case FileDType::kU8:
      return "ByteStorage";
    case FileDType::kBool:
      return "BoolStorage";
    default:
      fail("cannot write ", path, ": PyTorch has no storage of ", dtype);
  }
}

class PickleWriter {
 public:
  PickleWriter() { bytes_ = "\x80\x02"; }

  PickleWriter& opcodes(const char* opcodes) {
    bytes_ += opcodes;
    return *this;
  }
  PickleWriter& global(const std::string& module, const std::string& name) {
    bytes_ += "c" + module + "\n" + name + "\n";
    return *this;
  }
  PickleWriter& text(const std::string& text) {
    bytes_ += "X";
    append(text.size(), 4);
    bytes_ += text;
    return *this;
  }
  PickleWriter& number(int64_t value) {  // LONG1 of eight bytes, which every reader takes
    bytes_ += value >= 0 && value < INT32_MAX ? "J" : std::string("\x8a\x08");
    append(static_cast<uint64_t>(value), value >= 0 && value < INT32_MAX ? 4 : 8);
    return *this;
  }
  PickleWriter& tuple(const std::vector<int64_t>& numbers) {
    opcodes("(");
    for (int64_t value : numbers) number(value);
    return opcodes("t");
  }
  const std::string& bytes() const { return bytes_; }

 private:
  void append(uint64_t value, int count) {
    for (int i = 0; i < count; ++i) bytes_.push_back(static_cast<char>(value >> (8 * i) & 0xff));
  }
  std::string bytes_;
};

std::vector<int64_t> packed_strides(const std::vector<int64_t>& shape) {
  std::vector<int64_t> strides(shape.size());
  int64_t stride = 1;
  for (size_t axis = shape.size(); axis-- > 0;) {
    strides[axis] = stride;
    stride *= std::max<int64_t>(shape[axis], 1);
  }
  return strides;
}

std::string pickle_of(const TensorMap& tensors, const std::string& path) {
  PickleWriter pickle;
  pickle.global("collections", "OrderedDict").opcodes(")R(");
  int64_t key = 0;
  for (const auto& [name, tensor] : tensors) {
    pickle.text(name).global("torch._utils", "_rebuild_tensor_v2").opcodes("((");
    pickle.text("storage").global("torch", storage_type(tensor.dtype, path)).text(std::to_string(key++));
    pickle.text("cpu").number(tensor.elements()).opcodes("tQ");
    pickle.number(0).tuple(tensor.shape).tuple(packed_strides(tensor.shape)).opcodes("\x89");
    pickle.global("collections", "OrderedDict").opcodes(")RtR");
  }
  return pickle.opcodes("u.").bytes();
}

}  // namespace

void write_pth(const std::string& path, const TensorMap& tensors) {
  const std::string pickle = pickle_of(tensors, path), top = "archive/";
  ZipWriter archive(path, kStorageAlignment);
  archive.add(top + "data.pkl", pickle.data(), pickle.size());
  archive.add(top + "byteorder", "little", std::strlen("little"));
  int64_t key = 0;
  for (const auto& [name, tensor] : tensors) {
    RIFFLE_CHECK(tensor.bytes.size() == static_cast<size_t>(tensor.elements()) * size_of(tensor.dtype), path,
                 ": tensor '", name, "' has ", tensor.bytes.size(), " bytes");
    archive.add(top + "data/" + std::to_string(key++), tensor.bytes.data(), tensor.bytes.size());
  }
  archive.add(top + "version", "3\n", std::strlen("3\n"));
  archive.commit();
}

}  // namespace riffle
