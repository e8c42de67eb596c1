// PyTorch's files: what torch.save wrote (tests/fixtures/pth, scripts/goldens/make_pth_fixtures.py) is read exactly, what
// is written is read back, and no damaged or hostile file gets past the reader.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/checkpoint_files.h"
#include "train/checkpoint/numpy.h"
#include "train/checkpoint/pth.h"
#include "train/checkpoint/zip_writer.h"

namespace riffle {
namespace {

const std::string kFixtures = RIFFLE_SOURCE_DIR "/tests/fixtures/pth/";

std::vector<uint8_t> bytes_of(const std::string& path) {
  const std::string text = file_bytes(path);
  return {text.begin(), text.end()};
}

TensorMap every_kind() {
  const std::vector<float> base{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23};
  std::vector<float> transposed;
  for (size_t column = 0; column < 6; ++column)
    for (size_t row = 0; row < 4; ++row) transposed.push_back(base[row * 6 + column]);
  return {{"plain", f32_tensor({4, 6}, base)},
          {"transposed", f32_tensor({6, 4}, transposed)},
          {"part", f32_tensor({2, 3}, {8, 9, 10, 14, 15, 16})},
          {"column", f32_tensor({4}, {3, 9, 15, 21})},
          {"shared", f32_tensor({4, 6}, base)},
          {"expanded", f32_tensor({3, 2}, {7, 7, 7, 7, 7, 7})},
          {"scalar", f32_tensor({}, {2.5f})},
          {"empty", f32_tensor({3, 0, 2}, {})},
          {"f64", host_tensor<double>(FileDType::kF64, {2}, {0.1, -1e300})},
          {"f16", host_tensor<uint16_t>(FileDType::kF16, {2}, {0x3c00, 0xc000})},
          {"bf16", host_tensor<uint16_t>(FileDType::kBF16, {2}, {0x3f80, 0xc000})},
          {"i64", host_tensor<int64_t>(FileDType::kI64, {}, {-(int64_t{1} << 40)})},
          {"i32", host_tensor<int32_t>(FileDType::kI32, {2}, {-3, 4})},
          {"i16", host_tensor<int16_t>(FileDType::kI16, {1}, {-300})},
          {"i8", host_tensor<int8_t>(FileDType::kI8, {1}, {-128})},
          {"u8", host_tensor<uint8_t>(FileDType::kU8, {1}, {255})},
          {"flag", host_tensor<uint8_t>(FileDType::kBool, {2}, {1, 0})},
          {"parameter", f32_tensor({1}, {1.5f})}};
}

void expect_same_tensors(const TensorMap& actual, const TensorMap& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (const auto& [name, tensor] : expected) {
    ASSERT_EQ(actual.count(name), 1u) << name;
    expect_same(actual.at(name), tensor, name);
  }
}

bool has_note(const TensorFile& file, const std::string& part) {
  return std::any_of(file.notes.begin(), file.notes.end(),
                     [&part](const std::string& note) { return note.find(part) != std::string::npos; });
}

std::string notes_of(const TensorFile& file) {
  std::string all;
  for (const std::string& note : file.notes) all += note + "\n";
  return all;
}

class TorchFile : public ::testing::TestWithParam<const char*> {};

TEST_P(TorchFile, HoldsEveryKindOfTensor) {
  const TensorFile file = read_pth(kFixtures + GetParam());
  expect_same_tensors(file.tensors, every_kind());
  EXPECT_TRUE(file.notes.empty()) << notes_of(file);
  EXPECT_EQ(file.format, GetParam() == std::string("legacy.pth") ? "PyTorch (legacy)" : "PyTorch (zip)");
}

class AnyTorchFile : public ::testing::TestWithParam<const char*> {};

// Truncated anywhere, a file is an error. Few changes of single bytes are harmless, but none does more harm than an error.
TEST_P(AnyTorchFile, DamagedAnywhereIsAnErrorAtWorst) {
  const std::vector<uint8_t> whole = bytes_of(kFixtures + GetParam());
  for (size_t size = 0; size < whole.size(); ++size) {
    const std::vector<uint8_t> part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_THROW(parse_pth(part, "part"), Error) << "the first " << size << " bytes";
  }
  for (size_t position = 0; position < whole.size(); ++position) {
    for (const uint8_t flip : {0x01, 0xff}) {
      std::vector<uint8_t> damaged = whole;
      damaged[position] ^= flip;
      try {
        parse_pth(damaged, "damaged");
      } catch (const Error&) {
      }
    }
  }
}

std::string without_suffix(const ::testing::TestParamInfo<const char*>& parameter) {
  const std::string name = parameter.param;
  return name.substr(0, name.find('.'));
}

INSTANTIATE_TEST_SUITE_P(Formats, AnyTorchFile,
                         ::testing::Values("zip.pth", "deflated.pth", "protocol4.pth", "legacy.pth", "torch_0_3.pth",
                                           "foreign_legacy.pth", "python2.pth", "newest.pth", "newest_legacy.pth",
                                           "checkpoint.pth.tar", "module.pt", "module_legacy.pt"),
                         without_suffix);
INSTANTIATE_TEST_SUITE_P(Formats, TorchFile,
                         ::testing::Values("zip.pth", "deflated.pth", "protocol4.pth", "legacy.pth"), without_suffix);

// Types that came with PyTorch 2, in storages without a type of their own.
TEST(TorchFileNewest, HoldsItsTypes) {
  for (const char* name : {"newest.pth", "newest_legacy.pth"}) {
    SCOPED_TRACE(name);
    const TensorFile file = read_pth(kFixtures + name);
    expect_same_tensors(file.tensors, {{"u16", host_tensor<uint16_t>(FileDType::kU16, {2}, {1, 65535})},
                                       {"u32", host_tensor<uint32_t>(FileDType::kU32, {2, 2}, {0, 2, 1, 4294967295u})},
                                       {"u64", host_tensor<uint64_t>(FileDType::kU64, {1}, {uint64_t{1} << 63})},
                                       {"e4m3", host_tensor<uint8_t>(FileDType::kF8E4M3, {2}, {0x38, 0xc0})},
                                       {"e5m2", host_tensor<uint8_t>(FileDType::kF8E5M2, {2}, {0x3c, 0xc0})},
                                       {"f32", f32_tensor({2}, {1.5f, 2.5f})},
                                       {"bf16", host_tensor<uint16_t>(FileDType::kBF16, {2}, {0x3f80, 0xc000})}});
    EXPECT_TRUE(file.notes.empty()) << notes_of(file);
  }
}

// Tensors without requires_grad, a view that is part of the storage's reference, and Python 2's OrderedDict.
TEST(TorchFileOldest, IsReadLikeTheOthers) {
  const TensorFile file = read_pth(kFixtures + "torch_0_3.pth");
  expect_same_tensors(file.tensors,
                      {{"whole", f32_tensor({2, 3}, {0, 1, 2, 3, 4, 5})}, {"part", f32_tensor({2}, {3, 4})}});
  expect_same_tensors(read_pth(kFixtures + "python2.pth").tensors,
                      {{"a", f32_tensor({1}, {1})}, {"b", f32_tensor({2}, {0, 0})}});
}

const std::vector<std::string>& names_of_module() {
  static const std::vector<std::string> names{
      "bn.bias",     "bn.num_batches_tracked", "bn.running_mean", "bn.running_var", "bn.weight",
      "conv.weight", "inner.0.bias",           "inner.0.weight"};
  return names;
}

void expect_module(const TensorFile& file, float added = 0) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : file.tensors) {
    if (name != "n_averaged") names.push_back(name);
  }
  EXPECT_EQ(names, names_of_module());
  expect_same(file.tensors.at("conv.weight"), f32_tensor({2, 1, 1, 1}, {1 + added, 2 + added}), "conv.weight");
  expect_same(file.tensors.at("inner.0.bias"), f32_tensor({3}, {7 + added, 8 + added, 9 + added}), "inner.0.bias");
}

