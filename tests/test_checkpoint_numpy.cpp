// .npy and .npz: what numpy wrote is read exactly (fixtures by fixtures/numpy/make.py), and damaged or hostile files
// are refused by name.
#include <gtest/gtest.h>
#include <zip.h>

#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "tests/checkpoint_files.h"
#include "train/checkpoint/numpy.h"

namespace riffle {
namespace {

std::string fixture(const std::string& name) {
  return std::string(RIFFLE_SOURCE_DIR) + "/tests/fixtures/numpy/" + name;
}

// A .npy file of one header text; `data` follows it.
std::string npy(const std::string& header, const std::string& data, int version = 1) {
  const auto length = static_cast<uint32_t>(header.size());
  return std::string("\x93NUMPY") + static_cast<char>(version) + '\0' +
         std::string(reinterpret_cast<const char*>(&length), version == 1 ? 2 : 4) + header + data;
}

std::string npy_of(const std::string& descr, const std::string& shape, const std::string& data) {
  return npy("{'descr': '" + descr + "', 'fortran_order': False, 'shape': " + shape + ", }\n", data);
}

HostTensor parse(const std::string& bytes) {
  return parse_npy(std::vector<uint8_t>(bytes.begin(), bytes.end()), "x.npy");
}

std::string parsing(const std::string& bytes) {
  const std::string message = message_of([&] { parse(bytes); });
  expect_message(message, {"x.npy"});
  return message;
}

template <class T>
std::string raw(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

class NumpyArchive : public ::testing::TestWithParam<const char*> {};

TEST_P(NumpyArchive, ReadsEveryKindExactly) {
  const TensorMap arrays = read_npz(fixture(GetParam()));
  EXPECT_EQ(arrays.size(), 10u);
  expect_same(arrays.at("f4"), f32_tensor({2, 3}, {0, 0.5f, 1, 1.5f, 2, 2.5f}), "f4");
  expect_same(arrays.at("f8"), host_tensor<double>(FileDType::kF64, {2}, {0.1, -1e300}), "f8");
  expect_same(arrays.at("f2"), host_tensor<uint16_t>(FileDType::kF16, {2}, {0x3c00, 0xc000}), "f2");
  expect_same(arrays.at("u1"), host_tensor<uint8_t>(FileDType::kU8, {6}, {250, 251, 252, 253, 254, 255}), "u1");
  expect_same(arrays.at("i4"), host_tensor<int32_t>(FileDType::kI32, {2}, {-2147483647 - 1, 2147483647}), "i4");
  expect_same(arrays.at("i8"), host_tensor<int64_t>(FileDType::kI64, {2}, {-3, 2147483647}), "i8");
  std::vector<int32_t> counted(24);
  std::iota(counted.begin(), counted.end(), 0);
  expect_same(arrays.at("fortran"), host_tensor<int32_t>(FileDType::kI32, {2, 3, 4}, counted), "fortran");
  expect_same(arrays.at("scalar"), f32_tensor({}, {42}), "scalar");
  expect_same(arrays.at("empty"), f32_tensor({3, 0}, {}), "empty");
  expect_same(arrays.at("conv1/W"), f32_tensor({64, 64}, std::vector<float>(4096)), "conv1/W");
}

INSTANTIATE_TEST_SUITE_P(Numpy, NumpyArchive, ::testing::Values("stored.npz", "deflated.npz"),
                         [](const auto& test) { return std::string(test.param, std::string(test.param).find('.')); });

TEST(Npy, ReadsVersions1To3) {
  const std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n";
  for (int version = 1; version <= 3; ++version)
    expect_same(parse(npy(header, raw<float>({1, 2}), version)), f32_tensor({2}, {1, 2}), std::to_string(version));
  expect_message(parsing(npy(header, raw<float>({1, 2}), 4)), {"version 4"});
}

TEST(Npy, ReadsAnyKeyOrderAndSpacing) {
  expect_same(parse(npy(R"({ "shape":( 1 ,2 ),"fortran_order" : True,"descr":"<f4" })", raw<float>({1, 2}))),
              f32_tensor({1, 2}, {1, 2}), "");
}

TEST(Npy, RefusesWhatItCannotRepresent) {
  expect_message(parsing(npy_of("|O", "(1,)", "pickle")), {"object arrays are refused"});
  expect_message(parsing(npy_of(">f4", "(1,)", raw<float>({1}))), {"'>f4'", "big-endian", "'<f4'"});
  expect_message(parsing(npy_of("<U3", "(1,)", "")), {"'<U3'", "expected one of f2, f4, f8, i1"});
  expect_message(parsing(npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", "")),
                 {"structured"});
}

TEST(Npy, RefusesEveryTruncationAndWhatFollows) {
  const std::string whole = npy_of("<f4", "(2, 3)", raw<float>({1, 2, 3, 4, 5, 6}));
  for (size_t size = 0; size < whole.size(); ++size) {
    SCOPED_TRACE(size);
    parsing(whole.substr(0, size));
  }
  expect_message(parsing(whole + "x"), {"2x3 f4 takes 24 bytes", "25"});
}

TEST(Npy, RefusesBadHeaders) {
  expect_message(parsing("PK\3\4 not numpy"), {"signature"});
  expect_message(parsing(npy_of("<f4", "(-1,)", "")), {"whole number >= 0"});
  expect_message(parsing(npy_of("<f4", "3", raw<float>({1, 2, 3}))), {"expected '('"});
  expect_message(parsing(npy_of("<f4", "(99999999999999999999,)", "")), {"shape"});
  expect_message(parsing(npy_of("<f4", "(4294967296, 4294967296)", "")), {"too large"});
  expect_message(parsing(npy_of("<f8", "(2305843009213693952,)", "")), {"too large"});
  expect_message(parsing(npy_of("<f4", "(1000000000000,)", raw<float>({1}))), {"takes 4000000000000 bytes", "but 4"});
  expect_message(parsing(npy("{'descr': '<f4', 'shape': (0,)}", "")), {"'fortran_order'"});
  expect_message(parsing(npy("{'descr': '<f4', 'fortran_order': Maybe, 'shape': (0,)}", "")), {"True or False"});
  expect_message(parsing(npy("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (0,)}", "")),
                 {"'descr'"});
  expect_message(parsing(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (0,)} 1", "")), {"follows"});
  expect_message(parsing(npy("{'descr': '<f4", "")), {"string does not end"});
  expect_message(parsing(npy("", "")), {"expected '{'"});
  std::string many = "(";
  for (int i = 0; i < 65; ++i) many += "1, ";
  expect_message(parsing(npy_of("<f4", many + ")", raw<float>({1}))), {"more than 64 axes"});
}

TEST(Npy, ReadsExtentsOfPython2) {
  expect_same(parse(npy_of("<f4", "(2L, 1L)", raw<float>({1, 2}))), f32_tensor({2, 1}, {1, 2}), "long");
}

TEST(Npy, WritesWhatItReads) {
  const TemporaryFolder folder;
  const std::string path = folder.file("x.npy");
  for (const auto& [name, tensor] : read_npz(fixture("stored.npz"))) {
    write_npy(path, tensor);
    const std::string bytes = file_bytes(path);
    EXPECT_EQ((bytes.size() - tensor.bytes.size()) % 64, 0u) << name;
    expect_same(parse(bytes), tensor, name);
  }
  HostTensor bf16{FileDType::kBF16, {1}, {0, 0}};
  expect_message(message_of([&] { write_npy(path, bf16); }), {path, "bf16"});
}

TEST(Npy, WritesTheBytesNumpyWrites) {
  const TemporaryFolder folder;
  write_npy(folder.file("x.npy"), f32_tensor({2, 1}, {1, 2}));
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1), }";
  header.resize(128 - 10 - 1, ' ');
  EXPECT_EQ(file_bytes(folder.file("x.npy")), npy(header + "\n", raw<float>({1, 2})));
}

// --- archives
// ----------------------------------------------------------------------------------------------------------

void write_zip(const std::string& path, const std::vector<std::pair<std::string, std::string>>& entries, int method) {
  zip_t* archive = zip_open(path.c_str(), ZIP_CREATE | ZIP_TRUNCATE, nullptr);
  ASSERT_NE(archive, nullptr);
  for (const auto& [name, bytes] : entries) {
    zip_source_t* source = zip_source_buffer(archive, bytes.data(), bytes.size(), 0);
    const zip_int64_t index = zip_file_add(archive, name.c_str(), source, 0);
    ASSERT_GE(index, 0);
    ASSERT_EQ(zip_set_file_compression(archive, static_cast<zip_uint64_t>(index), method, 0), 0);
  }
  ASSERT_EQ(zip_close(archive), 0);
}

// Replaces a 32-bit field of the last central directory record: 20 is the stored size, 24 the real one, 16 the
// checksum.
std::string with_claim(std::string archive, size_t field, uint32_t value) {
  const size_t record = archive.rfind("PK\1\2");
  EXPECT_NE(record, std::string::npos);
  archive.replace(record + field, sizeof value, reinterpret_cast<const char*>(&value), sizeof value);
  return archive;
}

class Npz : public ::testing::Test {
 protected:
  std::string reading(const std::string& bytes) {
    write_bytes(path_, bytes);
    const std::string message = message_of([&] { read_npz(path_); });
    EXPECT_NE(message.find(path_), std::string::npos) << "the path is missing in: " << message;
    return message;
  }

  // An archive of one array of `count` zeros.
  std::string zeros(size_t count, int method) {
    const std::string shape = "(" + std::to_string(count) + ",)";
    write_zip(path_, {{"x.npy", npy_of("|u1", shape, std::string(count, '\0'))}}, method);
    return file_bytes(path_);
  }

  TemporaryFolder folder_;
  const std::string path_ = folder_.file("arrays.npz");
};

TEST_F(Npz, RefusesFalseClaims) {
  for (const int method : {ZIP_CM_STORE, ZIP_CM_DEFLATE}) {
    SCOPED_TRACE(method);
    const std::string good = zeros(5000, method);
    expect_message(reading(with_claim(good, 24, 4'000'000'000u)), {"x.npy", "claims 4000000000 bytes"});
    expect_message(reading(with_claim(good, 20, 4'000'000'000u)), {"x.npy"});
    expect_message(reading(with_claim(good, 16, 12345)), {"x.npy", "CRC"});
    reading(with_claim(good, 24, 4000));
    reading(with_claim(good, 24, 5500));
  }
}

TEST_F(Npz, ReadsTheBestThatDeflateCanDo) {
  constexpr size_t kCount = 50'000'000;
  const std::string archive = zeros(kCount, ZIP_CM_DEFLATE);
  EXPECT_GT(kCount / archive.size(), 900u);
  EXPECT_EQ(read_npz(path_).at("x").bytes.size(), kCount);
}

TEST_F(Npz, RefusesEveryTruncation) {
  const std::string whole = zeros(100, ZIP_CM_DEFLATE);
  for (size_t size = 0; size < whole.size(); ++size) {
    SCOPED_TRACE(size);
    reading(whole.substr(0, size));
  }
}

TEST_F(Npz, SurvivesEveryFlippedBit) {
  const std::string whole = zeros(100, ZIP_CM_DEFLATE);
  int refused = 0;
  for (size_t bit = 0; bit < 8 * whole.size(); ++bit) {
    std::string damaged = whole;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << (bit % 8)));
    write_bytes(path_, damaged);
    try {
      read_npz(path_);  // dates and the like may say anything
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 500);
}

TEST_F(Npz, RefusesOtherEntriesAndOtherFiles) {
  write_zip(path_, {{"archive/data.pkl", "x"}}, ZIP_CM_STORE);
  expect_message(message_of([&] { read_npz(path_); }), {path_, "archive/data.pkl", "expected only .npy"});
  write_zip(path_, {{"bad.npy", "not numpy"}}, ZIP_CM_STORE);
  expect_message(message_of([&] { read_npz(path_); }), {path_ + "[bad.npy]", "signature"});
  expect_message(reading("no archive at all"), {"zip"});
  expect_message(message_of([&] { read_npz(folder_.file("absent.npz")); }), {"absent.npz", "No such file"});
}

}  // namespace
}  // namespace riffle
