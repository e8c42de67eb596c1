// Writing a checkpoint either replaces the old file or leaves it as it was, and never leaves a temporary file: with a
// full disk, without permission, and under a reader's eyes.
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <vector>

#include "tests/checkpoint_files.h"
#include "tests/file_size_limit.h"
#include "train/checkpoint/file_io.h"
#include "train/checkpoint/numpy.h"
#include "train/checkpoint/safetensors.h"

namespace riffle {
namespace {

CheckpointFile of_size(int64_t elements, float value) {
  CheckpointFile file;
  file.tensors["w"] = f32_tensor({elements}, std::vector<float>(static_cast<size_t>(elements), value));
  return file;
}

class Atomic : public ::testing::Test {
 protected:
  void SetUp() override {
    write_safetensors(path_, of_size(10, 1));
    before_ = file_bytes(path_);
  }

  void expect_untouched() {
    EXPECT_EQ(folder_.listing(), std::vector<std::string>{"last.safetensors"});
    EXPECT_EQ(file_bytes(path_), before_);
  }

  TemporaryFolder folder_;
  const std::string path_ = folder_.file("last.safetensors");
  std::string before_;
};

TEST_F(Atomic, ReplacesTheOldFile) {
  write_safetensors(path_, of_size(20, 2));
  EXPECT_EQ(read_safetensors(path_).tensors.at("w").elements(), 20);
  EXPECT_EQ(folder_.listing(), std::vector<std::string>{"last.safetensors"});
}

TEST_F(Atomic, AFullDiskLeavesTheOldFile) {
  for (const rlim_t limit : {rlim_t{16}, rlim_t{100'000}}) {  // inside the header; inside the data
    std::string message;
    {
      const FileSizeLimit full(limit);
      message = message_of([&] { write_safetensors(path_, of_size(1'000'000, 2)); });
    }
    expect_message(message, {path_, "File too large", "previous file, if any, is unchanged"});
    expect_untouched();
  }
}

TEST_F(Atomic, AppendsAllOrNothing) {
  const std::string path = folder_.file("log");
  append_to_file(path, "one\n");
  append_to_file(path, "two\n");
  for (const size_t room : {0, 1, 5}) {
    std::string message;
    {
      const FileSizeLimit full(8 + room);
      message = message_of([&] { append_to_file(path, "three\n"); });
    }
    EXPECT_EQ(message, "cannot write " + path + ": File too large");
    EXPECT_EQ(file_bytes(path), "one\ntwo\n") << "with room for " << room;
  }
  append_to_file(path, "three\n");
  EXPECT_EQ(file_bytes(path), "one\ntwo\nthree\n");
  EXPECT_EQ(message_of([] { append_to_file("/dev/full", "x"); }), "cannot write /dev/full: No space left on device");
  expect_message(message_of([&] { append_to_file(folder_.file("absent/log"), "x"); }), {"absent/log", "No such file"});
}

TEST_F(Atomic, AFullFileSystemLeavesTheOldFile) {
  const std::string mount_point = folder_.file("small");
  std::filesystem::create_directory(mount_point);
  if (mount("tmpfs", mount_point.c_str(), "tmpfs", 0, "size=64k") != 0) GTEST_SKIP() << "needs the right to mount";
  const std::string path = mount_point + "/last.safetensors";
  write_safetensors(path, of_size(10, 1));
  const std::string message = message_of([&] { write_safetensors(path, of_size(100'000, 2)); });
  const std::string after = file_bytes(path);
  const auto entries = std::distance(std::filesystem::directory_iterator(mount_point), {});
  ASSERT_EQ(umount(mount_point.c_str()), 0);
  expect_message(message, {path, "No space left on device", "free some space", "is unchanged"});
  EXPECT_EQ(after, before_);
  EXPECT_EQ(entries, 1);
}

TEST_F(Atomic, AReadOnlyFolderIsNamed) {
  // Permissions do not bind root: drop to another user for the attempt.
  const bool root = geteuid() == 0;
  ASSERT_EQ(chmod(folder_.path().c_str(), 0555), 0);
  if (root) {
    ASSERT_EQ(seteuid(65534), 0);
  }
  const std::string message = message_of([&] { write_safetensors(path_, of_size(20, 2)); });
  if (root) {
    ASSERT_EQ(seteuid(0), 0);
  }
  ASSERT_EQ(chmod(folder_.path().c_str(), 0755), 0);
  expect_message(message, {path_, folder_.path(), "Permission denied"});
  expect_untouched();
}

TEST_F(Atomic, AMissingFolderIsNamed) {
  const std::string path = folder_.file("absent/last.safetensors");
  expect_message(message_of([&] { write_safetensors(path, of_size(1, 1)); }),
                 {path, folder_.file("absent"), "does not exist"});
}

TEST_F(Atomic, AFolderIsNotOverwritten) {
  std::filesystem::create_directory(folder_.file("taken"));
  expect_message(message_of([&] { write_safetensors(folder_.file("taken"), of_size(1, 1)); }),
                 {"taken", "it is a folder"});
  EXPECT_EQ(folder_.listing(), (std::vector<std::string>{"last.safetensors", "taken"}));
}

TEST_F(Atomic, AnAbandonedWriteLeavesNothing) {
  {
    AtomicFile file(path_);
    file.write("half", 4);
    EXPECT_EQ(folder_.listing().size(), 2u);
  }
  expect_untouched();
}

TEST_F(Atomic, ATemporaryFileOfADeadProcessIsReplaced) {
  write_bytes(join(path_, ".tmp-", getpid()), "rubbish");
  write_safetensors(path_, of_size(20, 2));
  EXPECT_EQ(folder_.listing(), std::vector<std::string>{"last.safetensors"});
  EXPECT_EQ(read_safetensors(path_).tensors.at("w").elements(), 20);
}

TEST_F(Atomic, WorksInTheCurrentFolder) {
  const std::filesystem::path old = std::filesystem::current_path();
  std::filesystem::current_path(folder_.path());
  write_safetensors("last.safetensors", of_size(20, 2));
  std::filesystem::current_path(old);
  EXPECT_EQ(read_safetensors(path_).tensors.at("w").elements(), 20);
}

TEST_F(Atomic, AKilledWriterLeavesTheOldFile) {
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    AtomicFile file(path_);
    file.write("half", 4);
    raise(SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(file_bytes(path_), before_);
}

TEST_F(Atomic, AReaderSeesOneWholeFileOrTheOther) {
  constexpr int64_t kElements = 50'000;
  write_safetensors(path_, of_size(kElements, 0));
  std::thread writer([&] {
    for (int i = 1; i <= 20; ++i) write_safetensors(path_, of_size(kElements, static_cast<float>(i)));
  });
  float last = 0;
  while (last < 20 && !HasFailure()) {
    const std::vector<float> values = values_of<float>(read_safetensors(path_).tensors.at("w"));
    EXPECT_EQ(values, std::vector<float>(kElements, values.at(0)));
    EXPECT_GE(values.at(0), last);
    last = values.at(0);
  }
  writer.join();
}

TEST_F(Atomic, NumpyFilesAreAtomicToo) {
  const std::string path = folder_.file("logits.npy");
  write_npy(path, f32_tensor({2}, {1, 2}));
  const std::string before = file_bytes(path);
  std::string message;
  {
    const FileSizeLimit full(64);
    message = message_of([&] { write_npy(path, f32_tensor({100}, std::vector<float>(100))); });
  }
  expect_message(message, {path, "File too large"});
  EXPECT_EQ(file_bytes(path), before);
  EXPECT_EQ(folder_.listing(), (std::vector<std::string>{"last.safetensors", "logits.npy"}));
}

}  // namespace
}  // namespace riffle