TEST(TorchState, IsFoundInTrainingCheckpoints) {
  const TensorFile file = read_pth(kFixtures + "checkpoint.pth.tar");
  expect_module(file);
  for (const char* note :
       {"weights are those under 'model'", "'model_ema' has weights too", "'epoch': 3", "'arch': 'tiny'",
        "'best_acc1': a tensor", "'optimizer': a dict of 2", "prefix 'module.' dropped"})
    EXPECT_TRUE(has_note(file, note)) << note << " is not among:\n" << notes_of(file);
}

TEST(TorchState, IsTheEntryAskedFor) {
  const TensorFile file = read_pth(kFixtures + "checkpoint.pth.tar", "model_ema");
  expect_module(file, /*added=*/1);
  expect_message(message_of([] { read_pth(kFixtures + "checkpoint.pth.tar", "weights"); }),
                 {"checkpoint.pth.tar", "no entry 'weights'", "'model_ema' (a dict of 9)", "'epoch' (3)"});
}

TEST(TorchState, IsFoundInPickledModulesAndScripts) {
  const TensorFile module = read_pth(kFixtures + "module.pt");
  expect_module(module);
  EXPECT_TRUE(has_note(module, "__main__.Tiny")) << notes_of(module);
  const TensorFile script = read_pth(kFixtures + "script.pt");
  expect_module(script);
  EXPECT_EQ(script.format, "TorchScript");
}

