// Writing packed data. A shard is written under another name and renamed with its part of the index beside it, so that
// what has its right name is complete; the parts become the index at the end.
#include "data/pack.h"

#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <numeric>
#include <sstream>

#include <unistd.h>

#include "core/check.h"
#include "core/rng.h"
#include "data/encode.h"
#include "data/pack_index.h"
#include "data/parallel_indices.h"
#include "data/probe.h"
#include "data/resize.h"
#include "data/tar.h"

namespace riffle {
namespace {

namespace fs = std::filesystem;

uint32_t crc_of(const void* bytes, size_t size) {
  return static_cast<uint32_t>(::crc32_z(0, static_cast<const uint8_t*>(bytes), size));
}

std::string hex(uint32_t value) {
  char text[9];
  std::snprintf(text, sizeof(text), "%08x", value);
  return text;
}

std::string numbered(int64_t number, int digits) {
  const std::string text = std::to_string(number);
  return std::string(static_cast<size_t>(digits) - std::min(text.size(), static_cast<size_t>(digits)), '0') + text;
}

std::string read_text(const std::string& path) {
  const std::vector<uint8_t> bytes = read_file(path);
  return {bytes.begin(), bytes.end()};
}

// The text and a last line with its checksum, on the disk before the name is.
void write_checked(const std::string& path, const std::string& text) {
  const std::string temporary = path + ".part", whole = text + "crc32 " + hex(crc_of(text.data(), text.size())) + "\n";
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(temporary.c_str(), "wb"), std::fclose);
  const bool written = file && std::fwrite(whole.data(), 1, whole.size(), file.get()) == whole.size() &&
                       std::fflush(file.get()) == 0 && ::fsync(fileno(file.get())) == 0;
  if (!written) fail(temporary, ": cannot write the file: ", std::strerror(errno));
  file.reset();
  fs::rename(temporary, path);
}

// The text that write_checked() wrote; "" where there is none that is whole.
std::string read_checked(const std::string& path) {
  std::error_code ignored;
  if (!fs::is_regular_file(path, ignored)) return "";
  const std::string whole = read_text(path);
  constexpr size_t kLast = 15;  // "crc32 01234567\n"
  if (whole.size() < kLast) return "";
  const std::string text = whole.substr(0, whole.size() - kLast);
  return whole.substr(text.size()) == "crc32 " + hex(crc_of(text.data(), text.size())) + "\n" ? text : "";
}

// Gray values that were repeated for three channels need one in a file.
Image without_repeated_channels(Image image) {
  if (image.channels != 3) return image;
  Image gray(image.height, image.width, 1);
  for (size_t i = 0; i < gray.pixels.size(); ++i) {
    const uint8_t* pixel = image.pixels.data() + 3 * i;
    if (pixel[0] != pixel[1] || pixel[0] != pixel[2]) return image;
    gray.pixels[i] = pixel[0];
  }
  return gray;
}

// One line of the index, kept as text, since the index is sorted by source position and nothing else is done with it.
struct Packed {
  int64_t index;
  uint64_t offset, size;
  uint32_t crc32;
  std::string member;
};

class Packer {
 public:
  Packer(const Dataset& data, const std::string& folder, const PackOptions& options)
      : data_(data), folder_(folder), options_(options) {
    RIFFLE_CHECK(options.quality >= 1 && options.quality <= 100 && options.short_edge >= 0 && options.threads > 0,
                 "quality ", options.quality, ", short edge ", options.short_edge, ", threads ", options.threads);
    if (data.size() == 0) fail(data.description(), ": there is nothing to pack");
    for (const std::string& name : data.classes()) {
      if (name.find('\n') != std::string::npos) fail(data.description(), ": a class name has two lines: '", name, "'");
    }
    const int64_t wanted = options.shards > 0 ? options.shards : (data.size() + kImagesPerShard - 1) / kImagesPerShard;
    shards_ = std::min(wanted, data.size());
    order_.resize(static_cast<size_t>(data.size()));
    std::iota(order_.begin(), order_.end(), int64_t{0});
    if (options.shuffle) order_ = random_permutation(data.size(), /*seed=*/0, RandomPurpose::kShuffleEpoch, 0);
  }

  PackResult run() {
    fs::create_directories(folder_);
    const std::string index = folder_ + "/" + kPackIndex;
    std::error_code ignored;
    if (fs::exists(index, ignored)) {
      const std::string made = second_line(read_text(index));
      if (made != origin())
        fail(folder_, ": holds packed data of another origin ('", made, "', and now '", origin(),
             "'); name another folder, or remove this one");
    }
    // Before anything is read: what changes meanwhile differs the next time.
    for (int64_t shard = 0; shard < shards_; ++shard) checksums_.push_back(source_checksum(shard));
    std::vector<std::vector<Packed>> parts(static_cast<size_t>(shards_));
    parallel_indices(shards_, options_.threads, [&](int64_t shard) {
      std::vector<Packed>& part = parts[static_cast<size_t>(shard)];
      part = finished_shard(shard);
      const bool kept = !part.empty();
      if (!kept) part = write_shard(shard);
      const std::lock_guard<std::mutex> lock(mutex_);
      result_.kept_shards += kept ? 1 : 0;
      result_.bytes += fs::file_size(shard_path(shard));
      if (kept) report(static_cast<int64_t>(part.size()));
    });
    write_index(index, parts);
    remove_leftovers();
    result_.images = data_.size();
    result_.shards = shards_;
    return result_;
  }

