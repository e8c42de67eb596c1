// Tar files: every dialect of names and sizes, every truncation, damage, and reading by many threads.
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "data/tar.h"
#include "tests/tar_files.h"

namespace riffle {
namespace {

using Members = std::vector<TarMember>;

class TarTest : public testing::Test {
 protected:
  Members walk(const Bytes& tar) {
    write_bytes(path_, tar);
    Members members;
    const RandomAccessFile file(path_);
    walk_tar(file, [&](const TarMember& member) { members.push_back(member); });
    return members;
  }
  std::string contents(const TarMember& member) {
    const Bytes bytes = RandomAccessFile(path_).read(member.offset, member.size);
    return {bytes.begin(), bytes.end()};
  }

  TemporaryFolder folder_;
  std::string path_ = folder_.path() + "/a.tar";
};

TEST_F(TarTest, MembersInOrder) {
  Bytes tar;
  append_tar_member(tar, {"./cat/", '5'});
  append_tar_member(tar, {"./cat/1.jpg"}, bytes_of("one"));
  append_tar_member(tar, {"cat/empty.jpg"});
  append_tar_member(tar, {"cat/2.jpg"}, Bytes(512, 'x'));
  append_tar_member(tar, {"cat/old.jpg", '\0', "", std::string(8, '\0')}, bytes_of("before ustar"));
  append_tar_member(tar, {"cat/link.jpg", '2', "00000001000"});  // a link's size says nothing
  append_tar_member(tar, {"1.jpg", '0', "", std::string("ustar\0", 6) + "00", "a/long/prefix"}, bytes_of("two"));
  append_tar_end(tar);
  tar.resize(tar.size() + 512, 'j');  // what follows the mark is nobody's, unless it is a member
  const Members members = walk(tar);
  ASSERT_EQ(members.size(), 7u);
  EXPECT_EQ(members[0].type, TarMember::Type::kFolder);
  EXPECT_EQ(members[0].name, "cat/");
  EXPECT_EQ(members[1].name, "cat/1.jpg");
  EXPECT_EQ(contents(members[1]), "one");
  EXPECT_EQ(members[2].size, 0u);
  EXPECT_EQ(contents(members[3]), std::string(512, 'x'));
  EXPECT_EQ(contents(members[4]), "before ustar");
  EXPECT_EQ(members[5].type, TarMember::Type::kLink);
  EXPECT_EQ(members[6].name, "a/long/prefix/1.jpg");
  EXPECT_EQ(contents(members[6]), "two");
}

TEST_F(TarTest, LongNamesOfGnuAndPax) {
  const std::string long_name = std::string(200, 'd') + "/" + std::string(90, 'f') + ".jpg";
  Bytes tar;
  append_tar_member(tar, {"././@LongLink", 'L'}, bytes_of(long_name + '\0'));
  append_tar_member(tar, {long_name}, bytes_of("gnu"));
  append_tar_member(tar, {"PaxHeaders/x", 'x'}, bytes_of("17 comment=a=b\nc\n16 path=p/q.jpg\n"));
  append_tar_member(tar, {"short"}, bytes_of("pax"));
  append_tar_member(tar, {"PaxGlobal", 'g'}, bytes_of("13 comment=x\n"));
  append_tar_member(tar, {"plain.jpg"}, bytes_of("plain"));
  append_tar_end(tar);
  const Members members = walk(tar);
  ASSERT_EQ(members.size(), 3u);
  EXPECT_EQ(members[0].name, long_name);
  EXPECT_EQ(contents(members[0]), "gnu");
  EXPECT_EQ(members[1].name, "p/q.jpg");
  EXPECT_EQ(contents(members[1]), "pax");
  EXPECT_EQ(members[2].name, "plain.jpg");
}

TEST_F(TarTest, SizesInPaxAndBase256) {
  Bytes tar;
  append_tar_member(tar, {"pax", 'x'}, bytes_of("9 size=3\n"));
  append_tar_member(tar, {"a", '0', "00000000000"}, {});
  tar.insert(tar.end(), {'a', 'b', 'c'});
  tar.resize(tar.size() + 509);
  std::string base256("\x80\0\0\0\0\0\0\0\0\0\0\x04", 12);
  append_tar_member(tar, {"b", '0', base256}, bytes_of("four"));
  append_tar_member(tar, {"c"}, bytes_of("last"));
  append_tar_end(tar);
  const Members members = walk(tar);
  ASSERT_EQ(members.size(), 3u);
  EXPECT_EQ(contents(members[0]), "abc");
  EXPECT_EQ(contents(members[1]), "four");
  EXPECT_EQ(contents(members[2]), "last");
}

// Contents behind a hole of 9 GiB: only the headers are read.
TEST_F(TarTest, MembersAboveEightGibibytes) {
  const uint64_t size = uint64_t{9} << 30;
  std::string base256("\x80\0\0\0\0\0\0\0\0\0\0\0", 12);
  base256[7] = 2;
  base256[8] = 0x40;
  Bytes tar, rest;
  append_tar_member(tar, {"big", '0', base256});
  append_tar_member(rest, {"after"}, bytes_of("x"));
  append_tar_end(rest);
  write_bytes(path_, tar);
  std::filesystem::resize_file(path_, 512 + size);
  std::ofstream(path_, std::ios::binary | std::ios::app)
      .write(reinterpret_cast<char*>(rest.data()), static_cast<std::streamsize>(rest.size()));
  Members members;
  walk_tar(RandomAccessFile(path_), [&](const TarMember& member) { members.push_back(member); });
  ASSERT_EQ(members.size(), 2u);
  EXPECT_EQ(members[0].size, size);
  EXPECT_EQ(members[1].offset, 512 + size + 512);
}

TEST_F(TarTest, ATarInsideATar) {
  Bytes inner, outer;
  append_tar_member(inner, {"1.jpg"}, bytes_of("one"));
  append_tar_end(inner);
  append_tar_member(outer, {"first"}, bytes_of("x"));
  append_tar_member(outer, {"n01.tar"}, inner);
  append_tar_end(outer);
  const TarMember member = walk(outer).at(1);
  const RandomAccessFile file(path_);
  Members members;
  walk_tar(file, member.offset, member.offset + member.size, "n01.tar",
           [&](const TarMember& found) { members.push_back(found); });
  ASSERT_EQ(members.size(), 1u);
  EXPECT_EQ(contents(members[0]), "one");
  // The inner tar file has an end of its own: what follows in the outer one does not count.
  expect_error([&] { walk_tar(file, member.offset, member.offset + 1024, "n01.tar", [](const TarMember&) {}); },
               {"n01.tar", "truncated", "at byte 1024"});
}

TEST_F(TarTest, EveryTruncationIsAnError) {
  Bytes tar;
  append_tar_member(tar, {"././@LongLink", 'L'}, bytes_of(std::string(150, 'n')));
  append_tar_member(tar, {"n"}, Bytes(700, 'x'));
  append_tar_member(tar, {"m"}, bytes_of("y"));
  const size_t marked = tar.size() + 512;  // one block of zeros is enough
  append_tar_end(tar);
  EXPECT_EQ(walk(tar).size(), 2u);
  for (size_t size = 0; size < marked; size += 64)
    expect_error([&] { walk({tar.begin(), tar.begin() + static_cast<std::ptrdiff_t>(size)}); }, {path_, "tar file"});
  EXPECT_EQ(walk({tar.begin(), tar.begin() + static_cast<std::ptrdiff_t>(marked)}).size(), 2u);
}

TEST_F(TarTest, ConcatenatedTarFiles) {
  Bytes tar, second;
  append_tar_member(tar, {"a"}, bytes_of("x"));
  append_tar_end(tar);
  append_tar_member(second, {"b"}, bytes_of("y"));
  append_tar_end(second);
  for (const size_t padding : {0, 512, 8192}) {
    Bytes both = tar;
    both.resize(both.size() + padding);
    EXPECT_EQ(walk(both).size(), 1u);
    both.insert(both.end(), second.begin(), second.end());
    expect_error([&] { walk(both); }, {path_, "another tar file follows", join("at byte ", tar.size() + padding)});
  }
}

TEST_F(TarTest, WhatIsNoTarFile) {
  expect_error([&] { walk(bytes_of(std::string(2000, 'j'))); }, {path_, "not a tar file"});
  expect_error([&] { walk({}); }, {path_, "not a tar file", "empty"});
  expect_error([&] { RandomAccessFile(folder_.path() + "/none"); }, {"/none", "No such file"});
  expect_error([&] { RandomAccessFile file(folder_.path()); }, {folder_.path(), "not a regular file"});
}

TEST_F(TarTest, WrongChecksum) {
  Bytes tar;
  append_tar_member(tar, {"a"}, bytes_of("x"));
  append_tar_member(tar, {"b"}, bytes_of("y"));
  append_tar_end(tar);
  tar[1024] ^= 1;
  expect_error([&] { walk(tar); }, {path_, "wrong checksum", "at byte 1024"});
}

TEST_F(TarTest, HostileHeaders) {
  const auto expect = [&](const TarHeader& header, const std::string& text, const char* message) {
    Bytes tar;
    append_tar_member(tar, header, bytes_of(text));
    append_tar_member(tar, {"next"}, bytes_of("x"));
    append_tar_end(tar);
    expect_error([&] { walk(tar); }, {path_, message});
  };
  expect({"a", '0', "77777777777"}, "", "has 8589934591 bytes, but only");
  expect({"a", '0', "0000abc"}, "", "no octal number");
  expect({"a", '0', std::string(12, '\xff')}, "", "negative");
  expect({"a", '0', "\x80" + std::string(11, '\xff')}, "", "8 EiB");
  expect({"a", 'L', "00010000000"}, "", "but only");
  expect({"a", 'x'}, "999999999999999999999 path=a\n", "pax header");
  expect({"a", 'x'}, "0 path=a\n", "pax header");
  expect({"a", 'x'}, "11 path=abc", "pax header");
  expect({"a", 'x'}, "nonsense", "pax header");
  expect({"a", 'x'}, "11 size=-1\n", "pax size");
  expect({"a", 'x'}, "29 size=99999999999999999999\n", "pax");
  expect({"a", 'S'}, "", "sparse");
}

// Damage anywhere gives an error or a member list, never a crash or a read beyond the end.
TEST_F(TarTest, FlippedBytes) {
  Bytes tar;
  append_tar_member(tar, {"pax", 'x'}, bytes_of("16 path=p/q.jpg\n"));
  append_tar_member(tar, {"a"}, bytes_of("x"));
  append_tar_end(tar);
  size_t refused = 0;
  for (size_t at = 0; at < 2048; ++at) {
    Bytes damaged = tar;
    damaged[at] ^= 0x35;
    if (at < 512) set_tar_checksum(damaged.data());
    try {
      for (const TarMember& member : walk(damaged)) EXPECT_LE(member.offset + member.size, damaged.size());
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 512u);  // at least every byte of the second header
}

TEST_F(TarTest, WriterAndReaderAgree) {
  const Bytes one = bytes_of("one"), block(512, 'b');
  TarWriter writer(path_);
  const uint64_t first = writer.add("0.jpg", one.data(), one.size());
  const uint64_t second = writer.add(std::string(100, 'n'), block.data(), block.size());
  writer.add("empty", nullptr, 0);
  const uint64_t size = writer.finish();
  EXPECT_EQ(size, std::filesystem::file_size(path_));
  Members members;
  walk_tar(RandomAccessFile(path_), [&](const TarMember& member) { members.push_back(member); });
  ASSERT_EQ(members.size(), 3u);
  EXPECT_EQ(members[0].offset, first);
  EXPECT_EQ(members[1].offset, second);
  EXPECT_EQ(members[1].name, std::string(100, 'n'));
  EXPECT_EQ(contents(members[0]), "one");
  expect_error([] { TarWriter("/no/such/folder/a.tar"); }, {"/no/such/folder/a.tar", "cannot write"});
}

// Bit-equal with what the system's tar reads, whatever its dialect writes.
TEST_F(TarTest, SystemTarReadsWhatIsWritten) {
  const Bytes one = bytes_of("one");
  TarWriter writer(path_);
  writer.add("dir/1.jpg", one.data(), one.size());
  writer.finish();
  ASSERT_EQ(std::system(("tar xf " + path_ + " -C " + folder_.path()).c_str()), 0);
  EXPECT_EQ(read_file(folder_.path() + "/dir/1.jpg"), one);
  for (const char* format : {"v7", "ustar", "gnu", "pax"}) {
    ASSERT_EQ(std::system(("cd " + folder_.path() + " && tar cf b.tar --format=" + format + " ./dir").c_str()), 0);
    Members members;
    walk_tar(RandomAccessFile(folder_.path() + "/b.tar"), [&](const TarMember& m) { members.push_back(m); });
    ASSERT_EQ(members.size(), 2u) << format;
    EXPECT_EQ(members[1].name, "dir/1.jpg") << format;
    EXPECT_EQ(members[1].size, 3u) << format;
  }
}

TEST(FilePool, HoldsAPartOfWhatTheProcessMayOpen) {
  EXPECT_GE(default_open_files(), 64u);
  EXPECT_LE(default_open_files(), 4096u);
  struct rlimit before {};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  struct rlimit fewer = before;
  fewer.rlim_cur = std::min<rlim_t>(before.rlim_max, 400);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &fewer), 0);
  EXPECT_EQ(default_open_files(), std::max<size_t>(64, fewer.rlim_cur / 4));
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
}

TEST(FilePool, ManyFilesManyThreadsFewDescriptors) {
  const TemporaryFolder folder;
  std::vector<std::string> paths;
  for (int i = 0; i < 50; ++i) {
    paths.push_back(join(folder.path(), "/", i));
    write_bytes(paths.back(), Bytes(100, static_cast<uint8_t>(i)));
  }
  const FilePool pool(paths, 4);
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (size_t i = 0; i < 500; ++i) {
        const size_t file = (i * 7 + static_cast<size_t>(t)) % paths.size();
        const Bytes bytes = pool.open(file)->read(i % 90, 10);
        if (bytes != Bytes(10, static_cast<uint8_t>(file))) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(pool.open_count(), 4u);
  expect_error([&] { pool.open(3)->read(95, 10); }, {paths[3], "beyond the end"});
}

}  // namespace
}  // namespace riffle
