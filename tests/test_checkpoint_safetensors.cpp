// safetensors: what is written is read back bit for bit, the layout is the published one, and no damaged or hostile
// file gets past the reader. test_checkpoint_atomic.cpp covers failing writes.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "tests/checkpoint_files.h"
#include "train/checkpoint/safetensors.h"

namespace riffle {
namespace {

using Json = nlohmann::json;

CheckpointFile every_kind() {
  CheckpointFile file;
  file.tensors["f32"] = f32_tensor({2, 3}, {1, -2, 3.5f, 0, 1e-40f, 6});
  file.tensors["f64"] = host_tensor<double>(FileDType::kF64, {2}, {0.1, -1e300});
  file.tensors["f16"] = host_tensor<uint16_t>(FileDType::kF16, {3}, {0x3c00, 0x8001, 0x7bff});
  file.tensors["bf16"] = host_tensor<uint16_t>(FileDType::kBF16, {1, 1, 2}, {0x3f80, 0xc000});
  file.tensors["u8"] = host_tensor<uint8_t>(FileDType::kU8, {5}, {0, 1, 127, 128, 255});
  file.tensors["i32"] = host_tensor<int32_t>(FileDType::kI32, {2}, {-2147483647 - 1, 2147483647});
  file.tensors["scalar"] = f32_tensor({}, {42});
  file.tensors["empty"] = f32_tensor({3, 0, 2}, {});
  file.tensors["name with \"quotes\", \\ and \u00e9"] = f32_tensor({1}, {7});
  return file;
}

std::string with_length(const std::string& header) {
  const uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + header;
}

// The file of one header and `data_bytes` zeros.
std::string file_of(const std::string& header, size_t data_bytes) {
  return with_length(header) + std::string(data_bytes, '\0');
}

class Safetensors : public ::testing::Test {
 protected:
  std::string reading(const std::string& bytes) {
    write_bytes(path_, bytes);
    const std::string message = message_of([&] { read_safetensors(path_); });
    EXPECT_NE(message.find(path_), std::string::npos) << "the path is missing in: " << message;
    return message;
  }