// Legacy files name classes of modules by references, with their source.
TEST(TorchState, IsFoundInLegacyModules) {
  const TensorFile file = read_pth(kFixtures + "module_legacy.pt");
  expect_module(file);
  EXPECT_EQ(file.format, "PyTorch (legacy)");
}

TEST(TorchState, IsFoundInCompiledModels) {
  const TensorFile file = read_pth(kFixtures + "compiled.pth");
  expect_same_tensors(file.tensors, {{"fc.weight", f32_tensor({1, 1}, {3})}, {"fc.bias", f32_tensor({1}, {4})}});
  EXPECT_TRUE(has_note(file, "prefix '_orig_mod.' dropped")) << notes_of(file);
  EXPECT_TRUE(has_note(file, "'dtype': torch.float32, skipped")) << notes_of(file);
}

TEST(TorchState, IsFoundInLightningCheckpoints) {
  const TensorFile file = read_pth(kFixtures + "lightning.ckpt");
  expect_module(file);
  for (const char* note :
       {"weights are those under 'state_dict'", "prefix 'model.' dropped", "prefix '_orig_mod.' dropped",
        "'optimizer_states': a list of 1, skipped", "'global_step': 120"})
    EXPECT_TRUE(has_note(file, note)) << note << " is not among:\n" << notes_of(file);
}

TEST(TorchState, IsMissedByName) {
  expect_message(message_of([] { read_pth(kFixtures + "no_weights.pth"); }), {"no weights", "'epoch' (3)"});
}

TEST(TorchFileHostile, NothingInAPickleIsCalled) {
  const TensorFile file = read_pth(kFixtures + "evil.pth");  // it would run: touch riffle-was-here
  expect_module(file);
  EXPECT_TRUE(has_note(file, "an object of class posix.system")) << notes_of(file);
  EXPECT_FALSE(std::filesystem::exists("riffle-was-here"));
}

TEST(TorchFileHostile, TypesThatCannotBeHeldAreSkippedAndNamed) {
  const TensorFile file = read_pth(kFixtures + "complex.pth");
  EXPECT_EQ(file.tensors.size(), 1u);
  EXPECT_TRUE(has_note(file, "tensor 'c' of type torch.ComplexFloatStorage, skipped")) << notes_of(file);
}

TEST(TorchFileHostile, ForeignTypesDoNotHideTheOthers) {
  for (const char* name : {"foreign.pth", "foreign_legacy.pth"}) {
    SCOPED_TRACE(name);
    const TensorFile file = read_pth(kFixtures + name);
    expect_same_tensors(file.tensors, {{"w", f32_tensor({2}, {1.5f, 2.5f})}});
    for (const char* note : {"tensor 'c' of type torch.ComplexFloatStorage, skipped",
                             "tensor 'q' made by torch._utils._rebuild_qtensor, skipped",
                             "tensor 's' made by torch._utils._rebuild_sparse_tensor, skipped"})
      EXPECT_TRUE(has_note(file, note)) << note << " is not among:\n" << notes_of(file);
  }
}