 private:
  std::string shard_name(int64_t shard) const { return join("shard-", numbered(shard, 6), ".tar"); }
  std::string shard_path(int64_t shard) const { return join(folder_, "/", shard_name(shard)); }
  std::string part_path(int64_t shard) const { return shard_path(shard) + ".index"; }
  size_t begin_of(int64_t shard) const { return static_cast<size_t>(data_.size() * shard / shards_); }

  // What must be the same for shards to be kept.
  std::string origin() const {
    return join(
        data_.description(), "; ", shards_, " shards", options_.shuffle ? ", shuffled" : "", "; ",
        options_.short_edge == 0 ? "copied" : join("short edge ", options_.short_edge, ", quality ", options_.quality));
  }
  static std::string second_line(const std::string& text) {
    const size_t begin = text.find('\n') + 1;
    return text.substr(begin, text.find('\n', begin) - begin);
  }

  // Parts of the index, which is whole now, and shards of an interrupted call that was to make more of them.
  void remove_leftovers() const {
    std::vector<fs::path> leftovers;
    for (const auto& entry : fs::directory_iterator(folder_)) {
      const std::string name = entry.path().filename().string();
      long long shard = 0;
      int end = 0;
      if (std::sscanf(name.c_str(), "shard-%6lld.tar%n", &shard, &end) != 1 || end == 0) continue;
      const std::string rest = name.substr(static_cast<size_t>(end));
      if (name.substr(0, static_cast<size_t>(end)) != shard_name(shard)) continue;
      const bool temporary = rest == ".part" || rest == ".index";
      if (temporary || (rest.empty() && shard >= shards_)) leftovers.push_back(entry.path());
    }
    for (const fs::path& path : leftovers) fs::remove(path);
  }

  // Called with the mutex held.
  void report(int64_t images) {
    done_ += images;
    if (options_.progress) options_.progress(done_);
  }

  // Of names, labels and file sizes of a shard's images.
  std::string source_checksum(int64_t shard) const {
    uint32_t crc = 0;
    for (size_t at = begin_of(shard); at < begin_of(shard + 1); ++at) {
      const int64_t index = order_[at];
      const std::string line = join(data_.name(index), "\n", data_.label(index), "\n", data_.encoded_size(index), "\n");
      crc = static_cast<uint32_t>(::crc32_z(crc, reinterpret_cast<const uint8_t*>(line.data()), line.size()));
    }
    return hex(crc);
  }

  // The first line of a shard's part of the index.
  std::string shard_key(const std::string& checksum) const { return join(origin(), "; images ", checksum); }

  // The images of a shard that an earlier call finished, after reading them all; empty where anything does not fit.
  std::vector<Packed> finished_shard(int64_t shard) const {
    const std::string text = read_checked(part_path(shard));
    std::istringstream in(text.empty() ? text_of_whole_index(shard) : text);
    std::string key;
    std::getline(in, key);
    std::error_code ignored;
    if (key != shard_key(checksums_[static_cast<size_t>(shard)]) || !fs::is_regular_file(shard_path(shard), ignored))
      return {};
    const RandomAccessFile file(shard_path(shard));
    std::vector<Packed> images;
    Packed image;
    std::string crc;
    while (in >> image.index >> image.offset >> image.size >> crc >> image.member) {
      if (image.offset > file.size() || image.size > file.size() - image.offset) return {};
      const std::vector<uint8_t> bytes = file.read(image.offset, image.size);
      image.crc32 = crc_of(bytes.data(), bytes.size());
      if (hex(image.crc32) != crc) return {};
      images.push_back(image);
    }
    return images.size() == begin_of(shard + 1) - begin_of(shard) ? images : std::vector<Packed>{};
  }

  // A finished pack has one index; the part of a shard that is missing is made from it again.
  std::string text_of_whole_index(int64_t shard) const {
    const std::string text = read_checked(folder_ + "/" + kPackIndex);
    if (text.empty()) return "";
    std::istringstream in(text);
    std::string part;
    int64_t index = -1;
    for (std::string line; std::getline(in, line);) {
      if (index < 0) {
        std::istringstream words(line);
        std::string name, size, checksum;
        words >> name >> size >> checksum;
        if (name == shard_name(shard)) part = shard_key(checksum) + "\n";
        if (name == "images") index = 0;
        if (name != "classes") continue;
        for (int64_t left = std::stoll(size); left > 0; --left) std::getline(in, line);  // names may be any words
        continue;
      }
      std::istringstream words(line);
      int64_t label = 0, its_shard = 0;
      std::string offset, size, crc, member;
      words >> label >> its_shard >> offset >> size >> crc >> member;
      if (its_shard == shard) part += join(index, " ", offset, " ", size, " ", crc, " ", member, "\n");
      ++index;
    }
    return part;
  }