  TemporaryFolder folder_;
  const std::string path_ = folder_.file("model.safetensors");
};

TEST_F(Safetensors, RoundTripsEveryDtypeAndShape) {
  const CheckpointFile written = every_kind();
  write_safetensors(path_, written);
  const CheckpointFile read = read_safetensors(path_);
  ASSERT_EQ(read.tensors.size(), written.tensors.size());
  for (const auto& [name, tensor] : written.tensors) expect_same(read.tensors.at(name), tensor, name);
  EXPECT_EQ(read.metadata, Json::object());
  EXPECT_EQ(folder_.listing(), std::vector<std::string>{"model.safetensors"});
}

TEST_F(Safetensors, RoundTripsMetadataExactly) {
  CheckpointFile file;
  file.metadata = {{"plain", "pt"},
                   {"looks_like_a_number", "1"},
                   {"looks_like_json", "{\"a\": 1}"},
                   {"empty", ""},
                   {"yaml", "train:\n  batch: 128\n"},
                   {"number", 0.1},
                   {"list", {1, "two", nullptr}},
                   {"object", {{"nested", {{"deep", true}}}}},
                   {"null", nullptr},
                   {"utf8", "\u00e9t\u00e9"},
                   {"true", "true"}};
  write_safetensors(path_, file);
  EXPECT_EQ(read_safetensors(path_).metadata, file.metadata);
}

TEST_F(Safetensors, FollowsThePublishedLayout) {
  CheckpointFile file;
  file.tensors["b"] = f32_tensor({1}, {2});
  file.tensors["a"] = f32_tensor({1, 1}, {1});
  file.metadata = {{"format", "pt"}, {"epochs", 3}};
  write_safetensors(path_, file);
  const std::string bytes = file_bytes(path_);
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof length);
  EXPECT_EQ(length % 8, 0u);
  ASSERT_EQ(bytes.size(), 8 + length + 8);
  const Json header = Json::parse(bytes.substr(8, length));
  Json metadata = header["__metadata__"];
  EXPECT_EQ(metadata["crc32c"].get<std::string>().size(), 8u);
  metadata.erase("crc32c");
  EXPECT_EQ(metadata, (Json{{"format", "pt"}, {"epochs", "3"}}));
  EXPECT_EQ(header["a"], (Json{{"dtype", "F32"}, {"shape", {1, 1}}, {"data_offsets", {0, 4}}}));
  EXPECT_EQ(header["b"], (Json{{"dtype", "F32"}, {"shape", {1}}, {"data_offsets", {4, 8}}}));
  EXPECT_EQ(bytes.substr(8 + length), std::string("\0\0\x80\x3f\0\0\0\x40", 8));
}

TEST_F(Safetensors, SameContentsGiveTheSameBytes) {
  write_safetensors(path_, every_kind());
  write_safetensors(folder_.file("again"), every_kind());
  EXPECT_EQ(file_bytes(path_), file_bytes(folder_.file("again")));
}

TEST_F(Safetensors, ReadsAFileWithoutTensors) {
  write_bytes(path_, with_length("{}      "));
  const CheckpointFile file = read_safetensors(path_);
  EXPECT_TRUE(file.tensors.empty());
  EXPECT_TRUE(file.metadata.is_object());
}

TEST_F(Safetensors, ReadsWhatElseIsValid) {
  const std::string a = R"("a":{"dtype":"U8","shape":[2],"data_offsets":[0,2],"ours":[[1]]})",
                    b = R"("b":{"dtype":"F32","shape":[0,3],"data_offsets":[2,2]})",
                    c = R"("c":{"dtype":"U8","shape":[],"data_offsets":[2,3]})",
                    d = R"("d":{"dtype":"F64","shape":[0],"data_offsets":[3,3]})";
  const std::string file = file_of("{" + d + "," + c + ", " + a + "," + b + R"(,"__metadata__":null}  )", 3);
  const CheckpointFile read = parse_safetensors({file.begin(), file.end()}, "memory");
  EXPECT_EQ(read.metadata, Json::object());
  expect_same(read.tensors.at("a"), host_tensor<uint8_t>(FileDType::kU8, {2}, {0, 0}), "a");
  expect_same(read.tensors.at("b"), f32_tensor({0, 3}, {}), "b");
  expect_same(read.tensors.at("c"), host_tensor<uint8_t>(FileDType::kU8, {}, {0}), "c");
  expect_same(read.tensors.at("d"), host_tensor<double>(FileDType::kF64, {0}, {}), "d");
}

TEST_F(Safetensors, NamesTheTypesThatItLacks) {
  for (const char* dtype : {"C64", "F4", "F6_E2M3", "F8_E8M0", "F8_E4M3FNUZ"}) {
    const std::string entry = std::string(R"({"a":{"dtype":")") + dtype + R"(","shape":[8],"data_offsets":[0,8]}})";
    expect_message(reading(file_of(entry, 8)), {"'a'", dtype, "expected one of F64"});
  }
}

TEST_F(Safetensors, KeepsEveryTypeOfTheFormat) {
  CheckpointFile file;
  file.tensors["i64"] = host_tensor<int64_t>(FileDType::kI64, {2}, {-7, int64_t{1} << 40});
  file.tensors["i16"] = host_tensor<int16_t>(FileDType::kI16, {}, {-300});
  file.tensors["i8"] = host_tensor<int8_t>(FileDType::kI8, {1}, {-128});
  file.tensors["u64"] = host_tensor<uint64_t>(FileDType::kU64, {1}, {~uint64_t{0}});
  file.tensors["u32"] = host_tensor<uint32_t>(FileDType::kU32, {1}, {~uint32_t{0}});
  file.tensors["u16"] = host_tensor<uint16_t>(FileDType::kU16, {1}, {65535});
  file.tensors["bool"] = host_tensor<uint8_t>(FileDType::kBool, {2}, {0, 1});
  file.tensors["e4m3"] = host_tensor<uint8_t>(FileDType::kF8E4M3, {1}, {0x38});
  file.tensors["e5m2"] = host_tensor<uint8_t>(FileDType::kF8E5M2, {1}, {0x3c});
  write_safetensors(path_, file);
  const TensorMap read = read_safetensors(path_).tensors;
  ASSERT_EQ(read.size(), file.tensors.size());
  for (const auto& [name, tensor] : read) expect_same(tensor, file.tensors.at(name), name);
}

TEST_F(Safetensors, RefusesEveryTruncation) {
  write_safetensors(path_, every_kind());
  const std::string whole = file_bytes(path_);
  for (size_t size = 0; size < whole.size(); ++size) {
    SCOPED_TRACE(size);
    reading(whole.substr(0, size));
  }
  expect_message(reading(whole + '\0'), {"last 1 bytes belong to no tensor"});
}

TEST_F(Safetensors, SurvivesEveryFlippedBitOfTheHeader) {
  CheckpointFile file;
  file.tensors["conv.weight"] = f32_tensor({2, 2}, {1, 2, 3, 4});
  file.tensors["conv.bias"] = f32_tensor({2}, {5, 6});
  write_safetensors(path_, file);
  const std::string whole = file_bytes(path_);
  int refused = 0;
  for (size_t bit = 0; bit < 8 * (whole.size() - 24); ++bit) {
    std::string damaged = whole;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << (bit % 8)));
    write_bytes(path_, damaged);
    try {
      read_safetensors(path_);  // a flipped letter of a name, say, is still a valid file
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 64);  // every bit of the length at least
}

// Nothing but the checksum tells that a number is another one.
TEST_F(Safetensors, NoByteOfTensorsAndMetadataCanChange) {
  CheckpointFile file = every_kind();
  file.metadata["classes"] = {"cat", "dog"};
  write_safetensors(path_, file);
  const std::string whole = file_bytes(path_);
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, whole.data(), sizeof header_bytes);
  for (size_t at = sizeof header_bytes + header_bytes; at < whole.size(); ++at) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 1);
    expect_message(reading(damaged), {"is damaged: the checksum"});
  }
  std::string renamed = whole;
  renamed.replace(renamed.find("cat"), 3, "cow");
  expect_message(reading(renamed), {"is damaged: the checksum"});
}