// A zip archive of these entries, as torch.save names them.
std::vector<uint8_t> torch_archive(const std::vector<std::pair<std::string, std::string>>& entries) {
  const TemporaryFolder folder;
  ZipWriter writer(folder.file("x.pth"));
  for (const auto& [name, contents] : entries) writer.add("x/" + name, contents.data(), contents.size());
  writer.commit();
  return bytes_of(folder.file("x.pth"));
}

std::string text_opcode(const std::string& text) {
  const auto size = static_cast<uint32_t>(text.size());
  return "X" + std::string(reinterpret_cast<const char*>(&size), sizeof size) + text;
}

// A FloatTensor of storage '0', which has two elements; shape and strides as opcodes.
std::string tensor_opcodes(const std::string& shape, const std::string& strides) {
  return "ctorch._utils\n_rebuild_tensor\n((" + text_opcode("storage") + "ctorch\nFloatStorage\n" + text_opcode("0") +
         text_opcode("cpu") + "K\x02tQK" + std::string(1, '\0') + shape + strides + "tR";
}

const std::string kTwoFloats("\0\0\x80\x3f\0\0\0\x40", 8);

TEST(TorchFileHostile, StridesOfSingleElementsMayBeAnything) {
  const std::string largest = "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f";  // 2^63 - 1
  const std::string pickle = "\x80\x02}" + text_opcode("w") + tensor_opcodes("K\x01K\x02\x86", largest + "K\x01\x86") +
                             text_opcode("v") + tensor_opcodes("K\x01K\x01\x86", largest + largest + "\x86");
  const std::string both = pickle.substr(0, 3) + "(" + pickle.substr(3) + "u.";
  const TensorFile file = parse_pth(torch_archive({{"data.pkl", both}, {"data/0", kTwoFloats}}), "x.pth");
  expect_same_tensors(file.tensors, {{"w", f32_tensor({1, 2}, {1, 2})}, {"v", f32_tensor({1, 1}, {1})}});
}

TEST(TorchFileHostile, NamesCannotCommandATerminal) {
  const std::string pickle = "\x80\x02}(" + text_opcode("w") + tensor_opcodes("K\x02\x85", "K\x01\x85") +
                             text_opcode("\x1b[2J\n") + "cevil\x1b\nname\nu.";
  const TensorFile file = parse_pth(torch_archive({{"data.pkl", pickle}, {"data/0", kTwoFloats}}), "x.pth");
  EXPECT_TRUE(has_note(file, "'?[2J?'")) << notes_of(file);
  EXPECT_TRUE(has_note(file, "evil?.name")) << notes_of(file);
}

TEST(TorchFileHostile, ThousandsOfOtherThingsGiveFewNotes) {
  std::string pickle = "\x80\x02}(" + text_opcode("w") + tensor_opcodes("K\x02\x85", "K\x01\x85");
  for (int i = 0; i < 5000; ++i) pickle += text_opcode("thing" + std::to_string(i)) + "N";
  const TensorFile file = parse_pth(torch_archive({{"data.pkl", pickle + "u."}, {"data/0", kTwoFloats}}), "x.pth");
  EXPECT_EQ(file.notes.size(), 101u);
  EXPECT_EQ(file.notes.back(), "and 4900 more of the kind");
}

TEST(TorchFileHostile, WrappersMayNotHideCollisions) {
  const std::string tensor = tensor_opcodes("K\x02\x85", "K\x01\x85");
  const std::string pickle = "\x80\x02}(" + text_opcode("module.w") + tensor + text_opcode("w") + tensor + "u.";
  expect_message(message_of([&] {
                   parse_pth(torch_archive({{"data.pkl", pickle}, {"data/0", kTwoFloats}}), "x.pth");
                 }),
                 {"x.pth", "two tensors are called 'w'"});
}

