// .npz: a zip archive of .npy files.
#include "train/checkpoint/file_io.h"
#include "train/checkpoint/numpy.h"
#include "train/checkpoint/zip_archive.h"
#include "train/checkpoint/zip_writer.h"

namespace riffle {

TensorMap parse_npz(const std::vector<uint8_t>& bytes, const std::string& name) {
  const ZipArchive archive(bytes.data(), bytes.size(), name);
  TensorMap tensors;
  for (size_t index = 0; index < archive.entries().size(); ++index) {
    const std::string& entry = archive.entries()[index].name;
    constexpr std::string_view kSuffix = ".npy";
    if (entry.size() <= kSuffix.size() || entry.substr(entry.size() - kSuffix.size()) != kSuffix)
      fail(name, " holds '", entry, "'; expected only .npy arrays in an .npz archive");
    const std::string key = entry.substr(0, entry.size() - kSuffix.size());
    if (!tensors.emplace(key, parse_npy(archive.read(index), join(name, "[", entry, "]"))).second)
      fail(name, " holds '", key, "' twice");
  }
  return tensors;
}

TensorMap read_npz(const std::string& path) {
  InputFile input(path);
  std::vector<uint8_t> bytes(input.size());
  input.read(bytes.data(), bytes.size());
  return parse_npz(bytes, path);
}

void write_npz(const std::string& path, const TensorMap& tensors) {
  ZipWriter archive(path);
  for (const auto& [name, tensor] : tensors) {
    const std::string header = npy_header(tensor, path);
    std::vector<uint8_t> bytes(header.begin(), header.end());
    bytes.insert(bytes.end(), tensor.bytes.begin(), tensor.bytes.end());
    archive.add(name + ".npy", bytes.data(), bytes.size());
  }
  archive.commit();
}

}  // namespace riffle
