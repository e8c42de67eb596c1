// Writing and strict reading of safetensors. A header is believed only after everything in it has been checked against
// the size of the file, so nothing is allocated that the file does not hold.
#include "train/checkpoint/safetensors.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <iomanip>
#include <optional>
#include <set>
#include <sstream>
#include <string_view>
#include <utility>

#include "train/checkpoint/crc32c.h"
#include "train/checkpoint/file_io.h"

namespace riffle {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr uint64_t kHeaderAlignment = 8;
constexpr const char* kMetadataKey = "__metadata__";
constexpr const char* kChecksumKey = "crc32c";
// The header takes 3 levels, but fields that we do not know may nest, as deep as in the reference implementation. Metadata
// values are ours; printing them recurses.
constexpr size_t kHeaderDepth = 127, kMetadataDepth = 64;

struct StoredType {
  const char* name;
  FileDType dtype;
};

constexpr StoredType kStoredTypes[] = {
    {"F64", FileDType::kF64},   {"F32", FileDType::kF32},        {"F16", FileDType::kF16},
    {"BF16", FileDType::kBF16}, {"F8_E4M3", FileDType::kF8E4M3}, {"F8_E5M2", FileDType::kF8E5M2},
    {"I64", FileDType::kI64},   {"I32", FileDType::kI32},        {"I16", FileDType::kI16},
    {"I8", FileDType::kI8},     {"U64", FileDType::kU64},        {"U32", FileDType::kU32},
    {"U16", FileDType::kU16},   {"U8", FileDType::kU8},          {"BOOL", FileDType::kBool}};

const StoredType& stored_type_of(FileDType dtype) {
  for (const StoredType& type : kStoredTypes) {
    if (type.dtype == dtype) return type;
  }
  fail("safetensors has no dtype for ", dtype);
}

struct Entry {
  std::string name;
  const StoredType* type = nullptr;
  std::vector<int64_t> shape;
  uint64_t begin = 0, end = 0;  // bytes from the end of the header
};

// The parser alone would keep the last of two equal keys, and accept any depth.
Json parse_json(const char* begin, const char* end, size_t max_depth) {
  std::vector<std::set<std::string>> keys;  // of each open object; an empty set for an open array
  return Json::parse(begin, end, [&](int, Json::parse_event_t event, Json& parsed) {
    switch (event) {
      case Json::parse_event_t::object_start:
      case Json::parse_event_t::array_start:
        if (keys.size() == max_depth) fail("nested more than ", max_depth, " deep");
        keys.emplace_back();
        break;
      case Json::parse_event_t::object_end:
      case Json::parse_event_t::array_end:
        keys.pop_back();
        break;
      case Json::parse_event_t::key:
        if (!keys.back().insert(parsed.get<std::string>()).second)
          fail("'", parsed.get<std::string>(), "' appears twice");
        break;
      case Json::parse_event_t::value:
        break;
    }
    return true;
  });
}

std::optional<Json> try_parse_json(const std::string& text) {
  try {
    return parse_json(text.data(), text.data() + text.size(), kMetadataDepth);
  } catch (const Json::exception&) {
    return std::nullopt;
  } catch (const Error&) {
    return std::nullopt;
  }
}

// --- writing ---------------------------------------------------------------------------------------------------------

std::string encode_metadata_value(const Json& value) {
  if (value.is_string() && !try_parse_json(value.get_ref<const std::string&>())) return value.get<std::string>();
  std::string text = value.dump();
  RIFFLE_CHECK(try_parse_json(text), "metadata nested more than ", kMetadataDepth, " deep could not be read back");
  return text;
}

Json encode_metadata(const Json& metadata, const std::string& path) {
  RIFFLE_CHECK(metadata.is_object(), path, ": metadata is ", metadata.type_name(), ", not an object");
  RIFFLE_CHECK(!metadata.contains(kChecksumKey), path, ": '", kChecksumKey, "' cannot be a metadata entry");
  Json encoded = Json::object();
  for (const auto& [key, value] : metadata.items()) {
    try {
      encoded[key] = encode_metadata_value(value);
      (void)Json{{key, encoded[key]}}.dump();
    } catch (const Json::exception&) {
      fail("cannot write ", path, ": metadata entry '", key, "' is not UTF-8 text");
    }
  }
  return encoded;
}

std::string_view bytes_of(const HostTensor& tensor) {
  return {reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size()};
}

// Of the entries as they are stored, but for the checksum itself, and then of the tensors in the order of their names.
std::string checksum(const Json& encoded_metadata, const TensorMap& tensors) {
  uint32_t crc = crc32c(encoded_metadata.dump());
  for (const auto& [name, tensor] : tensors) crc = crc32c(bytes_of(tensor), crc);
  std::ostringstream text;
  text << std::hex << std::setw(8) << std::setfill('0') << crc;
  return text.str();
}

// The length field and the header, padded so that the data starts aligned.
std::string encode_header(const CheckpointFile& file, const std::string& path) {
  Json header = Json::object();
  Json metadata = encode_metadata(file.metadata, path);
  metadata[kChecksumKey] = checksum(metadata, file.tensors);
  header[kMetadataKey] = std::move(metadata);
  uint64_t offset = 0;
  for (const auto& [name, tensor] : file.tensors) {
    const StoredType& type = stored_type_of(tensor.dtype);
    RIFFLE_CHECK(name != kMetadataKey, path, ": '", name, "' cannot be a tensor's name");
    RIFFLE_CHECK(tensor.bytes.size() == static_cast<uint64_t>(tensor.elements()) * size_of(type.dtype), path,
                 ": tensor '", name, "' has ", tensor.bytes.size(), " bytes for ", shape_text(tensor.shape), " ",
                 tensor.dtype);
    header[name] = {
        {"dtype", type.name}, {"shape", tensor.shape}, {"data_offsets", {offset, offset + tensor.bytes.size()}}};
    offset += tensor.bytes.size();
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const Json::exception& error) {
    fail("cannot write ", path, ": a name is not UTF-8 text: ", error.what());
  }
  text.append((kHeaderAlignment - text.size() % kHeaderAlignment) % kHeaderAlignment, ' ');
  const uint64_t length = text.size();
  if (length > kMaxHeaderBytes)
    fail("cannot write ", path, ": its header takes ", length, " bytes; the format allows ", kMaxHeaderBytes);
  text.insert(0, reinterpret_cast<const char*>(&length), kLengthBytes);
  return text;
}

// --- reading ---------------------------------------------------------------------------------------------------------

// Names the format that a file really has, where its first bytes tell.
const char* other_format(const uint8_t* head) {
  if (std::memcmp(head, "PK\3\4", 4) == 0) return "a zip archive (a PyTorch .pth, or an .npz?)";
  if (std::memcmp(head, "\x93NUMPY", 6) == 0) return "a numpy array (.npy)";
  if (std::memcmp(head, "\x89HDF", 4) == 0) return "an HDF5 file";
  if (head[0] == 0x80 && head[1] >= 2 && head[1] <= 5) return "a Python pickle (an old PyTorch .pth?)";
  return "";
}

// A file or memory, read from its beginning.
struct Input {
  std::string name;
  uint64_t size_bytes = 0;
  std::function<void(void* destination, size_t size)> read;
};

Json read_header(const Input& input, uint64_t& length) {
  const std::string& path = input.name;
  if (input.size_bytes < kLengthBytes + 2)
    fail(path, " is not a safetensors file: it has only ", input.size_bytes, " bytes; was it truncated?");
  uint8_t head[kLengthBytes];
  input.read(head, kLengthBytes);
  std::memcpy(&length, head, kLengthBytes);
  const uint64_t rest = input.size_bytes - kLengthBytes;
  if (const std::string format = other_format(head); !format.empty())
    fail(path, " is ", format, "; expected a safetensors file; riffle convert makes one of what others write");
  if (length > kMaxHeaderBytes || length < 2)
    fail(path, " is not a safetensors file: its first 8 bytes give a header of ", length, " bytes; expected 2 to ",
         kMaxHeaderBytes);
  if (length > rest)
    fail(path, " is truncated: its header takes ", length, " bytes, but only ", rest, " follow the length");

  std::string text(static_cast<size_t>(length), '\0');
  input.read(text.data(), text.size());
  if (text[0] != '{') fail(path, " is not a safetensors file: its header does not start with '{'");
  try {
    return parse_json(text.data(), text.data() + text.size(), kHeaderDepth);
  } catch (const Json::exception& error) {
    fail(path, ": invalid safetensors header: ", error.what());
  } catch (const Error& error) {
    fail(path, ": invalid safetensors header: ", error.what());
  }
}

Json decode_metadata(const Json& encoded, const std::string& path) {
  if (encoded.is_null()) return Json::object();  // so the reference implementation
  if (!encoded.is_object()) fail(path, ": ", kMetadataKey, " is ", encoded.type_name(), "; expected an object");
  Json metadata = Json::object();
  for (const auto& [key, value] : encoded.items()) {
    if (!value.is_string())
      fail(path, ": ", kMetadataKey, " entry '", key, "' is ", value.type_name(), "; expected a string");
    std::optional<Json> parsed = try_parse_json(value.get_ref<const std::string&>());
    if (parsed) {
      metadata[key] = std::move(*parsed);
    } else {
      metadata[key] = value;
    }
  }
  return metadata;
}

const StoredType& parse_dtype(const Json& json, const std::string& where) {
  if (json.is_string()) {
    for (const StoredType& type : kStoredTypes) {
      if (json.get_ref<const std::string&>() == type.name) return type;
    }
  }
  std::string accepted;
  for (const StoredType& type : kStoredTypes) accepted += (accepted.empty() ? "" : ", ") + std::string(type.name);
  fail(where, "dtype ", json.dump(), " is not supported; expected one of ", accepted);
}

// A list of whole numbers that are not negative.
std::vector<int64_t> parse_sizes(const Json& json, const char* field, const std::string& where) {
  std::vector<int64_t> sizes;
  bool valid = json.is_array();
  if (valid) {
    for (const Json& item : json) {
      valid = valid && item.is_number_unsigned() && item.get<uint64_t>() <= INT64_MAX;
      if (valid) sizes.push_back(item.get<int64_t>());
    }
  }
  if (!valid) fail(where, field, " is ", json.dump(), "; expected a list of whole numbers >= 0");
  return sizes;
}

Entry parse_entry(const std::string& name, const Json& json, uint64_t data_bytes, const std::string& path) {
  const std::string where = join(path, ": tensor '", name, "': ");
  if (!json.is_object()) fail(where, "its header entry is ", json.type_name(), "; expected an object");
  for (const char* field : {"dtype", "shape", "data_offsets"}) {
    if (!json.contains(field)) fail(where, "'", field, "' is missing");
  }

  Entry entry;
  entry.name = name;
  entry.type = &parse_dtype(json["dtype"], where);
  entry.shape = parse_sizes(json["shape"], "shape", where);
  const std::vector<int64_t> offsets = parse_sizes(json["data_offsets"], "data_offsets", where);
  if (offsets.size() != 2 || offsets[0] > offsets[1])
    fail(where, "data_offsets is ", json["data_offsets"].dump(), "; expected [begin, end]");
  entry.begin = static_cast<uint64_t>(offsets[0]);
  entry.end = static_cast<uint64_t>(offsets[1]);
  if (entry.end > data_bytes)
    fail(where, "its data ends at byte ", entry.end, ", but the file has only ", data_bytes,
         " bytes of data; was it truncated?");
  int64_t elements = 0;
  uint64_t size = 0;
  if (!count_elements(entry.shape, elements) ||
      __builtin_mul_overflow(static_cast<uint64_t>(elements), size_of(entry.type->dtype), &size))
    fail(where, "shape ", shape_text(entry.shape), " is too large");
  if (size != entry.end - entry.begin)
    fail(where, shape_text(entry.shape), " ", entry.type->name, " takes ", size, " bytes, but data_offsets span ",
         entry.end - entry.begin);
  return entry;
}

// All tensors in the order of their data, which they cover without overlap or hole.
std::vector<Entry> parse_entries(const Json& header, uint64_t data_bytes, const std::string& path) {
  std::vector<Entry> entries;
  for (const auto& [name, json] : header.items()) {
    if (name != kMetadataKey) entries.push_back(parse_entry(name, json, data_bytes, path));
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::make_pair(a.begin, a.end) < std::make_pair(b.begin, b.end);
  });
  uint64_t covered = 0;
  const std::string* previous = nullptr;
  for (const Entry& entry : entries) {
    if (entry.begin < covered) fail(path, ": the data of tensors '", *previous, "' and '", entry.name, "' overlap");
    if (entry.begin > covered)
      fail(path, ": bytes ", covered, " to ", entry.begin, ", before tensor '", entry.name, "', belong to no tensor");
    covered = entry.end;
    previous = &entry.name;
  }
  if (covered != data_bytes) fail(path, ": the last ", data_bytes - covered, " bytes belong to no tensor");
  return entries;
}