TEST(TorchFileHostile, OtherVersionsAndByteOrdersAreRefused) {
  const std::string pickle = "\x80\x02}" + text_opcode("w") + tensor_opcodes("K\x02\x85", "K\x01\x85") + "s.";
  const auto parsing = [&pickle](const std::string& entry, const std::string& contents) {
    return message_of([&] {
      parse_pth(torch_archive({{"data.pkl", pickle}, {"data/0", kTwoFloats}, {entry, contents}}), "x.pth");
    });
  };
  expect_message(parsing("byteorder", "big"), {"x.pth", "big-endian"});
  for (const char* version : {"11\n", "0\n", "-1", "three", "99999999999999999999"})
    expect_message(parsing("version", version), {"x.pth", "of PyTorch's zip format is unknown; expected 1 to 10"});
}

// The pickle of {name: value, ...}, each of `count` times the one name of `length` characters that is remembered once.
std::string pickle_of_one_name(size_t length, int count, const std::string& value) {
  const auto size = static_cast<uint32_t>(length);
  std::string text = "\x80\x02}(X" + std::string(reinterpret_cast<const char*>(&size), sizeof size);
  text += std::string(length, 'x') + "q" + std::string(1, '\0') + value;
  for (int i = 1; i < count; ++i) text += "h" + std::string(1, '\0') + value;
  return text + "u.";
}

// Names are stored once and used often: what is said of them, and tensors called so, must not multiply them.
TEST(TorchFileHostile, LongNamesCostNoMemory) {
  const TemporaryFolder folder;
  const std::string path = folder.file("names.pth");
  const std::string storage = "(X" + std::string("\7\0\0\0storage", 11) + "ctorch\nFloatStorage\nX" +
                              std::string(
                                  "\1\0\0\0"
                                  "0",
                                  5) +
                              "X" + std::string("\3\0\0\0cpu", 7) + "K\1tQ";
  const std::string tensor =
      "ctorch._utils\n_rebuild_tensor_v2\n(" + storage + std::string("K\0", 2) + ")" + ")" + "\x89NtR";
  for (const std::string& value : {std::string("N"), tensor}) {
    constexpr int64_t kLength = 30000, kUses = 20000;
    const std::string pickle = pickle_of_one_name(kLength, kUses, value);
    const float zero = 0;
    ZipWriter archive(path);
    archive.add("archive/data.pkl", pickle.data(), pickle.size());
    archive.add("archive/version", "3\n", 2);
    archive.add("archive/data/0", &zero, sizeof zero);
    archive.commit();
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    expect_message(message_of([&] { read_pth(path); }), {path});
    getrusage(RUSAGE_SELF, &after);
    // Sanitizers keep what was freed; a copy of the name for each use would still be four times this.
    EXPECT_LT(after.ru_maxrss - before.ru_maxrss, kLength * kUses / 1024 / 4) << "KiB, for " << pickle.size() / 1024;
  }
}

struct Hostile {
  const char* file;
  const char* message;
};

class HostileTorchFile : public ::testing::TestWithParam<Hostile> {};

TEST_P(HostileTorchFile, IsAnErrorThatCostsNoMemory) {
  struct rusage before, after;
  getrusage(RUSAGE_SELF, &before);
  const std::string path = kFixtures + GetParam().file;
  expect_message(message_of([&] { read_pth(path); }), {path, GetParam().message});
  getrusage(RUSAGE_SELF, &after);
  EXPECT_LT(after.ru_maxrss - before.ru_maxrss, 32 * 1024) << "KiB";
}

INSTANTIATE_TEST_SUITE_P(Files, HostileTorchFile,
                         ::testing::Values(Hostile{"negative_stride.pth", "its stride is -1"},
                                           Hostile{"beyond_storage.pth", "ends at element 2"},
                                           Hostile{"huge_offset.pth", "ends at element 4611686018427387905"},
                                           Hostile{"huge_extent.pth", "is too large"},
                                           Hostile{"exploding_view.pth", "far more than the file"},
                                           Hostile{"short_storage.pth", "should have 100 elements"},
                                           Hostile{"missing_storage.pth", "no storage '7'"},
                                           Hostile{"bomb.pth", "no checkpoint shrinks that far"}),
                         [](const auto& parameter) {
                           const std::string name = parameter.param.file;
                           return name.substr(0, name.find('.'));
                         });

