// include: in a configuration: which value wins, paths, and what is said of files that cannot be included.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "core/check.h"
#include "train/config_reader.h"

namespace riffle {
namespace {

class ConfigInclude : public testing::Test {
 protected:
  ConfigInclude() { std::filesystem::create_directories(folder_ + "/base"); }

  // Returns the path.
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ + "/" + name) << text;
    return folder_ + "/" + name;
  }
  std::string error_of(const std::string& path, const std::vector<std::string>& overrides = {}) const {
    try {
      read_config(path, overrides);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUsage);
      return error.what();
    }
    return "no error";
  }

  const std::string folder_ = testing::TempDir() + "riffle_include";
};

TEST_F(ConfigInclude, TheIncludingFileWinsWhereverTheKeyStands) {
  write("base/a.yaml", "schedule: {lr: 0.1, warmup: 2ep}\ntrain: {batch: 32}\n");
  const Config config = read_config(write("x.yaml", "schedule: {lr: 0.3}\ninclude: base/a.yaml\n"), {"train.batch=16"});
  EXPECT_EQ(config.schedule.lr, 0.3);
  EXPECT_EQ(config.schedule.warmup.text(), "2ep");
  EXPECT_EQ(config.train.batch, 16);
  EXPECT_EQ(to_yaml(config).find("include"), std::string::npos);
}

TEST_F(ConfigInclude, TheLaterOfSeveralFilesWinsAndListsAreReplaced) {
  write("base/common.yaml", "schedule: {lr: 0.7}\naugment: {transforms: [random_resized_crop, flip]}\n");
  write("base/a.yaml", "include: common.yaml\nschedule: {lr: 0.1}\ntrain: {batch: 32, seed: 5}\n");
  write("base/b.yaml", "include: common.yaml\ntrain: {batch: 64}\n");
  const Config config = read_config(
      write("x.yaml", "include:\n  - base/a.yaml\n  - base/b.yaml\naugment: {transforms: [center_crop]}\n"), {});
  EXPECT_EQ(config.schedule.lr, 0.7);  // b.yaml includes common.yaml again, after a.yaml
  EXPECT_EQ(config.train.batch, 64);
  EXPECT_EQ(config.train.seed, 5u);
  EXPECT_EQ(config.augment.transforms.size(), 1u);
}

TEST_F(ConfigInclude, MessagesNameTheFileThatTheyAreAbout) {
  const std::string base = write("base/wrong.yaml", "train:\n  batch: 8\n  bacth: 3\n");
  EXPECT_EQ(error_of(write("x.yaml", "include: base/wrong.yaml\n")),
            base + ":3:3: unknown key 'train.bacth'; did you mean 'train.batch'?");
  // Two values that do not go together: the one to change may be in either file.
  write("base/sgd.yaml", "optimizer: {nesterov: true}\n");
  const std::string path = write("y.yaml", "include: base/sgd.yaml\noptimizer:\n  momentum: 0\n");
  EXPECT_EQ(error_of(path).rfind(path + ":3:13: optimizer.nesterov is true", 0), 0u) << error_of(path);
}

TEST_F(ConfigInclude, FilesThatCannotBeRead) {
  const std::string path = write("x.yaml", "train: {batch: 3}\ninclude: [base/none.yaml]\n");
  EXPECT_EQ(error_of(path), path + ":2:11: include: " + folder_ +
                                "/base/none.yaml: cannot open the configuration: No such file or directory");
  const std::string to_folder = write("y.yaml", "include: base\n");
  EXPECT_EQ(error_of(to_folder),
            to_folder + ":1:10: include: " + folder_ + "/base: is a folder; expected a YAML configuration file");
}

TEST_F(ConfigInclude, Cycles) {
  const std::string a = write("a.yaml", "include: b.yaml\n"), b = write("b.yaml", "include: ./base/../a.yaml\n");
  EXPECT_EQ(error_of(a), b + ":1:10: " + a + " includes itself: " + a + " -> " + b + " -> " + a);
  const std::string self = write("self.yaml", "include: self.yaml\n");
  EXPECT_EQ(error_of(self), self + ":1:10: " + self + " includes itself: " + self + " -> " + self);
  const std::string linked = write("linked.yaml", "include: link.yaml\n");
  std::filesystem::remove(folder_ + "/link.yaml");
  std::filesystem::create_symlink("linked.yaml", folder_ + "/link.yaml");
  EXPECT_EQ(error_of(linked), linked + ":1:10: " + linked + " includes itself: " + linked + " -> " + linked);
}

TEST_F(ConfigInclude, ValuesThatAreNoFiles) {
  const std::string expected = "; expected a file such as base.yaml, or a list of files";
  const std::string empty = write("empty.yaml", "include:\n");
  EXPECT_EQ(error_of(empty), empty + ":1:1: include is empty" + expected);
  const std::string map = write("map.yaml", "include: [{file: a.yaml}]\n");
  EXPECT_EQ(error_of(map), map + ":1:11: include is a mapping" + expected);
  write("base/a.yaml", "train: {batch: 3}\n");
  const std::string twice = write("twice.yaml", "include: base/a.yaml\ninclude: base/a.yaml\n");
  EXPECT_EQ(error_of(twice), twice + ":2:1: duplicate key 'include'; it is already at " + twice + ":1:1");
  EXPECT_EQ(error_of(write("none.yaml", ""), {"include=base.yaml"}),
            "override 'include=base.yaml': include belongs into a file; name the file that includes the other");
}

}  // namespace
}  // namespace riffle