  std::vector<Packed> write_shard(int64_t shard) {
    fs::remove(part_path(shard));
    const std::string temporary = shard_path(shard) + ".part";
    TarWriter writer(temporary);
    std::vector<Packed> images;
    std::string part = shard_key(checksums_[static_cast<size_t>(shard)]) + "\n";
    for (size_t at = begin_of(shard); at < begin_of(shard + 1); ++at) {
      const int64_t index = order_[at];
      const EncodedImage bytes = encoded(index);
      const bool png = probe_image(bytes->data(), bytes->size()).format == ImageProbe::Format::kPng;
      const std::string key = numbered(static_cast<int64_t>(at), 8);
      Packed image{index, 0, bytes->size(), crc_of(bytes->data(), bytes->size()), key + (png ? ".png" : ".jpg")};
      image.offset = writer.add(image.member, bytes->data(), bytes->size());
      const std::string label = std::to_string(data_.label(index));
      writer.add(key + ".cls", label.data(), label.size());
      part += join(index, " ", image.offset, " ", image.size, " ", hex(image.crc32), " ", image.member, "\n");
      images.push_back(std::move(image));
      const std::lock_guard<std::mutex> lock(mutex_);
      report(1);
    }
    writer.finish();
    fs::rename(temporary, shard_path(shard));
    write_checked(part_path(shard), part);
    return images;
  }

  EncodedImage encoded(int64_t index) {
    EncodedImage bytes = data_.encoded(index);
    if (!bytes) {
      const Image image = without_repeated_channels(data_.load(index));
      if (is_larger(image.height, image.width)) return resized(image);
      return std::make_shared<const std::vector<uint8_t>>(encode_png(image));
    }
    if (bytes->empty()) fail(data_.name_in_errors(index), ": the file is empty");
    if (options_.short_edge == 0) return bytes;
    const ImageProbe probe = probe_image(bytes->data(), bytes->size());
    // A header without a size is the decoder's to complain about.
    if (probe.width > 0 && probe.height > 0 && !is_larger(probe.height, probe.width)) return bytes;
    const int channels = probe.components == 1 ? 1 : 3;  // gray stays gray
    const Image image = decode_image(bytes->data(), bytes->size(), data_.name_in_errors(index), channels);
    // A photograph to be turned stays as it is: what is encoded again has no EXIF data to say so.
    return image.orientation == kUpright ? resized(image) : bytes;
  }

  bool is_larger(int height, int width) const {
    return options_.short_edge > 0 && std::min(height, width) > options_.short_edge;
  }

  EncodedImage resized(const Image& image) {
    const ImageSize size = short_edge_size(image.height, image.width, options_.short_edge);
    const Image smaller = resize(image, size.height, size.width, Interpolation::kPillowBilinear);
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      ++result_.resized;
    }
    return std::make_shared<const std::vector<uint8_t>>(encode_jpeg(smaller, options_.quality));
  }

  void write_index(const std::string& path, const std::vector<std::vector<Packed>>& parts) const {
    std::vector<std::string> lines(static_cast<size_t>(data_.size()));
    for (size_t shard = 0; shard < parts.size(); ++shard) {
      for (const Packed& image : parts[shard])
        lines[static_cast<size_t>(image.index)] =
            join(data_.label(image.index), " ", shard, " ", image.offset, " ", image.size, " ", hex(image.crc32), " ",
                 image.member, " ", one_line(fs::path(data_.name(image.index)).filename().string()), "\n");
    }
    std::string text = join(kPackMagic, "\n", one_line(origin()), "\nnumbered ", data_.numbered() ? 1 : 0, "\nclasses ",
                            data_.classes().size(), "\n");
    for (const std::string& name : data_.classes()) text += name + "\n";
    text += join("shards ", shards_, "\n");
    for (int64_t shard = 0; shard < shards_; ++shard)
      text += join(shard_name(shard), " ", fs::file_size(shard_path(shard)), " ",
                   checksums_[static_cast<size_t>(shard)], "\n");
    text += join("images ", lines.size(), "\n");
    for (const std::string& line : lines) text += line;
    write_checked(path, text);
  }

  static std::string one_line(std::string text) {
    std::replace(text.begin(), text.end(), '\n', ' ');
    return text;
  }

  const Dataset& data_;
  const std::string& folder_;
  const PackOptions& options_;
  int64_t shards_ = 0;
  std::vector<int64_t> order_;          // position in the shards -> index in the data
  std::vector<std::string> checksums_;  // source_checksum() of each shard
  std::mutex mutex_;
  PackResult result_;  // guarded by the mutex, as is the count
  int64_t done_ = 0;
};

}  // namespace

PackResult pack(const Dataset& data, const std::string& folder, const PackOptions& options) {
  return Packer(data, folder, options).run();
}

}  // namespace riffle
