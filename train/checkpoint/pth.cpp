// Reading PyTorch's files: the containers. What is in the pickle: torch_state.h and torch_tensors.h.
#include "train/checkpoint/pth.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <regex>
#include <set>

#include "train/checkpoint/file_io.h"
#include "train/checkpoint/torch_state.h"
#include "train/checkpoint/zip_archive.h"

namespace riffle {
namespace {

constexpr char kMagic[] = "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";  // of legacy files, a little-endian integer
constexpr int64_t kLegacyProtocol = 1001;
constexpr int kNewestVersion = 10;  // of the zip format, that PyTorch itself reads
// Views may repeat elements, so tensors may take more memory than the file, but not by much.
constexpr uint64_t kLargestExpansion = 8, kSmallFile = uint64_t{64} << 20;

std::string_view view_of(const std::vector<uint8_t>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

bool starts_with(const std::string& text, const char* prefix) {
  return text.rfind(prefix, 0) == 0;
}

// What checkpoints name as a matter of course; whatever else is named in one is worth a note.
bool is_ordinary(const std::string& global) {
  static const std::set<std::string> kNames{"collections.OrderedDict",
                                            "collections.defaultdict",
                                            "torch.Size",
                                            "torch.device",
                                            "torch.Tensor",
                                            "torch.nn.parameter.Parameter",
                                            "torch.nn.parameter.Buffer",
                                            "torch._tensor._rebuild_from_type_v2",
                                            "numpy.core.multiarray.scalar",
                                            "numpy.core.multiarray._reconstruct",
                                            "numpy._core.multiarray.scalar",
                                            "numpy._core.multiarray._reconstruct",
                                            "numpy.dtype",
                                            "numpy.ndarray",
                                            "_codecs.encode",
                                            "argparse.Namespace",
                                            "__builtin__.set",
                                            "builtins.set",
                                            "torch.storage.UntypedStorage",
                                            "torch.storage.TypedStorage",
                                            "torch.storage._load_from_bytes"};
  static const std::regex kOfTorch(R"(torch\.(cuda\.|storage\.)?[A-Z][A-Za-z0-9_]*(Storage|Tensor)|)"
                                   R"(torch\.(u?int|float|bfloat|complex|quint|qint|bool)[0-9a-z_]*|)"
                                   R"(torch\._utils\._rebuild_[a-z0-9_]+)");
  return kNames.count(global) != 0 || std::regex_match(global, kOfTorch) || starts_with(global, "torch.nn.modules.") ||
         starts_with(global, "__torch__.");
}

// Names come from the file: nothing that a terminal would obey, and no novels.
std::string printable(std::string text) {
  constexpr size_t kLongest = 300;
  for (char& symbol : text) {
    if (static_cast<uint8_t>(symbol) < 0x20 || symbol == 0x7f) symbol = '?';
  }
  return text.size() <= kLongest ? text : text.substr(0, kLongest) + "...";
}

void make_presentable(std::vector<std::string>& notes) {
  constexpr size_t kMostNotes = 100;
  const size_t count = notes.size();
  if (count > kMostNotes) {
    notes.resize(kMostNotes);
    notes.push_back(join("and ", count - kMostNotes, " more of the kind"));
  }
  for (std::string& note : notes) note = printable(note);
}

TensorFile interpret(const Pickle& pickle, const std::string& format, const StorageBytes& storages, uint64_t file_bytes,
                     const std::string& name, const std::string& entry) {
  TensorFile file;
  file.format = format;
  TorchTensors tensors(storages, std::max(kLargestExpansion * file_bytes, kSmallFile), name);
  std::vector<FoundTensor> state = find_torch_state(pickle, entry, name, file.notes);
  // Storage by storage: each is unpacked once, in whatever order tensors refer to them.
  std::stable_sort(state.begin(), state.end(), [](const FoundTensor& a, const FoundTensor& b) {
    return storage_key(*a.value) < storage_key(*b.value);
  });
  for (const FoundTensor& found : state) {
    std::string why_not;
    std::optional<HostTensor> tensor = tensors.read(*found.value, found.name, why_not);
    if (!tensor) {
      file.notes.push_back(join("tensor '", found.name, "' ", why_not, ", skipped"));
    } else {
      file.tensors.emplace(found.name, std::move(*tensor));
    }
  }
  for (const std::string& global : pickle.globals()) {
    if (!is_ordinary(global)) file.notes.push_back(join("names '", global, "', which riffle neither loads nor calls"));
  }
  make_presentable(file.notes);
  return file;
}

// --- zip archives ---

// The only entry "TOP/data.pkl", without its "data.pkl".
std::string top_folder(const ZipArchive& archive, const std::string& name) {
  constexpr std::string_view kPickle = "data.pkl";
  std::string top;
  for (const ZipArchive::Entry& entry : archive.entries()) {
    const size_t slash = entry.name.find('/');
    if (slash == std::string::npos || entry.name.substr(slash + 1) != kPickle) continue;
    if (!top.empty()) fail(name, " has two data.pkl; which of them counts is not known");
    top = entry.name.substr(0, slash + 1);
  }
  if (!top.empty()) return top;
  fail(name, " is a zip archive, but not one of PyTorch's: it has no data.pkl");
}

std::string read_text(const ZipArchive& archive, const std::string& entry) {
  const int64_t index = archive.find(entry);
  if (index < 0) return "";
  const std::vector<uint8_t> bytes = archive.read(static_cast<size_t>(index));
  return std::string(view_of(bytes));
}

void check_version(const ZipArchive& archive, const std::string& top, const std::string& name) {
  const std::string text = read_text(archive, top + "version");
  const bool valid = text.size() <= 3 && text.find_first_not_of("0123456789\n") == std::string::npos;
  const int version = valid && !text.empty() && text[0] != '\n' ? std::stoi(text) : 0;
  if (!text.empty() && (version < 1 || version > kNewestVersion))
    fail(name, ": version '", printable(text), "' of PyTorch's zip format is unknown; expected 1 to ", kNewestVersion);
}

TensorFile parse_zip(const std::vector<uint8_t>& bytes, const std::string& name, const std::string& entry) {
  const ZipArchive archive(bytes.data(), bytes.size(), name);
  const std::string top = top_folder(archive, name);
  check_version(archive, top, name);
  if (read_text(archive, top + "byteorder") == "big")
    fail(name, " was written on a big-endian machine; save it again on a little-endian one");
  const bool script = archive.find(top + "constants.pkl") >= 0;
  const std::string text = read_text(archive, top + "data.pkl");
  const Pickle pickle(text, name + "[data.pkl]");
  std::vector<uint8_t> current;
  std::string current_key;
  const StorageBytes storages = [&](const TorchStorage& storage) {
    if (current_key != storage.key || current.empty()) {
      const int64_t index = archive.find(top + "data/" + storage.key);
      if (index < 0) fail(name, ": there is no storage '", storage.key, "' in the archive");
      current = archive.read(static_cast<size_t>(index));
      current_key = storage.key;
    }
    const auto needed = static_cast<uint64_t>(storage.elements);
    if (needed > current.size() / size_of(storage.dtype))
      fail(name, ": storage '", storage.key, "' should have ", needed, " elements of ", storage.dtype,
           ", but has only ", current.size(), " bytes");
    return view_of(current).substr(0, needed * size_of(storage.dtype));
  };
  return interpret(pickle, script ? "TorchScript" : "PyTorch (zip)", storages, bytes.size(), name, entry);
}

// --- legacy files: magic, protocol, system, object, keys of storages: five pickles; then each storage ---

struct LegacyStorage {
  std::string type;
  size_t element_bytes;  // 0: unknown
  int64_t elements;
};

// Every storage that the object refers to, by key.
std::map<std::string, LegacyStorage> referenced_storages(const Pickle& object, const std::string& name) {
  std::map<std::string, LegacyStorage> storages;
  object.for_each([&](const PickleValue& value) {
    if (value.kind != PickleValue::Kind::kPersistent || is_module_class(value)) return;
    const std::optional<TorchStorage> storage = read_torch_storage(value, name);
    const PickleValue& id = *value.argument;
    const size_t element_bytes = storage ? size_of(storage->dtype) : size_of_foreign_element(value);
    storages[std::string(id.items[2]->text)] = {std::string(id.items[1]->name), element_bytes, id.items[4]->integer};
  });
  return storages;
}

// The data of the storages, in the order of their keys.
std::map<std::string, std::string_view> read_storages(std::string_view rest, const PickleValue& keys,
                                                      const Pickle& object, const std::string& name) {
  const std::map<std::string, LegacyStorage> wanted = referenced_storages(object, name);
  std::map<std::string, std::string_view> found;
  for (const PickleValue* key_value : keys.items) {
    const std::string key(key_value->text);
    const auto storage = wanted.find(key);
    if (storage == wanted.end()) fail(name, ": storage '", key, "' belongs to no tensor");
    const size_t item = storage->second.element_bytes;
    if (item == 0)
      fail(name, ": storage '", key, "' is a ", storage->second.type,
           ", whose size riffle does not know; save the file again with a newer PyTorch");
    int64_t elements = 0;
    if (rest.size() < sizeof elements) fail(name, " ends before storage '", key, "'; was it truncated?");
    std::memcpy(&elements, rest.data(), sizeof elements);
    rest.remove_prefix(sizeof elements);
    if (elements != storage->second.elements)
      fail(name, ": storage '", key, "' has ", elements, " elements, but its tensors expect ",
           storage->second.elements);
    if (elements < 0 || static_cast<uint64_t>(elements) > rest.size() / item)
      fail(name, ": storage '", key, "' claims ", elements, " elements, but only ", rest.size(),
           " bytes follow; was the file truncated?");
    const size_t size = static_cast<size_t>(elements) * item;
    found[key] = rest.substr(0, size);
    rest.remove_prefix(size);
  }
  return found;
}

TensorFile parse_legacy(const std::vector<uint8_t>& bytes, const std::string& name, const std::string& entry) {
  std::string_view rest = view_of(bytes);
  const auto next = [&](const char* what) {
    Pickle pickle(rest, join(name, " (", what, ")"));
    rest.remove_prefix(pickle.size());
    return pickle;
  };
  const Pickle magic = next("magic number"), protocol = next("protocol"), system = next("system");
  if (protocol.root().integer != kLegacyProtocol)
    fail(name, ": PyTorch's serialization protocol ", protocol.root().integer, " is unknown; expected ",
         kLegacyProtocol);
  const PickleValue* little_endian = system.root().find("little_endian");
  if (little_endian == nullptr || little_endian->integer != 1)
    fail(name, " was written on a big-endian machine; save it again on a little-endian one");
  const Pickle object = next("object"), keys = next("storages");
  const auto storages = read_storages(rest, keys.root(), object, name);
  const StorageBytes storage_bytes = [&](const TorchStorage& storage) {
    const auto found = storages.find(storage.key);
    if (found == storages.end()) fail(name, ": there is no storage '", storage.key, "' in the file");
    const size_t item = size_of(storage.dtype);
    if (static_cast<uint64_t>(storage.view_begin + storage.elements) > found->second.size() / item)
      fail(name, ": a view leaves storage '", storage.key, "'");
    return found->second.substr(static_cast<size_t>(storage.view_begin) * item,
                                static_cast<size_t>(storage.elements) * item);
  };
  return interpret(object, "PyTorch (legacy)", storage_bytes, bytes.size(), name, entry);
}

bool is_legacy(const std::vector<uint8_t>& bytes) {
  constexpr size_t kNumberAt = 4, kNumberBytes = sizeof kMagic - 1;  // after PROTO 2, LONG1 10
  return bytes.size() > kNumberAt + kNumberBytes && bytes[0] == 0x80 && bytes[2] == 0x8a &&
         std::memcmp(bytes.data() + kNumberAt, kMagic, kNumberBytes) == 0;
}

bool is_tar(const std::vector<uint8_t>& bytes) {
  constexpr size_t kMagicAt = 257;
  return bytes.size() > 512 && std::memcmp(bytes.data() + kMagicAt, "ustar", 5) == 0;
}

TensorFile parse_any(const std::vector<uint8_t>& bytes, const std::string& name, const std::string& entry) {
  if (bytes.size() > 4 && std::memcmp(bytes.data(), "PK", 2) == 0) return parse_zip(bytes, name, entry);
  if (is_legacy(bytes)) return parse_legacy(bytes, name, entry);
  if (is_tar(bytes))
    fail(name,
         " is a tar archive, as PyTorch wrote before version 0.1.10; load and save it with a PyTorch of before 2.0");
  if (bytes.size() > 1 && bytes[0] == 0x80)
    fail(name, " is a plain Python pickle, not a file of torch.save; expected a .pth file");
  fail(name, " is not a PyTorch file: it begins neither as a zip archive nor as a pickle");
}

}  // namespace

TensorFile parse_pth(const std::vector<uint8_t>& bytes, const std::string& name, const std::string& entry) {
  return parse_within_memory(name, [&] { return parse_any(bytes, name, entry); });
}

TensorFile read_pth(const std::string& path, const std::string& entry) {
  return parse_pth(file_contents(path), path, entry);
}

}  // namespace riffle
