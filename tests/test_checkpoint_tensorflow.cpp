// TensorFlow's checkpoints: what TensorFlow itself wrote (tests/fixtures/tensorflow) is read exactly, and no damaged
// file gets past the reader.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "tests/checkpoint_files.h"
#include "train/checkpoint/crc32c.h"
#include "train/checkpoint/leveldb_table.h"
#include "train/checkpoint/protobuf_fields.h"
#include "train/checkpoint/tensorflow.h"
#include "train/checkpoint/tensorflow_index.h"

namespace riffle {
namespace {

const std::string kFixtures = RIFFLE_SOURCE_DIR "/tests/fixtures/tensorflow";

// Element i of every fixture is i / 2 - 1 (unsigned: i); see make_tensorflow_fixtures.py.
template <class T>
std::vector<T> ramp(size_t count) {
  std::vector<T> values;
  for (size_t i = 0; i < count; ++i)
    values.push_back(static_cast<T>(std::is_unsigned_v<T> ? static_cast<double>(i) : static_cast<double>(i) / 2 - 1));
  return values;
}

template <class T>
void expect_ramp(const TensorFile& file, const std::string& name, FileDType dtype, const std::vector<int64_t>& shape) {
  ASSERT_EQ(file.tensors.count(name), 1u) << name;
  int64_t elements = 0;
  ASSERT_TRUE(count_elements(shape, elements));
  expect_same(file.tensors.at(name), host_tensor<T>(dtype, shape, ramp<T>(static_cast<size_t>(elements))), name);
}

bool any_contains(const std::vector<std::string>& notes, const std::string& part) {
  return std::any_of(notes.begin(), notes.end(),
                     [&](const std::string& note) { return note.find(part) != std::string::npos; });
}

TEST(TensorFlow, ReadsWhatASaverWrote) {
  const TensorFile file = read_tensorflow(kFixtures + "/saver/model.ckpt-7");
  EXPECT_EQ(file.format, "TensorFlow checkpoint V2");
  for (const std::string layer : {"conv1", "stage2/block0/conv1"}) {
    expect_ramp<float>(file, layer + "/W", FileDType::kF32, {3, 3, 2, 4});
    expect_ramp<float>(file, layer + "/W/Momentum", FileDType::kF32, {3, 3, 2, 4});
    for (const char* statistic : {"gamma", "beta", "mean/EMA", "variance/EMA"})
      expect_ramp<float>(file, layer + "/bn/" + statistic, FileDType::kF32, {4});
  }
  expect_same(file.tensors.at("global_step"), host_tensor<int64_t>(FileDType::kI64, {}, {1234567890123}), "step");
  expect_same(file.tensors.at("empty"), f32_tensor({0, 3}, {}), "empty");
  EXPECT_EQ(file.tensors.size(), 26u);
}

TEST(TensorFlow, ReadsEveryTypeAndSaysWhatItLeavesOut) {
  const TensorFile file = read_tensorflow(kFixtures + "/saver/model.ckpt-7");
  expect_ramp<double>(file, "types/float64", FileDType::kF64, {2, 3});
  expect_ramp<int8_t>(file, "types/int8", FileDType::kI8, {2, 3});
  expect_ramp<int16_t>(file, "types/int16", FileDType::kI16, {2, 3});
  expect_ramp<int32_t>(file, "types/int32", FileDType::kI32, {2, 3});
  expect_ramp<int64_t>(file, "types/int64", FileDType::kI64, {2, 3});
  expect_ramp<uint8_t>(file, "types/uint8", FileDType::kU8, {2, 3});
  expect_ramp<uint16_t>(file, "types/uint16", FileDType::kU16, {2, 3});
  expect_same(file.tensors.at("types/bool"), host_tensor<uint8_t>(FileDType::kBool, {2, 3}, {0, 1, 0, 1, 0, 1}),
              "bool");
  for (const char* name : {"types/float16", "types/bfloat16"})
    EXPECT_EQ(to_f32(file.tensors.at(name), name), ramp<float>(6)) << name;
  EXPECT_TRUE(any_contains(file.notes, "'text': skipped, it is text"));
  EXPECT_TRUE(any_contains(file.notes, "'types/complex64': skipped, it is complex64"));
  EXPECT_EQ(file.notes.size(), 2u);
}

TEST(TensorFlow, PutsPartitionedVariablesTogether) {
  expect_ramp<float>(read_tensorflow(kFixtures + "/saver/model.ckpt-7"), "partitioned/W", FileDType::kF32, {300, 3});
}

TEST(TensorFlow, ReadsSeveralDataFiles) {
  ASSERT_TRUE(std::filesystem::exists(kFixtures + "/sharded/model.ckpt-7.data-00001-of-00002"));
  const TensorFile file = read_tensorflow(kFixtures + "/sharded/model.ckpt-7");
  expect_ramp<float>(file, "first/W", FileDType::kF32, {2, 2});
  expect_ramp<float>(file, "second/W", FileDType::kF32, {3, 1});
}

TEST(TensorFlow, NamesVariablesOfObjectBasedCheckpoints) {
  const TensorFile file = read_tensorflow(kFixtures + "/object/ckpt-1");
  expect_ramp<float>(file, "stem/kernel", FileDType::kF32, {3, 3, 3, 4});
  expect_ramp<float>(file, "stem_bn/moving_variance", FileDType::kF32, {4});
  expect_ramp<float>(file, "head/kernel", FileDType::kF32, {4, 2});
  expect_ramp<float>(file, "head/bias", FileDType::kF32, {2});
  EXPECT_TRUE(any_contains(file.notes, "object-based checkpoint: 8 of 8 tensors"))
      << ::testing::PrintToString(file.notes);
}

TEST(TensorFlow, FindsTheFilesByAnyOfTheirNames) {
  const std::string folder = kFixtures + "/saver", prefix = folder + "/model.ckpt-7";
  const size_t count = read_tensorflow(prefix).tensors.size();
  for (const std::string& path : {folder, prefix + ".index", prefix + ".data-00000-of-00001"})
    EXPECT_EQ(read_tensorflow(path).tensors.size(), count) << path;
  expect_message(message_of([&] { read_tensorflow(kFixtures + "/object"); }), {"no file 'checkpoint'", "/object"});
  expect_message(message_of([&] { read_tensorflow(prefix + "0"); }), {"there is no", "model.ckpt-70.index"});
}

TEST(TensorFlow, FollowsAMovedFolder) {
  TemporaryFolder folder;
  for (const char* name : {"/model.ckpt-7.index", "/model.ckpt-7.data-00000-of-00001"})
    std::filesystem::copy_file(kFixtures + "/saver" + name, folder.path() + name);
  write_bytes(folder.file("checkpoint"),
              "model_checkpoint_path: \"/gone/model.ckpt-7\"\nall_model_checkpoint_paths: \"x\"\n");
  EXPECT_EQ(read_tensorflow(folder.path()).tensors.count("conv1/W"), 1u);
  write_bytes(folder.file("checkpoint"), "all_model_checkpoint_paths: \"x\"\n");
  expect_message(message_of([&] { read_tensorflow(folder.path()); }), {"expected a line model_checkpoint_path"});
}

// --- damaged files ---------------------------------------------------------------------------------------------------

struct Bundle {
  std::string index, data;
  TensorFile parse() const {
    return parse_tensorflow(index, "damaged", [this](uint64_t, uint64_t) {
      return TensorFlowShard{"data", data.size(), [this](uint64_t offset, void* destination, size_t size) {
                               std::memcpy(destination, data.data() + offset, size);
                             }};
    });
  }
};

Bundle saver_bundle() {
  const std::string prefix = kFixtures + "/saver/model.ckpt-7";
  return {file_bytes(prefix + ".index"), file_bytes(prefix + ".data-00000-of-00001")};
}

TEST(TensorFlowDamage, EveryFlippedByteOfTheIndexIsFound) {
  const Bundle whole = saver_bundle();
  const TensorMap expected = whole.parse().tensors;
  size_t refused = 0;
  for (size_t at = 0; at < whole.index.size(); ++at) {
    Bundle damaged = whole;
    damaged.index[at] = static_cast<char>(damaged.index[at] ^ 0x10);
    try {
      const TensorMap read = damaged.parse().tensors;  // padding and the unused meta index have no checksum of ours
      ASSERT_EQ(read.size(), expected.size()) << at;
      for (const auto& [name, tensor] : expected) expect_same(read.at(name), tensor, name);
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, whole.index.size() * 9 / 10);
}

TEST(TensorFlowDamage, EveryTruncationIsFound) {
  const Bundle whole = saver_bundle();
  for (size_t size = 0; size < whole.index.size(); ++size)
    EXPECT_THROW((Bundle{whole.index.substr(0, size), whole.data}.parse()), Error) << size;
  expect_message(message_of([&] {
                   Bundle{whole.index, whole.data.substr(0, 40)}.parse();
                 }),
                 {"'conv1/W", "40 bytes of data", "truncated"});
}

TEST(TensorFlowDamage, DamagedNumbersAreFound) {
  Bundle damaged = saver_bundle();
  damaged.data[20] = static_cast<char>(damaged.data[20] ^ 1);
  expect_message(message_of([&] { damaged.parse(); }), {"damaged: tensor 'conv1/W", "checksum"});
}

TEST(TensorFlowDamage, NamesOtherFiles) {
  expect_message(message_of([] { Bundle{std::string(100, 'x'), ""}.parse(); }), {"not a LevelDB table"});
}

// --- indexes that TensorFlow did not write ---------------------------------------------------------------------------

std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
  return bytes + static_cast<char>(value);
}

template <class T>
std::string little_endian(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

std::string with_trailer(std::string block, char type = 0) {
  block += type;
  return block + little_endian(masked_crc32c(crc32c(block)));
}

std::string entry(const std::string& key, const std::string& value, uint64_t shared = 0) {
  return varint(shared) + varint(key.size()) + varint(value.size()) + key + value;
}

const std::string kRestarts = little_endian<uint32_t>(0) + little_endian<uint32_t>(1);

// A table of one data block that holds `entries`, serialised.
std::string table(const std::string& entries, char type = 0) {
  const std::string block = entries + kRestarts, data = with_trailer(block, type);
  const std::string index_block = entry("z", varint(0) + varint(block.size())) + kRestarts;
  std::string footer = varint(0) + varint(0) + varint(data.size()) + varint(index_block.size());
  footer.resize(40, '\0');
  return data + with_trailer(index_block) + footer + little_endian<uint64_t>(0xdb4775248b80fb57);
}

const std::string kHeader = entry("", "\x08\x01");  // num_shards: 1

// dtype f32, shape {2}, 8 bytes
std::string f32_entry(const std::string& extra = "") {
  return std::string("\x08\x01\x12\x04\x12\x02\x08\x02\x28\x08", 10) + extra;
}

std::string refusal(const std::string& index) {
  return message_of([&] { Bundle{index, std::string(8, '\0')}.parse(); });
}

TEST(TensorFlowIndex, RefusesWhatItCannotRead) {
  const std::string crc = "\x35" + little_endian(masked_crc32c(crc32c(std::string(8, '\0'))));
  const TensorFile file = Bundle{table(kHeader + entry("a", f32_entry(crc))), std::string(8, '\0')}.parse();
  expect_same(file.tensors.at("a"), f32_tensor({2}, {0, 0}), "a");

  expect_message(refusal(table(entry("a", f32_entry()))), {"no header"});
  expect_message(refusal(table(entry("", "\x08\x01\x10\x01"))), {"big-endian"});
  expect_message(refusal(table(entry("", "\x08\x01\x1a\x02\x10\x02"))), {"version 2"});
  expect_message(refusal(table(kHeader, 1)), {"Snappy"});
  expect_message(refusal(table(kHeader, 7)), {"unknown compression type 7"});
  expect_message(refusal(table(kHeader + entry("b", f32_entry()) + entry("a", f32_entry()))), {"do not ascend"});
  expect_message(refusal(table(kHeader + entry("a", f32_entry()) + entry("a", f32_entry()))), {"do not ascend"});
  expect_message(refusal(table(kHeader + entry("a", f32_entry("\x18\x01")))), {"'a'", "data file 1"});
  expect_message(refusal(table(kHeader + entry("a", f32_entry("\x20\x01")))), {"'a'", "at byte 1", "beyond"});
  expect_message(refusal(table(kHeader + entry("a", f32_entry("\x28\x04")))), {"'a'", "takes 8 bytes", "says 4"});
  expect_message(refusal(table(kHeader + entry("a", f32_entry("\x12\x02\x18\x01")))), {"'a'", "shape is not known"});
  expect_message(refusal(table(kHeader + entry("a", f32_entry(crc)) + entry("b", f32_entry(crc)))),
                 {"'b'", "claim more bytes"});
  expect_message(refusal(table(kHeader + entry("a", "\x0b"))), {"'a'", "wire type 3"});
  expect_message(refusal(table(kHeader + entry("a", "\x12\x05"))), {"'a'", "field 2"});
  expect_message(refusal(table(kHeader + entry("a", f32_entry(), 9))), {"invalid entry"});
}

TEST(TensorFlowIndex, DoesNotExpandHostileKeys) {
  std::string entries = kHeader + entry(std::string(1 << 20, 'a'), "");
  for (int i = 0; i < 4000; ++i) entries += entry(std::string(1, 'b'), "", (1u << 20) + static_cast<unsigned>(i));
  expect_message(refusal(table(entries)), {"its keys expand to more than"});
}

// Whole mutated files (test_fuzz_regressions.cpp) mostly fail their checksums; these have valid ones.
TEST(TensorFlowIndex, OnlyThrowsErrorsForDamagedEntries) {
  const Bundle whole = saver_bundle();
  const auto entries = parse_leveldb_table(whole.index, "saver");
  std::mt19937 random(1);
  int accepted = 0, refused = 0;
  for (int i = 0; i < 5000; ++i) {
    const size_t damaged = random() % entries.size();
    std::string serialised;
    for (size_t k = 0; k < entries.size(); ++k) {
      std::string value(entries[k].second);
      for (size_t count = k == damaged && !value.empty() ? 1 + random() % 3 : 0; count > 0; --count)
        value[random() % value.size()] = static_cast<char>(random() % 2 == 0 ? random() : random() % 32);
      serialised += entry(entries[k].first, value);
    }
    try {
      Bundle{table(serialised), whole.data}.parse();
      ++accepted;  // an unknown field, say
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(accepted, 0);
  EXPECT_GT(refused, 4000);
}

TEST(TensorFlowIndex, EncodesSliceKeysAsTensorFlowDoes) {
  // Slice (start, length) of axis 0; all of axis 1. Values up to 63 take one byte, then 13 bits in two, ...
  const std::string key = slice_key("a", TensorFlowSlice{{64, 0}, {300, TensorFlowSlice::kAll}});
  EXPECT_EQ(key, std::string("\0a\0\1\1\2\xc0\x40\xc1\x2c\x80\x7f", 12));
  EXPECT_TRUE(is_slice_key(key));
  EXPECT_FALSE(is_slice_key("a"));
}

// --- the parts -------------------------------------------------------------------------------------------------------

TEST(Crc32c, KnownValues) {  // RFC 3720, appendix B.4
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43u);
  EXPECT_EQ(crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(crc32c("6789", crc32c("12345")), 0xe3069283u);
}

TEST(Protobuf, BoundsNumbers) {
  uint64_t value = 0;
  std::string_view most = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
  ASSERT_TRUE(take_varint(most, value));
  EXPECT_EQ(value, UINT64_MAX);
  std::string_view beyond = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", unfinished = "\xff";
  EXPECT_FALSE(take_varint(beyond, value));
  EXPECT_FALSE(take_varint(unfinished, value));
  EXPECT_EQ(unfinished.size(), 1u);
}

}  // namespace
}  // namespace riffle
