// Zip archives: what the writer writes, libzip and the reader read; what an archive claims falsely is refused before it
// costs memory. Damage of whole checkpoints: test_checkpoint_numpy.cpp and test_checkpoint_pth.cpp.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <zip.h>

#include <cstring>
#include <string>
#include <vector>

#include "tests/checkpoint_files.h"
#include "train/checkpoint/zip_archive.h"
#include "train/checkpoint/zip_writer.h"

namespace riffle {
namespace {

using Entries = std::vector<std::pair<std::string, std::string>>;

const Entries& some_entries() {
  static const Entries entries{
      {"top/a", "alpha"}, {"top/empty", ""}, {"top/b/c", std::string(1000, 'x')}, {"\u00e9", "e"}};
  return entries;
}

std::string written(const Entries& entries, uint32_t alignment = 1) {
  const TemporaryFolder folder;
  ZipWriter writer(folder.file("x.zip"), alignment);
  for (const auto& [name, contents] : entries) writer.add(name, contents.data(), contents.size());
  writer.commit();
  return file_bytes(folder.file("x.zip"));
}

const uint8_t* data_of(const std::string& bytes) {
  return reinterpret_cast<const uint8_t*>(bytes.data());
}

Entries read_all(const std::string& bytes) {
  const ZipArchive archive(data_of(bytes), bytes.size(), "x.zip");
  Entries entries;
  for (size_t i = 0; i < archive.entries().size(); ++i) {
    const std::vector<uint8_t> contents = archive.read(i);
    entries.emplace_back(archive.entries()[i].name, std::string(contents.begin(), contents.end()));
  }
  return entries;
}

std::string reading(const std::string& bytes) {
  const std::string message = message_of([&bytes] { read_all(bytes); });
  expect_message(message, {"x.zip"});
  return message;
}

void put(std::string& bytes, size_t position, uint64_t value, size_t count) {
  ASSERT_LE(position + count, bytes.size());
  std::memcpy(bytes.data() + position, &value, count);
}

TEST(Zip, ReadsWhatItWrites) {
  for (const uint32_t alignment : {1u, 4u, 64u, 4096u})
    EXPECT_EQ(read_all(written(some_entries(), alignment)), some_entries());
}

TEST(Zip, FindsEntriesByName) {
  const std::string bytes = written(some_entries());
  const ZipArchive archive(data_of(bytes), bytes.size(), "x.zip");
  EXPECT_EQ(archive.find("top/a"), 0);
  EXPECT_EQ(archive.find("top/b/c"), 2);
  EXPECT_EQ(archive.find("a"), -1);
  EXPECT_EQ(archive.entries()[2].size, 1000u);
}

TEST(Zip, AlignsContents) {
  const Entries entries{{"a", "<first>"}, {"names/of/any/length", "<second>"}, {"c", "<third>"}};
  for (const uint32_t alignment : {4u, 64u, 512u}) {
    const std::string bytes = written(entries, alignment);
    for (const auto& [name, contents] : entries) {
      ASSERT_NE(bytes.find(contents), std::string::npos);
      EXPECT_EQ(bytes.find(contents) % alignment, 0u) << name << " " << alignment;
    }
  }
}

TEST(Zip, TheSameContentsGiveTheSameBytes) {
  EXPECT_EQ(written(some_entries(), 64), written(some_entries(), 64));
}

TEST(Zip, WithoutCommitNothingIsWritten) {
  const TemporaryFolder folder;
  write_bytes(folder.file("x.zip"), "previous");
  {
    ZipWriter writer(folder.file("x.zip"));
    writer.add("a", "1", 1);
  }
  EXPECT_EQ(file_bytes(folder.file("x.zip")), "previous");
  EXPECT_EQ(folder.listing(), std::vector<std::string>{"x.zip"});
}

// As PyTorch writes: local headers say nothing, only the directory does.
TEST(Zip, BelievesOnlyTheDirectory) {
  const Entries entries{{"a", "alpha"}};
  std::string bytes = written(entries);
  constexpr size_t kFlags = 6, kChecksum = 14;
  put(bytes, kFlags, 0x0808, 2);  // sizes follow the contents
  for (size_t field = 0; field < 3; ++field) put(bytes, kChecksum + 4 * field, 0, 4);
  put(bytes, bytes.rfind("PK\1\2") + 8, 0x0808, 2);
  EXPECT_EQ(read_all(bytes), entries);
}

// Its local header too gives 2^32 - 1 and an extra field of 64 bits, as Python's zipfile writes with force_zip64.
TEST(Zip, ReadsZip64) {
  const auto number = [](uint64_t value, size_t count) {
    std::string bytes;
    for (size_t i = 0; i < count; ++i) bytes.push_back(i < 8 ? static_cast<char>(value >> (8 * i) & 0xff) : '\0');
    return bytes;
  };
  const std::string contents = "alpha", local_extra = number(1, 2) + number(16, 2) + number(5, 8) + number(5, 8);
  const std::string plain = written({{"a", contents}});
  const std::string checksum = plain.substr(14, 4), unknown = number(0xffffffff, 4);
  std::string bytes = number(0x04034b50, 4) + number(45, 2) + number(0, 6) + number(0x21, 2) + checksum + unknown +
                      unknown + number(1, 2) + number(local_extra.size(), 2) + "a" + local_extra + contents;
  const size_t directory = bytes.size();
  const std::string extra = number(1, 2) + number(24, 2) + number(5, 8) + number(5, 8) + number(0, 8);
  bytes += number(0x02014b50, 4) + number(45, 2) + number(45, 2) + number(0, 6) + number(0x21, 2) + checksum + unknown +
           unknown + number(1, 2) + number(extra.size(), 2) + number(0, 10) + unknown + "a" + extra;
  const size_t end = bytes.size();
  bytes += number(0x06064b50, 4) + number(44, 8) + number(45, 2) + number(45, 2) + number(0, 8) + number(1, 8) +
           number(1, 8) + number(end - directory, 8) + number(directory, 8);
  bytes += number(0x07064b50, 4) + number(0, 4) + number(end, 8) + number(1, 4);
  bytes +=
      number(0x06054b50, 4) + number(0, 4) + number(0xffff, 2) + number(0xffff, 2) + unknown + unknown + number(0, 2);
  EXPECT_EQ(read_all(bytes), (Entries{{"a", contents}}));

  // A directory of 2^40 entries, for which there is no room in the file.
  constexpr size_t kEntriesHere = 24, kEntries = 32;
  put(bytes, end + kEntriesHere, uint64_t{1} << 40, 8);
  put(bytes, end + kEntries, uint64_t{1} << 40, 8);
  struct rusage before, after;
  getrusage(RUSAGE_SELF, &before);
  reading(bytes);
  getrusage(RUSAGE_SELF, &after);
  EXPECT_LT(after.ru_maxrss - before.ru_maxrss, 16 * 1024) << "KiB";
}

TEST(Zip, RefusesTwoEntriesOfOneName) {
  expect_message(reading(written({{"a", "1"}, {"a", "2"}})), {"two entries 'a'"});
}

// Two directory records that point to the same contents.
TEST(Zip, OverlappingEntriesCannotMultiplyContents) {
  const std::string large(1000, 'x');
  std::string bytes = written({{"a", large}, {"b", "1"}});
  const size_t first = bytes.find("PK\1\2"), second = bytes.rfind("PK\1\2");
  ASSERT_LT(first, second);
  bytes.replace(second + 16, 12, bytes, first + 16, 12);  // checksum, sizes
  bytes.replace(second + 42, 4, bytes, first + 42, 4);    // where it is
  expect_message(reading(bytes), {"claim more than its"});
}

TEST(Zip, RefusesFalseSizes) {
  std::string bytes = written({{"a", "alpha"}});
  const size_t record = bytes.rfind("PK\1\2");
  std::string changed = bytes;
  put(changed, record + 24, 6, 4);
  expect_message(reading(changed), {"x.zip[a]", "claims 6 bytes, stored in 5"});
  changed = bytes;
  put(changed, record + 20, 4000000000u, 4);
  put(changed, record + 24, 4000000000u, 4);
  reading(changed);
  changed = bytes;
  put(changed, record + 10, 12, 2);
  expect_message(reading(changed), {"x.zip[a]", "method 12", "stored or deflated"});
  changed = bytes;
  put(changed, record + 8, 0x801, 2);
  put(changed, 6, 0x801, 2);
  expect_message(reading(changed), {"x.zip[a]", "encrypted"});
  changed = bytes;
  changed[bytes.find("alpha")] = 'A';
  expect_message(reading(changed), {"x.zip[a]", "CRC"});
}

TEST(Zip, RefusesEveryTruncation) {
  const std::string whole = written(some_entries(), 64);
  for (size_t size = 0; size < whole.size(); ++size) {
    SCOPED_TRACE(size);
    reading(whole.substr(0, size));
  }
}

TEST(Zip, AWriterRefusesWhatTheFormatCannotHold) {
  const TemporaryFolder folder;
  ZipWriter writer(folder.file("x.zip"));
  expect_message(message_of([&writer] { writer.add("a", nullptr, uint64_t{1} << 32); }), {"x.zip", "4 GiB"});
  for (int i = 0; i < 0xffff; ++i) writer.add(std::to_string(i), "", 0);
  expect_message(message_of([&writer] { writer.add("one more", "", 0); }), {"x.zip", "65,535 entries"});
}

}  // namespace
}  // namespace riffle
