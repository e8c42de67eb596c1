// Flat folders of validation images, and the files that people keep their labels in.
#include <algorithm>

#include "tests/layouts.h"

namespace riffle {
namespace {

TEST_F(Layouts, FlatValidationImagesWithEveryKindOfLabels) {
  const auto number = [](int64_t i) { return std::to_string(i % 4); };
  const std::vector<std::pair<std::string, std::string>> kinds{
      {"val.txt", lines([&](int64_t i) { return val_name(7 - i) + " " + number(7 - i); })},
      {"val/val.txt", lines([&](int64_t i) { return val_name(i) + " " + val_wnid(i); })},
      {"val_list.txt", lines([&](int64_t i) { return "val/" + val_name(i) + "\t" + number(i); })},
      {"LOC_val_solution.csv", "ImageId,PredictionString\n" + lines([&](int64_t i) {
                                 return val_name(i).substr(0, 23) + "," + val_wnid(i) + " 85 1 499 272 " + val_wnid(i) +
                                        " 1 2 3 4 ";
                               })},
      {"imagenet_2012_validation_synset_labels.txt", lines([](int64_t i) { return val_wnid(i); })},
  };
  for (const auto& [name, text] : kinds) {
    const std::string root = make_flat();
    expect_error([&] { open(root, "val"); }, {root + "/val", "no file that labels them", "val.txt"});
    const std::string labels = join(root, "/", name);
    write_text(labels, text);
    expect_same(*open(root, "val"), "val");
    expect_same(*open("folder:" + root, "test"), "val");
    DatasetOptions given;
    given.val_labels = temporary_.path() + "/labels";
    fs::copy_file(labels, given.val_labels, fs::copy_options::overwrite_existing);
    fs::remove(labels);
    expect_same(*open(root, "val", given), "val");
  }
}

TEST_F(Layouts, LabelFilesOfWindowsAndNamesWithBlanks) {
  const std::string root = make_flat();
  std::string text = "\xEF\xBB\xBF";
  for (int64_t i = 0; i < 8; ++i) {
    fs::rename(join(root, "/val/", val_name(i)), join(root, "/val/my image ", i, ".jpg"));
    text += join("val/my image ", i, ".jpg", i % 2 == 0 ? " " : "\t ", val_wnid(i), " \r\n");
  }
  write_text(root + "/val.txt", text);
  expect_same(*open(root, "val"), "val");
  fs::remove(root + "/val.txt");
  text = "\xEF\xBB\xBFImageId,PredictionString\r\n";
  for (int64_t i = 0; i < 8; ++i) text += join("my image ", i, ",", val_wnid(i), " 1 2 3 4\r\n");
  write_text(root + "/LOC_val_solution.csv", text);
  expect_same(*open(root, "val"), "val");
}

TEST_F(Layouts, LabelsThatAreNotUsed) {
  DatasetOptions options;
  options.val_labels = temporary_.path() + "/labels.txt";
  write_text(options.val_labels, "x 1\n");
  expect_same(*open(folders_, "train", options), "train");
  expect_error([&] { open(folders_, "val", options); },
               {options.val_labels, "not used", "ImageFolder", "--val-labels"});
}

TEST_F(Layouts, FlatFolderAlone) {
  const std::string root = make_flat();
  fs::rename(root + "/val", root + "/pictures");
  write_text(root + "/pictures/val.txt", lines([](int64_t i) { return val_name(i) + " " + val_wnid(i); }));
  expect_same(*open(root + "/pictures", "val"), "val");
  // Numbers without training data: the classes stay numbers until somebody names them.
  write_text(root + "/pictures/val.txt", lines([](int64_t i) { return val_name(i) + " " + std::to_string(i % 4); }));
  expect_same(*open(root + "/pictures", "val"), "val", {"0", "1", "2", "3"});
  DatasetOptions named;
  named.classes = kWnids;
  expect_same(*open(root + "/pictures", "val", named), "val");
}

// Three of the four classes: ids in an order of their own, and higher ones that are groups of classes.
TEST_F(Layouts, DevkitGroundTruth) {
  const std::string root = make_flat();
  const std::string file = root + "/ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt";
  write_text(file, lines([](int64_t i) { return std::to_string(4 - i % 4); }));
  expect_error([&] { open(root, "val"); }, {file, "ILSVRC2012_IDs", "meta.mat", "synsets.txt"});
  std::string synsets;
  for (int id = 4; id > 0; --id) synsets += join(id, " ", kWnids[static_cast<size_t>(4 - id)], " some name\n");
  write_text(root + "/ILSVRC2012_devkit_t12/data/synsets.txt", synsets);
  expect_same(*open(root, "val"), "val");
  write_text(file, lines([](int64_t i) { return std::to_string(i + 1); }));
  expect_error([&] { open(root, "val"); }, {file, "label 5", "1 to 4"});
}

// By scipy (scripts/goldens/make_meta_mat.py); the ids are those of the test above.
TEST_F(Layouts, DevkitMetaMat) {
  for (const char* fixture : {"meta.mat", "meta_uncompressed.mat"}) {
    const std::string root = make_flat();
    write_text(root + "/ILSVRC2012_validation_ground_truth.txt",
               lines([](int64_t i) { return std::to_string(4 - i % 4); }));
    const std::string file = std::string(RIFFLE_SOURCE_DIR) + "/tests/fixtures/data/" + fixture;
    EXPECT_EQ(read_devkit_synsets(file), (Strings{kWnids[3], kWnids[2], kWnids[1], kWnids[0]}));
    fs::copy_file(file, root + "/meta.mat");
    expect_same(*open(root, "val"), "val");
    const Bytes bytes = read_file(file);
    for (size_t size = 0; size < bytes.size() - 300; size += 61) {
      write_bytes(root + "/meta.mat", {bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size)});
      expect_error([&] { read_devkit_synsets(root + "/meta.mat"); }, {root + "/meta.mat"});
    }
  }
}

TEST_F(Layouts, KaggleTree) {
  const std::string flat = make_flat(), root = temporary_.path() + "/kaggle", images = root + "/ILSVRC/Data/CLS-LOC";
  fs::create_directories(images);
  fs::rename(flat + "/train", images + "/train");
  fs::rename(flat + "/val", images + "/val");
  write_file(images + "/test/ILSVRC2012_test_00000001.JPEG", image_bytes(0));
  write_text(root + "/LOC_val_solution.csv", "ImageId,PredictionString\n" + lines([](int64_t i) {
                                               return val_name(i).substr(0, 23) + "," + val_wnid(i) + " 1 2 3 4";
                                             }));
  for (const std::string& spec : {root, "folder:" + root, root + "/ILSVRC"}) {
    expect_same(*open(spec, "train"), "train");
    expect_same(*open(spec, "val"), "val");
    expect_same(*open(spec, "test"), "val");
  }
}

TEST_F(Layouts, LabelMistakes) {
  const auto expect = [&](const std::string& text, const Strings& parts) {
    const std::string root = make_flat();
    write_text(root + "/val.txt", text);
    expect_error([&] { open(root, "val"); }, parts);
  };
  expect("", {"val.txt", "empty"});
  expect("other.JPEG 1\n", {"no label for ILSVRC2012_val_00000001.JPEG"});
  expect("n01440764\nn01440764\n", {"2 labels", "8 images"});
  expect(lines([](int64_t i) { return val_name(i) + " " + std::to_string(i); }), {"label 7", "4 classes"});
  expect("a b c\n", {"no label for ILSVRC2012_val_00000001.JPEG"});
  expect("a b\nc\n", {"line 'c'", "expected image and label"});
  expect("a.JPEG 1\nb 2\nval/a.png 2\n", {"labels 'a' twice, as 1 and as 2"});
  expect("ImageId,PredictionString\na,x 1\na,y 1\n", {"labels 'a' twice, as x and as y"});
  expect(lines([](int64_t i) { return val_name(i) + " 999999999"; }), {"val.txt", "label 999999999", "0 to 1048575"});
  expect("ImageId,PredictionString\nnonsense\n", {"line 2", "'nonsense'"});
}

TEST_F(Layouts, NumericClassNamesWarn) {
  const std::string root = temporary_.path() + "/numbers";
  for (const char* name : {"0", "1", "2", "10"}) write_file(join(root, "/", name, "/a.jpg"), image_bytes(0));
  const auto data = open(root, "train");
  EXPECT_EQ(data->classes(), (Strings{"0", "1", "10", "2"}));
  ASSERT_EQ(data->warnings().size(), 1u);
  expect_contains_all(data->warnings()[0], {root, "'10' is class 2", "'2' class 3", "data.class_names"});
  DatasetOptions named;
  named.classes = {"0", "1", "2", "10"};
  EXPECT_EQ(open(root, "train", named)->label(3), 2);
  fs::rename(root + "/10", root + "/9");
  EXPECT_TRUE(open(root, "train")->warnings().empty());
}

}  // namespace
}  // namespace riffle
