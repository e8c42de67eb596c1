// Parsers of data sets: image files, tar files, labels, indexes. Most read files, so inputs go to one first.
#include <zlib.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "core/check.h"
#include "data/image.h"
#include "data/label_files.h"
#include "data/listing.h"
#include "data/pack_index.h"
#include "data/probe.h"
#include "data/quick_decode.h"
#include "data/sources.h"
#include "data/tar.h"
#include "tests/fuzz/parsers.h"

namespace riffle {
namespace {

namespace fs = std::filesystem;
using Seeds = std::map<std::string, Bytes>;

constexpr size_t kLargestSeed = 5000;

Bytes bytes_of(const std::string& text) {
  return {text.begin(), text.end()};
}

// A new file each time: ext4 brings the contents of a file that is overwritten to the disk at once.
void write(const std::string& path, const Bytes& bytes) {
  fs::remove(path);
  std::ofstream out(path, std::ios::binary);
  out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  if (!out.flush()) fail("cannot write ", path);
}

// A folder of this process, removed at its end.
class InputFolder {
 public:
  InputFolder() : path_((fs::temp_directory_path() / "riffle-fuzz-XXXXXX").string()) {
    if (mkdtemp(path_.data()) == nullptr) fail("cannot make a temporary folder like ", path_);
  }
  InputFolder(const InputFolder&) = delete;
  InputFolder& operator=(const InputFolder&) = delete;
  ~InputFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  std::string file(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

const InputFolder& input_folder() {
  static const InputFolder folder;
  return folder;
}

std::string input_file(const std::string& name, const Bytes& input) {
  const std::string path = input_folder().file(name);
  write(path, input);
  return path;
}

Seeds fixtures(const std::string& folder, const std::string& extension) {
  Seeds seeds;
  for (const auto& entry : fs::directory_iterator(fs::path(RIFFLE_SOURCE_DIR) / "tests" / "fixtures" / folder)) {
    if (entry.path().extension() != extension || entry.file_size() > kLargestSeed) continue;
    seeds[entry.path().filename().string()] = read_file(entry.path().string());
  }
  return seeds;
}

// What a data set does with a listing.
void use(const Listing& listing) {
  for (size_t i = 0; i < listing.samples.size(); ++i) {
    listing.name(i);
    listing.original(i);
    static_cast<void>(listing.classes.at(static_cast<size_t>(listing.samples[i].label)));
  }
}

// --- jpeg, png -------------------------------------------------------------------------------------------------------

// The middle of a JPEG, where it can be decoded in part.
void run_partial(const Bytes& input, int channels) {
  PartialJpeg file(input.data(), input.size(), channels, TruncatedImages::kAccept);
  if (!file.readable()) return;
  const int height = file.height(), width = file.width();
  const CropBox crop{height / 3, width / 3, (height + 2) / 3, (width + 2) / 3};
  const DecodedCrop decoded = file.decode(crop, std::max(crop.height / 2, 1), std::max(crop.width / 2, 1), "input");
  resize_fractional(decoded.image, decoded.box, 8, 8);
}

// Files that end too early are accepted: those are decoded once more, in another way.
void run_image(const Bytes& input) {
  // Large pictures are allowed; filling them would take the time that smaller inputs make better use of.
  constexpr int64_t kMostPixels = 1 << 17;
  const ImageProbe probe = probe_image(input.data(), input.size());
  if (int64_t{probe.width} * probe.height > kMostPixels) return;
  for (const int channels : {3, 1}) {
    const Image image = decode_image(input.data(), input.size(), "input", channels, TruncatedImages::kAccept);
    const auto pixels = static_cast<size_t>(image.height) * static_cast<size_t>(image.width);
    if (image.channels != channels || pixels == 0 || image.pixels.size() != pixels * static_cast<size_t>(channels))
      std::abort();
    run_partial(input, channels);
  }
}

Seeds jpeg_seeds() {
  return fixtures("images", ".jpg");
}
Seeds png_seeds() {
  return fixtures("images", ".png");
}

// --- tar -------------------------------------------------------------------------------------------------------------

void run_tar(const Bytes& input) {
  const RandomAccessFile file(input_file("input.tar", input));
  walk_tar(file, [&](const TarMember& member) {
    if (member.type != TarMember::Type::kFile || member.size == 0) return;
    file.read(member.offset + member.size - 1, 1);  // lies in the file
  });
  use(list_tars(file.path(), {file.path()}, {"train", {"train"}}, {}));
}

Seeds tar_seeds() {
  Seeds seeds;
  const std::string path = input_folder().file("seed.tar");
  const auto written = [&path](const std::map<std::string, Bytes>& members) {
    TarWriter writer(path);
    for (const auto& [name, bytes] : members) writer.add(name, bytes.data(), bytes.size());
    writer.finish();
    return read_file(path);
  };
  const Bytes inner = written({{"a.jpg", Bytes(600, 1)}, {"b.jpg", {}}});
  seeds["inner"] = inner;
  seeds["outer"] = written({{"n01440764.tar", inner}, {"folder/x.jpg", Bytes(3, 2)}});
  seeds["webdataset"] = written({{"a.jpg", Bytes(3, 1)}, {"a.cls", bytes_of("1")}, {"b.cls", {}}, {"b.jpg", {}}});
  seeds["class folders"] = written({{"train/cat/x.jpg", Bytes(3, 2)}, {"val/cat/y.jpg", {}}});
  seeds["header alone"] = Bytes(inner.begin(), inner.begin() + 512);
  return seeds;
}

// --- labels ----------------------------------------------------------------------------------------------------------

void run_labels(const Bytes& input) {
  FlatLabelSource source;
  source.file = input_file("labels.txt", input);
  source.train_classes = [] { return std::vector<std::string>{"n01440764", "n01443537", "n01484850"}; };
  const std::vector<std::string> names{"a.JPEG", "b.JPEG", "c.JPEG"};
  const FlatLabels labels = read_flat_labels(source, names, "images");
  if (labels.labels.size() != names.size()) std::abort();
  for (const int32_t label : labels.labels)
    if (label < 0 || static_cast<size_t>(label) >= labels.classes.size()) std::abort();
}

Seeds label_seeds() {
  input_file("synsets.txt", bytes_of("1 n01440764\n2 n01443537\n3 n01484850\n"));
  return {{"caffe", bytes_of("a.JPEG 0\nb.JPEG 2\nc.JPEG 1\n")},
          {"names", bytes_of("val/a.JPEG n01443537\nb n01440764\nc.JPEG n01484850\n")},
          {"kaggle",
           bytes_of("ImageId,PredictionString\na,n01440764 1 2 3 4\nb,n01443537 1 2 3 4 \nc,n01484850 0 0 9 9\n")},
          {"tensorflow", bytes_of("n01440764\nn01484850\nn01443537\n")},
          {"devkit", bytes_of("3\n1\n2\n")}};
}

// --- matlab ----------------------------------------------------------------------------------------------------------

void run_matlab(const Bytes& input) {
  read_devkit_synsets(input_file("meta.mat", input));
}

Seeds matlab_seeds() {
  return fixtures("data", ".mat");
}

// --- pack_index, index_cache: both end with a checksum, which is made right here ------------------------------------

uint32_t crc_of(const Bytes& bytes) {
  return static_cast<uint32_t>(::crc32_z(0, bytes.data(), bytes.size()));
}

void run_pack_index(const Bytes& input) {
  input_file("shard-0.tar", Bytes(1024));
  Bytes whole = input;
  char line[16];
  std::snprintf(line, sizeof(line), "crc32 %08x\n", crc_of(input));
  whole.insert(whole.end(), line, line + 15);
  input_file(kPackIndex, whole);
  use(read_pack_index(input_folder().path()));
}

Seeds pack_index_seeds() {
  const std::string start = std::string(kPackMagic) + "\nfrom the source\nnumbered 0\nclasses 2\ncat\ndog\n";
  return {
      {"two images", bytes_of(start + "shards 1\nshard-0.tar 1024 0a0b0c0d\nimages 2\n" +
                              "0 0 512 100 deadbeef 00000001.jpg cat/a b.jpg\n1 0 700 9 00000000 2.png dog/x.png\n")},
      {"none", bytes_of(start + "shards 0\nimages 0\n")}};
}

constexpr const char* kCacheKey = "folder:/data train";

std::string cache_folder() {
  return input_folder().file("cache");
}

// The file that a listing is kept in; made by keeping one.
std::string cache_file() {
  cached_listing(cache_folder(), kCacheKey, [] {
    Listing listing;
    listing.kind = "ImageFolder";
    listing.root = "/data";
    listing.classes = {"cat", "dog"};
    listing.files = {"/data"};
    listing.add_container(0, "cat/");
    for (int64_t i = 0; i < kSmallestCached; ++i) listing.add(i % 2 == 0 ? "a" : "bb", {});
    return listing;
  });
  return fs::directory_iterator(cache_folder())->path().string();
}

void run_index_cache(const Bytes& input) {
  static const std::string path = cache_file();
  const uint32_t crc = crc_of(input);
  Bytes whole = input;
  whole.insert(whole.end(), reinterpret_cast<const uint8_t*>(&crc), reinterpret_cast<const uint8_t*>(&crc + 1));
  write(path, whole);
  bool scanned = false;
  const Listing listing = cached_listing(cache_folder(), kCacheKey, [&scanned] {
    scanned = true;
    return Listing();
  });
  if (scanned) fail("not used");
  use(listing);
}

Seeds index_cache_seeds() {
  fs::remove_all(cache_folder());
  const Bytes whole = read_file(cache_file());
  return {{"kept", Bytes(whole.begin(), whole.end() - 4)}};
}

// --- idx -------------------------------------------------------------------------------------------------------------

// The images' file, and after the mark the labels'.
void run_idx(const Bytes& input) {
  const Bytes mark = bytes_of("|labels|");
  const auto at = std::search(input.begin(), input.end(), mark.begin(), mark.end());
  const std::string images = input_file("images", Bytes(input.begin(), at));
  const auto begin = at == input.end() ? at : at + static_cast<std::ptrdiff_t>(mark.size());
  const std::string labels = input_file("labels", Bytes(begin, input.end()));
  const std::unique_ptr<Dataset> data = open_idx(images, labels, {}, 3);
  data->load(data->size() - 1);
  data->label(data->size() - 1);
}

Seeds idx_seeds() {
  Bytes images{0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  const Bytes mark = bytes_of("|labels|"), labels{0, 0, 8, 1, 0, 0, 0, 2, 0, 3};
  images.insert(images.end(), mark.begin(), mark.end());
  images.insert(images.end(), labels.begin(), labels.end());
  return {{"two", images}};
}

}  // namespace

std::vector<FuzzedParser> data_parsers() {
  constexpr int kMutations = 4000;  // each is written to a file, or decoded twice
  return {{"jpeg", run_image, jpeg_seeds, kMutations},
          {"png", run_image, png_seeds, kMutations},
          {"tar", run_tar, tar_seeds, kMutations},
          {"labels", run_labels, label_seeds, kMutations},
          {"matlab", run_matlab, matlab_seeds, kMutations},
          {"pack_index", run_pack_index, pack_index_seeds, kMutations},
          {"index_cache", run_index_cache, index_cache_seeds, kMutations},
          {"idx", run_idx, idx_seeds, kMutations}};
}

}  // namespace riffle