HostTensor read_tensor(const Input& input, const Entry& entry) {
  HostTensor tensor{entry.type->dtype, entry.shape, std::vector<uint8_t>(entry.end - entry.begin)};
  input.read(tensor.bytes.data(), tensor.bytes.size());
  return tensor;
}

void check_checksum(const std::string& stored, const Json& encoded_metadata, const TensorMap& tensors,
                    const std::string& path) {
  const std::string found = checksum(encoded_metadata, tensors);
  if (found == stored) return;
  fail(path, " is damaged: the checksum of its contents is ", found, ", but it was written with ", stored,
       " (a program that changes tensors must drop the metadata entry '", kChecksumKey, "')");
}

CheckpointFile read_input(const Input& input) {
  uint64_t header_bytes = 0;
  Json header = read_header(input, header_bytes);
  CheckpointFile file;
  std::string stored;
  if (header.contains(kMetadataKey)) {
    Json& encoded = header[kMetadataKey];
    if (encoded.is_object() && encoded.contains(kChecksumKey) && encoded[kChecksumKey].is_string()) {
      stored = encoded[kChecksumKey].get<std::string>();
      encoded.erase(kChecksumKey);
    }
    file.metadata = decode_metadata(encoded, input.name);
  }
  const uint64_t data_bytes = input.size_bytes - kLengthBytes - header_bytes;
  for (const Entry& entry : parse_entries(header, data_bytes, input.name))
    file.tensors.emplace(entry.name, read_tensor(input, entry));
  if (!stored.empty()) check_checksum(stored, header[kMetadataKey], file.tensors, input.name);
  return file;
}

}  // namespace

void write_safetensors(const std::string& path, const CheckpointFile& file) {
  const std::string header = encode_header(file, path);
  AtomicFile output(path);
  output.write(header.data(), header.size());
  for (const auto& [name, tensor] : file.tensors) output.write(tensor.bytes.data(), tensor.bytes.size());
  output.commit();
}

CheckpointFile read_safetensors(const std::string& path) {
  InputFile file(path);
  return read_input({path, file.size(), [&file](void* destination, size_t size) { file.read(destination, size); }});
}

CheckpointFile parse_safetensors(const std::vector<uint8_t>& bytes, const std::string& name) {
  size_t position = 0;  // never beyond the end: what is read has been checked against size_bytes
  return read_input({name, bytes.size(), [&](void* destination, size_t size) {
                       RIFFLE_CHECK(size <= bytes.size() - position, size, " bytes at ", position);
                       if (size > 0) std::memcpy(destination, bytes.data() + position, size);
                       position += size;
                     }});
}

}  // namespace riffle
