// Every layout in which people keep images, made from one generated set: each must give the same images and labels.
#include <algorithm>

#include "tests/layouts.h"

namespace riffle {
namespace {

TEST_F(Layouts, OfficialTarFiles) {
  const std::string root = make_official();
  for (const std::string& spec : {root, "tar:" + root, "tar:" + root + "/ILSVRC2012_img_{split}.tar"}) {
    expect_same(*open(spec, "train"), "train");
    expect_same(*open(spec, "val"), "val");
    expect_same(*open(spec, "test"), "val");
  }
  expect_same(*open(root + "/ILSVRC2012_img_train.tar", "train"), "train");
  const auto data = open(root, "train");
  EXPECT_EQ(data->name(0), root + "/ILSVRC2012_img_train.tar:n01440764.tar/n01440764_0.JPEG");
  EXPECT_EQ(data->description(), "tar of tars " + root + "/ILSVRC2012_img_train.tar: 24 images, 4 classes");
  expect_error([&] { open(root + "/ILSVRC2012_img_train.tar", "val"); }, {"another part than 'val'", "{split}"});
  fs::remove(root + "/ILSVRC2012_img_val.tar");
  expect_error([&] { open(root, "val"); }, {root, "no tar file for 'val'"});
}

// What the loader makes of the tar of tars is byte for byte what it makes of the folders.
TEST_F(Layouts, BatchesOfTheOfficialTarFilesAreThoseOfTheFolders) {
  const std::string root = make_official();
  for (const char* split : {"train", "val"}) {
    const auto from_tar = open(root, split), from_folder = open(folders_, split);
    LoaderOptions options;
    options.batch = 5;
    options.training = std::string(split) == "train";
    options.train_transform.size = options.eval_transform.crop = 24;
    options.eval_transform.resize = 28;
    options.threads = 2;
    Loader a(*from_tar, options), b(*from_folder, options);
    for (int64_t epoch = 0; epoch < 2; ++epoch) {
      a.start_epoch(epoch);
      b.start_epoch(epoch);
      Batch x, y;
      while (a.next(x)) {
        ASSERT_TRUE(b.next(y));
        ASSERT_EQ(x.count, y.count);
        const auto bytes = static_cast<size_t>(x.count * x.height * x.width * x.channels);
        EXPECT_EQ(std::memcmp(x.images, y.images, bytes), 0);
        EXPECT_TRUE(std::equal(x.labels, x.labels + x.count, y.labels));
      }
      EXPECT_FALSE(b.next(y));
    }
  }
}

TEST_F(Layouts, ClassFoldersInOneTarFile) {
  const std::string path = temporary_.path() + "/all.tar";
  write_bytes(path, tar_of_folder(folders_, "./imagenet/"));  // imagenet/{train,val}/<wnid>/
  expect_same(*open(path, "train"), "train");
  expect_same(*open("tar:" + path, "val"), "val");
  write_bytes(path, tar_of_folder(folders_ + "/train"));  // <wnid>/
  expect_same(*open(path, "train"), "train");
  fs::rename(path, temporary_.path() + "/mine-train.tar");
  write_bytes(temporary_.path() + "/mine-test.tar", tar_of_folder(folders_ + "/val", "test/"));
  const std::string spec = "tar:" + temporary_.path() + "/mine-{split}.tar";
  expect_same(*open(spec, "train"), "train");
  expect_same(*open(spec, "val"), "val");
  expect_error([&] { open(temporary_.path() + "/mine-test.tar", "train"); }, {"another part than 'train'"});
  fs::rename(temporary_.path() + "/mine-test.tar", path);
  expect_error([&] { open(path, "train"); }, {path, "below 'test/' only"});
}

TEST_F(Layouts, OneTarFileWithFlatValidationImages) {
  const std::string path = temporary_.path() + "/all.tar";
  Bytes tar = tar_of_folder(folders_ + "/train", "x/train/");
  tar.resize(tar.size() - 1024);  // its end mark
  for (int64_t i = 0; i < 8; ++i) append_tar_member(tar, {"x/val/" + val_name(i)}, image_bytes(100 + i));
  append_tar_end(tar);
  write_bytes(path, tar);
  expect_same(*open(path, "train"), "train");
  expect_error([&] { open(path, "val"); }, {path, "in 'val/' itself", "data.val_labels", "val.txt"});
  write_text(temporary_.path() + "/val.txt",
             lines([](int64_t i) { return val_name(i) + " " + std::to_string(i % 4); }));
  expect_same(*open(path, "val"), "val");
  expect_same(*open(path, "train"), "train");
}

// macOS writes "._NAME" beside files whose attributes a tar file cannot hold.
TEST_F(Layouts, HiddenFilesInTarFiles) {
  Bytes inner, outer;
  append_tar_member(inner, {"._1.jpg"}, bytes_of("attributes"));
  append_tar_member(inner, {"1.jpg"}, image_bytes(0));
  append_tar_end(inner);
  append_tar_member(outer, {"./._cat.tar"}, bytes_of("attributes"));
  append_tar_member(outer, {"./cat.tar"}, inner);
  append_tar_end(outer);
  write_bytes(temporary_.path() + "/all.tar", outer);
  const auto data = open(temporary_.path() + "/all.tar", "train");
  EXPECT_EQ(data->size(), 1);
  EXPECT_EQ(data->classes(), Strings{"cat"});
}

// ImageNet's training tar file unpacks to these.
TEST_F(Layouts, ATarFileForEachClass) {
  const std::string root = temporary_.path() + "/unpacked";
  for (const std::string& wnid : kWnids)
    write_file(join(root, "/train/", wnid, ".tar"), tar_of_folder(folders_ + "/train/" + wnid));
  fs::copy(folders_ + "/val", root + "/val", fs::copy_options::recursive);
  expect_same(*open(root, "train"), "train");
  expect_same(*open("tar:" + root + "/train", "train"), "train");
  expect_same(*open(root, "val"), "val");
  expect_same(*open("folder:" + root, "val"), "val");
  write_text(root + "/val.txt", lines([](int64_t i) { return val_name(i) + " " + val_wnid(i); }));
  expect_same(*open(root, "train"), "train");
}

TEST_F(Layouts, TarFilesThatDoNotFit) {
  const std::string path = temporary_.path() + "/a.tar";
  Bytes tar;
  append_tar_member(tar, {"notes.txt"}, bytes_of("x"));
  append_tar_end(tar);
  write_bytes(path, tar);
  expect_error([&] { open(path, "train"); }, {path, "no images"});
  tar.clear();
  append_tar_member(tar, {"cat/1.jpg"}, image_bytes(0));
  append_tar_member(tar, {"1.jpg"}, image_bytes(0));
  append_tar_end(tar);
  write_bytes(path, tar);
  expect_error([&] { open(path, "train"); }, {path, "'1.jpg' lies in no class folder"});
  tar.clear();
  append_tar_member(tar, {"cat/1.jpg", '2'});
  append_tar_end(tar);
  write_bytes(path, tar);
  expect_error([&] { open(path, "train"); }, {path, "'cat/1.jpg' is a link"});
  tar.clear();
  append_tar_member(tar, {"1.jpg"}, image_bytes(0));
  append_tar_end(tar);
  write_bytes(path, tar);
  expect_error([&] { open(path, "train"); }, {path, "no file that labels them", "val.txt", "data.val_labels"});
  expect_error([&] { open(temporary_.path() + "/none.tar", "train"); }, {"/none.tar", "no such file"});
}

TEST_F(Layouts, WebDatasetShards) {
  const std::string root = temporary_.path() + "/shards";
  fs::create_directories(root);
  const auto folder = open(folders_, "train");
  for (int64_t shard = 0; shard < 3; ++shard) {
    Bytes tar;
    for (int64_t i = shard * 8; i < shard * 8 + 8; ++i) {
      const std::string key = join("sample", i < 10 ? "0" : "", i);
      append_tar_member(tar, {key + ".cls"}, bytes_of(join(folder->label(i), "\n")));
      append_tar_member(tar, {key + (i % 2 == 0 ? ".jpg" : ".JPEG")}, *folder->encoded(i));
      append_tar_member(tar, {key + ".json"}, bytes_of("{}"));
    }
    append_tar_end(tar);
    write_bytes(join(root, "/x-train-00", shard, ".tar"), tar);
    if (shard == 0) write_bytes(root + "/x-val-000.tar", tar);
  }
  const Strings numbers{"0", "1", "2", "3"};
  for (const std::string& spec :
       {root, "webdataset:" + root + "/x-train-{000..002}.tar", "tar:" + root + "/x-{split}-*.tar"})
    expect_same(*open(spec, "train"), "train", numbers);
  EXPECT_EQ(open(root, "val")->size(), 8);
  EXPECT_EQ(open(root, "train")->description(), "WebDataset of 3 shards " + root + ": 24 images, 4 classes");
  // Numbers take the names of whatever list is long enough.
  DatasetOptions named;
  named.classes = kWnids;
  named.classes.emplace_back("n09999999");
  expect_same(*open(root, "train", named), "train", named.classes);
  named.classes.resize(2);
  expect_error([&] { open(root, "train", named); }, {root, "labels up to 3", "2 class names"});
  expect_error([&] { open("tar:" + root + "/x-train-{000..003}.tar", "train"); }, {"x-train-003.tar", "no such file"});
  expect_error([&] { open("tar:" + root + "/x-train-{3..0}.tar", "train"); }, {"{3..0}", "no range"});
}

// A sample's label and image are KEY.cls and KEY.jpg; KEY.mask.png and KEY.top.cls are other things.
TEST_F(Layouts, WebDatasetSamplesOfManyFiles) {
  Bytes tar;
  for (int64_t i = 0; i < 3; ++i) {
    const std::string key = join("s", i);
    append_tar_member(tar, {"x/" + key + ".jpg"}, image_bytes(i));
    append_tar_member(tar, {"x/" + key + ".mask.png"}, bytes_of("mask"));
    append_tar_member(tar, {"x/" + key + ".top.cls"}, bytes_of("9"));
    append_tar_member(tar, {"x/" + key + ".cls"}, bytes_of(join(" ", 2 - i, "\r\n")));
    append_tar_member(tar, {"x/" + key + ".json"}, bytes_of("{}"));
  }
  append_tar_end(tar);
  write_bytes(temporary_.path() + "/w.tar", tar);
  const auto data = open(temporary_.path() + "/w.tar", "train");
  ASSERT_EQ(data->size(), 3);
  EXPECT_EQ(data->classes().size(), 3u);
  for (int64_t i = 0; i < 3; ++i) {
    EXPECT_EQ(data->label(i), 2 - i);
    EXPECT_EQ(*data->encoded(i), image_bytes(i));
  }
}

// A tar file for each class is one thing, shards whose labels are in other files another.
TEST_F(Layouts, ShardsWithoutClassNumbers) {
  for (const char* extension : {".json", ".txt", ".meta.json"}) {
    const std::string root = temporary_.path() + "/shards" + extension;
    for (const char* shard : {"train/0000.tar", "train/0001.tar", "val/0000.tar", "val/0001.tar"}) {
      Bytes tar;
      append_tar_member(tar, {join("a", extension)}, bytes_of("{\"label\": 3}"));
      append_tar_member(tar, {"a.jpg"}, image_bytes(0));
      append_tar_end(tar);
      write_file(root + "/" + shard, tar);
    }
    for (const char* split : {"train", "val"})
      expect_error([&] { open(root, split); },
                   {join(root, "/", split, "/0000.tar"), "samples have no .cls", "'a.jpg'"});
  }
}

TEST_F(Layouts, WebDatasetMistakes) {
  const std::string path = temporary_.path() + "/w.tar";
  const auto expect = [&](const std::vector<std::pair<std::string, std::string>>& members, const char* message) {
    Bytes tar;
    for (const auto& [name, text] : members) append_tar_member(tar, {name}, bytes_of(text));
    append_tar_end(tar);
    write_bytes(path, tar);
    expect_error([&] { open(path, "train"); }, {path, message});
  };
  expect({{"a.jpg", ""}, {"b.cls", "1"}}, "'a.jpg' has no label");
  expect({{"a.jpg", ""}, {"a.cls", "cat"}}, "expected a class number");
  expect({{"a.jpg", ""}, {"a.cls", "-1"}}, "expected a class number");
  expect({{"a.jpg", ""}, {"a.cls", "1 2"}}, "'1 2'");
  expect({{"a.jpg", ""}, {"a.cls", "999999999"}}, "class number 999999999; expected 0 to 1048575");
  expect({{"a.jpg", ""}, {"a.cls", "1"}, {"b.cls", "1"}}, "'b.cls' has no image");
  expect({{"a.jpg", ""}, {"a.png", ""}, {"a.cls", "1"}, {"b.cls", "1"}}, "'a.png' is a second image");
  expect({{"a.mask.png", ""}, {"a.cls", "1"}}, "'a.cls' has no image");
  expect({{"a.jpg", ""}, {"a.cls", "1"}, {"a.cls", "1"}}, "two labels");
}

TEST(Cifar10, BinaryVersion) {
  const TemporaryFolder folder;
  const std::string root = folder.path() + "/cifar-10-batches-bin";
  const auto record = [](uint8_t label, uint8_t red) {
    Bytes bytes{label};
    bytes.insert(bytes.end(), 1024, red);
    bytes.insert(bytes.end(), 1024, static_cast<uint8_t>(red + 1));
    bytes.insert(bytes.end(), 1024, static_cast<uint8_t>(red + 2));
    bytes[2] = 77;  // red, row 0, column 1
    return bytes;
  };
  for (int batch = 1; batch <= 5; ++batch)
    write_file(join(root, "/data_batch_", batch, ".bin"),
               record(static_cast<uint8_t>(batch), static_cast<uint8_t>(10 * batch)));
  write_file(root + "/test_batch.bin", record(9, 100));
  for (const std::string& spec : {folder.path(), root, "cifar10:" + folder.path()}) {
    const auto data = open_dataset(spec, "train", 3, {});
    ASSERT_EQ(data->size(), 5);
    EXPECT_EQ(data->classes().size(), 10u);
    EXPECT_EQ(data->label(3), 4);
    EXPECT_EQ(data->name(3), root + "/data_batch_4.bin[0]");
    const Image image = data->load(3);
    EXPECT_EQ(Bytes(image.pixels.begin(), image.pixels.begin() + 6), (Bytes{40, 41, 42, 77, 41, 42}));
    EXPECT_EQ(data->encoded(3), nullptr);
    EXPECT_EQ(open_dataset(spec, "val", 3, {})->label(0), 9);
  }
  EXPECT_EQ(open_dataset(root, "val", 1, {})->load(0).pixels.size(), 1024u);
  write_text(root + "/batches.meta.txt", "airplane\nautomobile\n");
  expect_error([&] { open_dataset(root, "val", 3, {}); }, {"test_batch.bin[0]", "label 9", "2 classes"});
  write_file(root + "/test_batch.bin", Bytes(3000));
  expect_error([&] { open_dataset(root, "val", 3, {}); }, {"test_batch.bin", "3000 bytes", "3073"});
  fs::remove(root + "/data_batch_3.bin");
  expect_error([&] { open_dataset(root, "train", 3, {}); }, {"data_batch_3.bin", "no such file"});
}

// ../shared/data/cifar10, where it is present.
TEST(Cifar10, JpegTarFiles) {
  const std::string folder = std::string(RIFFLE_SOURCE_DIR) + "/../shared/data/cifar10";
  if (!fs::is_directory(folder)) GTEST_SKIP() << folder << " is not here";
  const auto data = open_dataset(folder, "val", 3, {});
  ASSERT_EQ(data->size(), 10000);
  EXPECT_EQ(data->classes().front(), "airplane");
  EXPECT_EQ(data->name(0), folder + "/cifar10-test.tar:test/airplane/0000.jpg");
  EXPECT_EQ(data->load(9999).pixels.size(), 3072u);
  std::vector<int> counts(10);
  for (int64_t i = 0; i < data->size(); ++i) ++counts.at(static_cast<size_t>(data->label(i)));
  EXPECT_EQ(counts, std::vector<int>(10, 1000));
}

}  // namespace
}  // namespace riffle