struct BadHeader {
  const char* name;
  std::string header;
  size_t data_bytes;
  std::vector<std::string> message;
};

class SafetensorsHeader : public Safetensors, public ::testing::WithParamInterface<BadHeader> {};

TEST_P(SafetensorsHeader, IsRefused) {
  expect_message(reading(file_of(GetParam().header, GetParam().data_bytes)), GetParam().message);
}

std::vector<BadHeader> bad_headers() {
  const std::string a4 = R"("a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  return {
      {"NotJson", "{\"a\":", 0, {"invalid safetensors header"}},
      {"NotAnObject", "[1]", 0, {"does not start with '{'"}},
      {"LeadingSpace", " {}", 0, {"does not start with '{'"}},
      {"TrailingText", "{}x", 0, {"invalid safetensors header"}},
      {"BadUtf8", "{\"\xff\":1}", 0, {"invalid safetensors header"}},
      {"DuplicateTensor", "{" + a4 + "," + a4 + "}", 4, {"'a' appears twice"}},
      {"DuplicateField",
       R"({"a":{"dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]}})",
       4,
       {"'shape' appears twice"}},
      {"DeepNesting", "{\"a\":" + std::string(100000, '[') + std::string(100000, ']') + "}", 0, {"nested more than"}},
      {"EntryNotAnObject", R"({"a":3})", 0, {"'a'", "expected an object"}},
      {"NoDtype", R"({"a":{"shape":[1],"data_offsets":[0,4]}})", 4, {"'a'", "'dtype' is missing"}},
      {"NoShape", R"({"a":{"dtype":"F32","data_offsets":[0,4]}})", 4, {"'a'", "'shape' is missing"}},
      {"NoOffsets", R"({"a":{"dtype":"F32","shape":[1]}})", 4, {"'a'", "'data_offsets' is missing"}},
      {"UnknownDtype",
       R"({"a":{"dtype":"F4","shape":[4],"data_offsets":[0,4]}})",
       4,
       {"'a'", "F4", "expected one of F64, F32, F16, BF16"}},
      {"DtypeNotText", R"({"a":{"dtype":32,"shape":[1],"data_offsets":[0,4]}})", 4, {"'a'", "dtype 32"}},
      {"NegativeExtent", R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4, {"'a'", "[-1]"}},
      {"FractionalExtent", R"({"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}})", 4, {"'a'", "[1.0]"}},
      {"HugeExtent",
       R"({"a":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,4]}})",
       4,
       {"'a'", "shape"}},
      {"OverflowingShape",
       R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}})",
       4,
       {"'a'", "4294967296x4294967296", "too large"}},
      {"OverflowingBytes",
       R"({"a":{"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0]}})",
       0,
       {"'a'", "too large"}},
      {"OffsetsReversed", R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4, {"'a'", "[begin, end]"}},
      {"OneOffset", R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}})", 4, {"'a'", "[begin, end]"}},
      {"BeyondTheFile",
       R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
       4,
       {"'a'", "ends at byte 8", "only 4", "truncated"}},
      {"SizeMismatch",
       R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})",
       8,
       {"'a'", "takes 12 bytes", "span 8"}},
      {"Overlap", "{" + a4 + R"(,"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})", 6, {"'a'", "'b'", "overlap"}},
      {"SharedData",
       "{" + a4 + R"(,"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
       4,
       {"'a'", "'b'", "overlap"}},
      {"Hole", "{" + a4 + R"(,"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})", 12, {"bytes 4 to 8", "'b'"}},
      {"HoleAtTheBeginning", R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8, {"bytes 0 to 4", "'a'"}},
      {"HoleAtTheEnd", "{" + a4 + "}", 7, {"last 3 bytes"}},
      {"MetadataNotAnObject", R"({"__metadata__":"x"})", 0, {"__metadata__", "expected an object"}},
      {"MetadataNotText", R"({"__metadata__":{"epoch":3}})", 0, {"__metadata__", "'epoch'", "expected a string"}},
  };
}

