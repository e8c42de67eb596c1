// Detecting formats by their first bytes, or the last ones where a format has its mark there.
#include "train/checkpoint/read_tensor_file.h"

#include <algorithm>
#include <filesystem>

#include "train/checkpoint/file_io.h"
#include "train/checkpoint/numpy.h"
#include "train/checkpoint/pth.h"
#include "train/checkpoint/safetensors.h"
#include "train/checkpoint/tensorflow.h"
#include "train/checkpoint/zip_archive.h"

namespace riffle {
namespace {

namespace fs = std::filesystem;
using Bytes = std::vector<uint8_t>;

constexpr const char* kFormats = "Riffle reads safetensors, PyTorch's .pth, numpy's .npz and TensorFlow's checkpoints";

bool starts_with(const Bytes& bytes, const std::string& mark, size_t at = 0) {
  return bytes.size() >= at + mark.size() && std::equal(mark.begin(), mark.end(), bytes.begin() + static_cast<long>(at),
                                                        [](char a, uint8_t b) { return static_cast<uint8_t>(a) == b; });
}

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// The last eight bytes of TensorFlow's .index files, which are tables of LevelDB.
bool is_leveldb_table(const Bytes& bytes) {
  const std::string magic = "\x57\xfb\x80\x8b\x24\x75\x47\xdb";
  return bytes.size() >= 48 && starts_with(bytes, magic, bytes.size() - magic.size());
}

TensorFile read_zip(const Bytes& bytes, const std::string& path, const std::string& entry) {
  bool pickle = false, arrays = false;
  {
    const ZipArchive archive(bytes.data(), bytes.size(), path);
    for (const ZipArchive::Entry& member : archive.entries()) {
      if (ends_with(member.name, "model.weights.h5")) {
        fail(path,
             " is a Keras 3 archive, whose weights are HDF5, which is not read; load it with Keras and write it with "
             "tf.train.Checkpoint(model=model).save(...)");
      }
      pickle = pickle || ends_with(member.name, "data.pkl");
      arrays = arrays || ends_with(member.name, ".npy");
    }
  }
  if (pickle) return parse_pth(bytes, path, entry);
  if (!arrays)
    fail(path, " is a zip archive, but neither PyTorch's (no data.pkl in it) nor numpy's (no .npy). ", kFormats);
  return {"NumPy .npz", parse_npz(bytes, path), nlohmann::json::object(), {}};
}

// Formats that have a mark and no reader.
void refuse_known(const Bytes& bytes, const std::string& path) {
  if (starts_with(bytes, "\x89HDF\r\n\x1a\n")) {
    fail(path,
         " is HDF5 (Keras .h5), which is not read; load it with Keras and write it with "
         "tf.train.Checkpoint(model=model).save(...), or numpy.savez with the variables' names");
  }
  if (starts_with(bytes, "\x93NUMPY"))
    fail(path, " is a single numpy array; weights come as .npz, with a name for each");
  if (starts_with(bytes, "\x1f\x8b")) fail(path, " is compressed with gzip; decompress it first");
  if (starts_with(bytes, "BZh") ||
      starts_with(bytes,
                  "\xfd"
                  "7zXZ") ||
      starts_with(bytes, "\x28\xb5\x2f\xfd")) {
    fail(path, " is compressed (bzip2, xz or zstd); decompress it first");
  }
  if (starts_with(bytes, "TFL3", 4))
    fail(path, " is a TensorFlow Lite model, which has no norms left to convert. ", kFormats);
  const std::string extension = fs::path(path).extension();
  if (extension == ".onnx" || extension == ".pb" || extension == ".caffemodel") {
    fail(path, " looks like ",
         extension == ".onnx" ? "ONNX"
         : extension == ".pb" ? "a TensorFlow graph"
                              : "Caffe's format",
         ", which is not read. ", kFormats);
  }
}

bool is_safetensors(const Bytes& bytes, const std::string& path) {
  if (fs::path(path).extension() == ".safetensors") return true;
  return bytes.size() > 8 && bytes[8] == '{' &&
         std::all_of(bytes.begin() + 4, bytes.begin() + 8, [](uint8_t b) { return b == 0; });
}

}  // namespace

TensorFile read_tensor_file(const std::string& path, const std::string& entry) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) {
    if (fs::exists(fs::path(path) / "saved_model.pb", ignored)) {
      const fs::path variables = fs::path(path) / "variables" / "variables";
      fail(path, " is a TensorFlow SavedModel; its weights are the checkpoint ", variables.string());
    }
    return read_tensorflow(path);
  }
  if (!fs::exists(path, ignored) && fs::exists(path + ".index", ignored)) return read_tensorflow(path);
  const Bytes bytes = file_contents(path);
  if (bytes.empty()) fail(path, " is empty");
  if (starts_with(bytes, "PK")) return read_zip(bytes, path, entry);
  refuse_known(bytes, path);
  if (is_leveldb_table(bytes)) return read_tensorflow(path);
  if (const size_t at = path.rfind(".data-0"); at != std::string::npos && path.find("-of-", at) != std::string::npos) {
    fail(path, " is the data of a TensorFlow checkpoint; give its .index file or its prefix, ", path.substr(0, at));
  }
  // A pickle, or the tar archive of PyTorch's first versions, which its reader refuses by name.
  if (bytes[0] == 0x80 || starts_with(bytes, "ustar", 257)) return parse_pth(bytes, path, entry);
  if (is_safetensors(bytes, path)) {
    CheckpointFile file = parse_safetensors(bytes, path);
    return {"safetensors", std::move(file.tensors), std::move(file.metadata), {}};
  }
  fail(path, " is in no format that is known. ", kFormats);
}

}  // namespace riffle
