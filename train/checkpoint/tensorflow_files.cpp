// Finding the files of a TensorFlow checkpoint from what a user may call it by.
#include <cstdio>
#include <filesystem>
#include <memory>
#include <regex>

#include "core/check.h"
#include "train/checkpoint/file_io.h"
#include "train/checkpoint/tensorflow.h"

namespace riffle {
namespace {

namespace fs = std::filesystem;

std::string read_text(const std::string& path) {
  InputFile input(path);
  std::string text(static_cast<size_t>(input.size()), '\0');
  input.read(text.data(), text.size());
  return text;
}

// Of a folder: its file "checkpoint" holds a line  model_checkpoint_path: "PREFIX", relative to the folder or absolute.
std::string newest_prefix(const std::string& folder) {
  const std::string state = folder + "/checkpoint";
  if (!fs::is_regular_file(state))
    fail(folder, " has no file 'checkpoint' that names a TensorFlow checkpoint; give the prefix, as in ", folder,
         "/model.ckpt-100");
  constexpr uint64_t kMaxStateBytes = 1 << 20;  // a few hundred bytes in practice
  if (fs::file_size(state) > kMaxStateBytes) fail(state, " is too large to be TensorFlow's list of checkpoints");
  const std::string text = read_text(state), key = "model_checkpoint_path: \"";
  const size_t begin = text.compare(0, key.size(), key) == 0 ? 0 : text.find("\n" + key);
  const size_t start = begin == std::string::npos ? begin : text.find('"', begin) + 1;
  const size_t end = start == std::string::npos ? start : text.find('"', start);
  if (end == std::string::npos) fail(state, ": expected a line model_checkpoint_path: \"PREFIX\"");
  const fs::path named = text.substr(start, end - start);
  // Folders are moved: an absolute path that is gone stands for the file of that name beside the list.
  if (named.is_absolute() && fs::exists(named.string() + ".index")) return named.string();
  return (fs::path(folder) / (named.is_absolute() ? named.filename() : named)).string();
}

std::string prefix_of(const std::string& path) {
  if (fs::is_directory(path)) return newest_prefix(path);
  static const std::regex part("(.*)\\.(index|data-[0-9]{5}-of-[0-9]{5})");
  std::smatch match;
  return std::regex_match(path, match, part) ? match[1].str() : path;
}

}  // namespace

TensorFile read_tensorflow(const std::string& path) {
  const std::string prefix = prefix_of(path), index = prefix + ".index";
  if (!fs::exists(index))
    fail("cannot read ", path, " as a TensorFlow checkpoint: there is no ", index,
         fs::is_regular_file(prefix) ? " (a single file is TensorFlow's old format V1; save it again as V2)" : "");
  return parse_tensorflow(read_text(index), index, [&prefix](uint64_t shard, uint64_t shards) {
    char suffix[64];
    std::snprintf(suffix, sizeof suffix, ".data-%05llu-of-%05llu", static_cast<unsigned long long>(shard),
                  static_cast<unsigned long long>(shards));
    const auto file = std::make_shared<InputFile>(prefix + suffix);
    return TensorFlowShard{file->path(), file->size(), [file](uint64_t offset, void* destination, size_t size) {
                             file->read_at(offset, destination, size);
                           }};
  });
}

}  // namespace riffle