INSTANTIATE_TEST_SUITE_P(Bad, SafetensorsHeader, ::testing::ValuesIn(bad_headers()),
                         [](const auto& test) { return std::string(test.param.name); });

TEST_F(Safetensors, BoundsTheHeaderLength) {
  for (const uint64_t length : {uint64_t{0}, uint64_t{1}, uint64_t{100'000'001}, UINT64_MAX}) {
    std::string bytes(64, ' ');
    std::memcpy(bytes.data(), &length, sizeof length);
    expect_message(reading(bytes), {"not a safetensors file", std::to_string(length)});
  }
  std::string bytes(64, ' ');
  const uint64_t length = 57;
  std::memcpy(bytes.data(), &length, sizeof length);
  expect_message(reading(bytes), {"truncated", "57", "56"});
}

TEST_F(Safetensors, NamesTheFormatOfAnotherFile) {
  expect_message(reading(std::string("PK\3\4") + std::string(60, '\1')), {"zip archive"});
  expect_message(reading(std::string("\x80\x02\x8a\x0al\xfc\x9c\x46\xf9") + std::string(60, '\1')), {"pickle"});
  expect_message(reading("\x93NUMPY\1" + std::string(60, '\1')), {"numpy"});
}

TEST_F(Safetensors, DoesNotRecurseIntoHostileMetadata) {
  const std::string deep(200000, '[');
  write_bytes(path_, with_length(Json{{"__metadata__", {{"deep", deep}}}}.dump()));
  EXPECT_EQ(read_safetensors(path_).metadata["deep"], deep);  // not JSON to us: kept as text
}