TEST(TorchFileOther, FormatsAreNamed) {
  const auto parsing = [](const std::string& text) {
    return message_of([&] { parse_pth({text.begin(), text.end()}, "x.pth"); });
  };
  expect_message(parsing(""), {"x.pth", "not a PyTorch file"});
  expect_message(parsing("weights"), {"x.pth", "not a PyTorch file"});
  expect_message(parsing("\x80\x04K\x01."), {"plain Python pickle"});
  std::string tar(1024, '\0');
  tar.replace(257, 5, "ustar");
  expect_message(parsing(tar), {"tar archive"});
}

TEST(TorchWriter, WritesWhatIsReadBackBitForBit) {
  const TemporaryFolder folder;
  const std::string path = folder.file("out.pth");
  write_pth(path, every_kind());
  const TensorFile file = read_pth(path);
  expect_same_tensors(file.tensors, every_kind());
  EXPECT_EQ(folder.listing(), std::vector<std::string>{"out.pth"});
  TensorMap f8{{"x", HostTensor{FileDType::kF8E4M3, {1}, {0}}}};
  expect_message(message_of([&] { write_pth(path, f8); }), {path, "f8_e4m3"});
}

// numpy has no bfloat16; names may hold slashes and any letters.
TEST(TorchWriter, AndNumpyArchivesHoldTheSame) {
  const TemporaryFolder folder;
  TensorMap tensors = every_kind();
  tensors.erase("bf16");
  tensors["conv1/W:0"] = f32_tensor({1, 2}, {1, 2});
  tensors["\u00e9\u00df"] = f32_tensor({1}, {1});
  write_npz(folder.file("x.npz"), tensors);
  write_pth(folder.file("x.pth"), tensors);
  expect_same_tensors(read_npz(folder.file("x.npz")), tensors);
  expect_same_tensors(read_pth(folder.file("x.pth")).tensors, tensors);
  const TensorMap bf16{{"x", HostTensor{FileDType::kBF16, {1}, {0, 0}}}};
  expect_message(message_of([&] { write_npz(folder.file("x.npz"), bf16); }), {"x.npz", "bf16"});
  expect_same_tensors(read_npz(folder.file("x.npz")), tensors);  // as it was
}

// Storages begin where they can be mapped into memory.
TEST(TorchWriter, AlignsStorages) {
  const TemporaryFolder folder;
  const std::string path = folder.file("out.pth");
  write_pth(path, {{"a", host_tensor<uint8_t>(FileDType::kU8, {5}, {250, 251, 252, 253, 254})},
                   {"b", host_tensor<uint8_t>(FileDType::kU8, {4}, {240, 241, 242, 243})}});
  const std::string bytes = file_bytes(path);
  for (const std::string& content : {std::string("\xfa\xfb\xfc\xfd\xfe"), std::string("\xf0\xf1\xf2\xf3")}) {
    ASSERT_NE(bytes.find(content), std::string::npos);
    EXPECT_EQ(bytes.find(content) % 64, 0u);
  }
}

// Real weights of torchvision's 0.5x in both formats, where they are.
TEST(TorchRealFiles, BothFormatsHoldTheSame) {
  const std::string folder = RIFFLE_SOURCE_DIR "/../shared/data/weights/";
  const std::string zip = folder + "shufflenet_v2_x0_5-imagenet.pth",
                    legacy = folder + "shufflenet_v2_x0_5-imagenet-legacy.pth";
  if (!std::filesystem::exists(zip)) GTEST_SKIP() << "no " << zip;
  const TensorFile first = read_pth(zip), second = read_pth(legacy);
  EXPECT_EQ(first.tensors.size(), 338u);
  expect_same_tensors(first.tensors, second.tensors);
  for (const std::string& path : {zip, legacy}) {
    const std::vector<uint8_t> whole = bytes_of(path);
    for (size_t size = 0; size < whole.size(); size += 1024) {
      const std::vector<uint8_t> part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
      EXPECT_THROW(parse_pth(part, "part"), Error) << "the first " << size << " bytes of " << path;
    }
  }
}

}  // namespace
}  // namespace riffle
