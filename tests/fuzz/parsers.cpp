// The parsers of checkpoints, and their seeds.
#include "tests/fuzz/parsers.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string_view>

#include "core/check.h"
#include "train/checkpoint/numpy.h"
#include "train/checkpoint/pickle.h"
#include "train/checkpoint/pth.h"
#include "train/checkpoint/safetensors.h"
#include "train/checkpoint/tensorflow.h"
#include "train/checkpoint/zip_archive.h"

namespace riffle {
namespace {

namespace fs = std::filesystem;
using Seeds = std::map<std::string, Bytes>;

constexpr size_t kLargestSeed = 32 << 10;  // mutations of large files seldom hit what matters

std::string_view view_of(const Bytes& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

Bytes file_contents(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) fail("cannot read ", path.string());
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

fs::path fixtures() {
  return fs::path(RIFFLE_SOURCE_DIR) / "tests" / "fixtures";
}

void add_files(const char* folder, const std::vector<std::string>& extensions, Seeds& seeds) {
  for (const auto& entry : fs::directory_iterator(fixtures() / folder)) {
    const std::string extension = entry.path().extension().string();
    if (entry.file_size() <= kLargestSeed &&
        std::find(extensions.begin(), extensions.end(), extension) != extensions.end())
      seeds[entry.path().filename().string()] = file_contents(entry.path());
  }
}

// What one of our writers makes.
template <class Write>
Bytes written(Write write) {
  std::string folder = (fs::temp_directory_path() / "riffle-seed-XXXXXX").string();
  if (mkdtemp(folder.data()) == nullptr) fail("cannot make a temporary folder like ", folder);
  const std::string path = folder + "/seed";
  write(path);
  const Bytes bytes = file_contents(path);
  fs::remove_all(folder);
  return bytes;
}

TensorMap small_tensors() {
  return {{"conv.weight", {FileDType::kF32, {2, 1, 1, 3}, Bytes(24, 1)}},
          {"conv.bias", {FileDType::kF16, {2}, Bytes(4, 2)}},
          {"empty", {FileDType::kI64, {0, 3}, {}}},
          {"scalar", {FileDType::kBool, {}, Bytes(1, 1)}}};
}

// --- pth -------------------------------------------------------------------------------------------------------------

void run_pth(const Bytes& input) {
  parse_pth(input, "input");
}

Seeds pth_seeds() {
  Seeds seeds;
  add_files("pth", {".pth", ".pt", ".tar"}, seeds);
  seeds["ours.pth"] = written([](const std::string& path) { write_pth(path, small_tensors()); });
  return seeds;
}

// --- pickle ----------------------------------------------------------------------------------------------------------

// Several in a row, as in PyTorch's files of before 1.6.
void run_pickle(const Bytes& input) {
  for (std::string_view left = view_of(input); !left.empty();) {
    const Pickle pickle(left, "input");
    pickle.globals();
    left.remove_prefix(pickle.size());
  }
}

Seeds pickle_seeds() {
  Seeds seeds;
  for (const auto& [name, bytes] : pth_seeds()) {
    if (!bytes.empty() && bytes[0] == 0x80) seeds[name + ".pkl"] = bytes;
    if (bytes.empty() || bytes[0] != 'P') continue;
    const ZipArchive archive(bytes.data(), bytes.size(), name);
    for (size_t index = 0; index < archive.entries().size(); ++index) {
      const std::string entry = archive.entries()[index].name;
      if (fs::path(entry).filename() == "data.pkl" && archive.entries()[index].size <= kLargestSeed)
        seeds[name + ".pkl"] = archive.read(index);
    }
  }
  return seeds;
}

// --- npz -------------------------------------------------------------------------------------------------------------

void run_npz(const Bytes& input) {
  if (!input.empty() && input[0] == 'P') {
    parse_npz(input, "input");
  } else {
    parse_npy(input, "input");
  }
}

Seeds npz_seeds() {
  Seeds seeds;
  add_files("numpy", {".npz", ".npy"}, seeds);
  for (const auto& [name, tensor] : small_tensors())
    seeds[name + ".npy"] = written([&tensor = tensor](const std::string& path) { write_npy(path, tensor); });
  seeds["ours.npz"] = written([](const std::string& path) { write_npz(path, small_tensors()); });
  return seeds;
}

// --- safetensors -----------------------------------------------------------------------------------------------------

void run_safetensors(const Bytes& input) {
  parse_safetensors(input, "input");
}

Seeds safetensors_seeds() {
  CheckpointFile file;
  file.tensors = small_tensors();
  file.metadata = {{"format", "pt"}, {"classes", {"cat", "dog"}}, {"epoch", 3}};
  return {{"ours.safetensors", written([&](const std::string& path) { write_safetensors(path, file); })}};
}

// --- tensorflow ------------------------------------------------------------------------------------------------------

// One input holds the index, which ends with a mark, and the contents of every data file.
void run_tensorflow(const Bytes& input) {
  static const std::string kMark("\x57\xfb\x80\x8b\x24\x75\x47\xdb", 8);
  const std::string_view all = view_of(input);
  const size_t mark = all.rfind(kMark);
  const std::string_view index = mark == std::string_view::npos ? all : all.substr(0, mark + kMark.size());
  const std::string_view data = all.substr(index.size());
  parse_tensorflow(index, "input", [data](uint64_t, uint64_t) {
    return TensorFlowShard{"data", data.size(), [data](uint64_t offset, void* destination, size_t size) {
                             RIFFLE_CHECK(offset <= data.size() && size <= data.size() - offset, "beyond the data");
                             if (size > 0) std::memcpy(destination, data.data() + offset, size);
                           }};
  });
}

Seeds tensorflow_seeds() {
  Seeds seeds;
  for (const std::string name : {"saver/model.ckpt-7", "sharded/model.ckpt-7", "object/ckpt-1"}) {
    const bool sharded = name.compare(0, 7, "sharded") == 0;
    const std::string prefix = (fixtures() / "tensorflow" / name).string();
    Bytes bytes = file_contents(prefix + ".index");
    const Bytes data = file_contents(prefix + (sharded ? ".data-00000-of-00002" : ".data-00000-of-00001"));
    bytes.insert(bytes.end(), data.begin(), data.end());
    seeds[name.substr(0, name.find('/'))] = bytes;
  }
  return seeds;
}

}  // namespace

const std::vector<FuzzedParser>& fuzzed_parsers() {
  static const std::vector<FuzzedParser> parsers = [] {
    std::vector<FuzzedParser> all{{"pth", run_pth, pth_seeds},
                                  {"pickle", run_pickle, pickle_seeds},
                                  {"npz", run_npz, npz_seeds},
                                  {"safetensors", run_safetensors, safetensors_seeds},
                                  {"tensorflow", run_tensorflow, tensorflow_seeds}};
    const std::vector<FuzzedParser> of_data = data_parsers();
    all.insert(all.end(), of_data.begin(), of_data.end());
    return all;
  }();
  return parsers;
}

const FuzzedParser& fuzzed_parser(const std::string& name) {
  for (const FuzzedParser& parser : fuzzed_parsers()) {
    if (parser.name == name) return parser;
  }
  fail("no parser '", name, "'");
}

}  // namespace riffle