TEST_F(Safetensors, ReportsUnreadablePaths) {
  expect_message(message_of([&] { read_safetensors(folder_.file("absent")); }),
                 {folder_.file("absent"), "No such file or directory"});
  expect_message(message_of([&] { read_safetensors(folder_.path()); }), {folder_.path(), "is a folder"});
  expect_message(message_of([] { read_safetensors("/dev/zero"); }), {"/dev/zero", "not a regular file"});
}

TEST_F(Safetensors, RefusesToWriteWhatCannotBeRead) {
  CheckpointFile file;
  file.tensors["a\xff"] = f32_tensor({1}, {1});
  expect_message(message_of([&] { write_safetensors(path_, file); }), {path_, "UTF-8"});
  file.tensors.clear();
  file.metadata = {{"classes", {"caf\xe9"}}};
  expect_message(message_of([&] { write_safetensors(path_, file); }), {path_, "'classes'", "UTF-8"});
  file.metadata = Json::object();
  file.tensors["__metadata__"] = f32_tensor({1}, {1});
  expect_message(message_of([&] { write_safetensors(path_, file); }), {"__metadata__"});
  file.tensors.clear();
  file.tensors["short"] = HostTensor{FileDType::kF32, {3}, {0, 0, 0, 0}};
  expect_message(message_of([&] { write_safetensors(path_, file); }), {"'short'", "4 bytes", "3 f32"});
  EXPECT_TRUE(folder_.listing().empty());
}

// The two halves of check_safetensors_python.sh, which runs Python's package in between.
const char* exchange_folder() {
  return std::getenv("RIFFLE_SAFETENSORS_EXCHANGE");
}

TEST(SafetensorsPython, WritesForPython) {
  if (exchange_folder() == nullptr) GTEST_SKIP() << "run by check_safetensors_python.sh";
  CheckpointFile file = every_kind();
  file.tensors.erase("bf16");  // numpy has none
  file.metadata = {{"format", "pt"}, {"classes", {"cat", "dog"}}};
  write_safetensors(std::string(exchange_folder()) + "/from_riffle.safetensors", file);
}

TEST(SafetensorsPython, ReadsWhatPythonWrote) {
  if (exchange_folder() == nullptr) GTEST_SKIP() << "run by check_safetensors_python.sh";
  const CheckpointFile read = read_safetensors(std::string(exchange_folder()) + "/from_python.safetensors");
  CheckpointFile expected = every_kind();
  expected.tensors.erase("bf16");
  expected.tensors["i64"] = host_tensor<int64_t>(FileDType::kI64, {2}, {-3, 4});
  ASSERT_EQ(read.tensors.size(), expected.tensors.size());
  for (const auto& [name, tensor] : expected.tensors) expect_same(read.tensors.at(name), tensor, name);
  EXPECT_EQ(read.metadata, (Json{{"format", "pt"}, {"classes", {"cat", "dog"}}}));
}

// A line of verdicts.txt: "FILE accepted|refused", as Python's package judged.
TEST(SafetensorsPython, JudgesAsPythonDoes) {
  if (exchange_folder() == nullptr) GTEST_SKIP() << "run by check_safetensors_python.sh";
  const std::string folder = exchange_folder();
  std::ifstream verdicts(folder + "/verdicts.txt");
  int files = 0;
  for (std::string file, verdict; verdicts >> file >> verdict; ++files) {
    const std::string path = join(folder, "/", file);
    std::string ours = "accepted", reason;
    try {
      read_safetensors(path);
    } catch (const Error& error) {
      ours = "refused";
      reason = error.what();
    }
    EXPECT_EQ(ours, verdict) << file_bytes(path).substr(8) << "\n" << reason;
  }
  EXPECT_GT(files, 1000);
}

}  // namespace
}  // namespace riffle
