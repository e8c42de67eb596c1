// Names and order of listed images, and the data set that reads them.
#include "data/listing.h"

#include <zlib.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <utility>

#include "core/check.h"
#include "data/encoded_cache.h"

namespace riffle {
namespace {

bool is_number(const std::string& name) {
  return !name.empty() && name.size() <= 9 && name.find_first_not_of("0123456789") == std::string::npos;
}

// The label of each of the data's classes under the given names; see open_image_folder().
std::vector<int> map_labels(const Listing& listing, const std::vector<std::string>& classes) {
  const std::vector<std::string>& own = listing.classes;
  std::vector<int> labels(own.size());
  std::iota(labels.begin(), labels.end(), 0);
  if (listing.numbered && !classes.empty() && classes.size() < own.size())
    fail(listing.root, ": has labels up to ", own.size() - 1, ", but there are only ", classes.size(), " class names");
  if (listing.numbered || classes.empty()) return labels;
  const std::string* unknown = nullptr;
  bool any_known = false;
  for (size_t i = 0; i < own.size(); ++i) {
    const auto found = std::find(classes.begin(), classes.end(), own[i]);
    labels[i] = static_cast<int>(found - classes.begin());
    any_known = any_known || found != classes.end();
    if (found == classes.end()) unknown = &own[i];
  }
  if (unknown == nullptr) return labels;
  if (classes.size() != own.size() || any_known)
    fail(listing.root, ": class folder \"", *unknown, "\" is not among the ", classes.size(), " given class names (\"",
         classes.front(), "\", ...), and they cannot rename the ", own.size(),
         " folders in order: that needs as many names, none of which is a folder's");
  std::iota(labels.begin(), labels.end(), 0);
  return labels;
}

// Inner tar files are shards of their own; folders in a tar file are not, for their images may lie among one another.
std::vector<std::vector<int64_t>> shards_of(const Listing& listing) {
  if (!listing.in_tars) return {};
  std::map<std::pair<uint32_t, std::string>, size_t> known;
  std::vector<size_t> shard_of_container;
  for (const Listing::Container& container : listing.containers) {
    const std::string& prefix = container.prefix;
    const bool inner = prefix.size() > 5 && prefix.compare(prefix.size() - 5, 5, ".tar/") == 0;
    shard_of_container.push_back(
        known.emplace(std::make_pair(container.file, inner ? prefix : ""), known.size()).first->second);
  }
  std::vector<std::vector<int64_t>> shards(known.size());
  for (size_t i = 0; i < listing.samples.size(); ++i)
    shards[shard_of_container[listing.samples[i].container]].push_back(static_cast<int64_t>(i));
  for (std::vector<int64_t>& shard : shards)
    std::sort(shard.begin(), shard.end(), [&](int64_t a, int64_t b) {
      return listing.samples[static_cast<size_t>(a)].offset < listing.samples[static_cast<size_t>(b)].offset;
    });
  return shards;
}

class ListedDataset : public Dataset {
 public:
  ListedDataset(std::shared_ptr<const Listing> listing, int channels, const DatasetOptions& options)
      : listing_(std::move(listing)),
        channels_(channels),
        renamed_(!options.classes.empty()),
        classes_(renamed_ ? options.classes : listing_->classes),
        labels_(map_labels(*listing_, options.classes)),
        truncated_(options.truncated),
        files_(listing_->in_tars ? listing_->files : std::vector<std::string>{}, default_open_files(),
               options.shards_in_order ? Access::kInOrder : Access::kRandom) {
    if (options.cache) cache_ = std::make_unique<EncodedCache>(listing_->samples.size(), options.cache);
  }

  int64_t size() const override { return static_cast<int64_t>(listing_->samples.size()); }
  int channels() const override { return channels_; }
  const std::vector<std::string>& classes() const override { return classes_; }
  int label(int64_t index) const override {
    return labels_[static_cast<size_t>(listing_->samples[checked(index)].label)];
  }
  std::string name(int64_t index) const override { return listing_->name(checked(index)); }
  std::string name_in_errors(int64_t index) const override {
    const std::string original = listing_->original(checked(index));
    return name(index) + (original.empty() ? "" : join(" (packed from ", original, ")"));
  }
  uint64_t encoded_size(int64_t index) const override {
    const size_t at = checked(index);
    if (listing_->in_tars) return listing_->samples[at].size;
    FileStamp stamp = stamp_or_absence(listing_->name(at));  // an image that is missing is reported when it is read
    return stamp.size;
  }
  std::vector<std::vector<int64_t>> shards() const override { return shards_of(*listing_); }
  TruncatedImages truncated_images() const override { return truncated_; }
  bool numbered() const override { return listing_->numbered && !renamed_; }
  bool labelled_by_file() const override { return listing_->labelled_by_file; }
  std::vector<std::string> warnings() const override { return listing_->warnings; }

  EncodedImage encoded(int64_t index) const override {
    const size_t at = checked(index);
    if (!cache_) return std::make_shared<const std::vector<uint8_t>>(read(at));
    EncodedImage image = cache_->find(at);
    if (image) return image;
    image = std::make_shared<const std::vector<uint8_t>>(read(at));
    cache_->offer(at, image);
    return image;
  }

  Image load(int64_t index) const override {
    const EncodedImage bytes = encoded(index);
    return decode_image(bytes->data(), bytes->size(), name_in_errors(index), channels_, truncated_);
  }

  std::string description() const override {
    return join(listing_->kind, " ", listing_->root, ": ", size(), " images, ", listing_->classes.size(), " classes");
  }

 private:
  size_t checked(int64_t index) const {
    RIFFLE_CHECK(index >= 0 && index < size(), "image ", index, " of ", size());
    return static_cast<size_t>(index);
  }

  std::vector<uint8_t> read(size_t index) const {
    if (!listing_->in_tars) return read_file(listing_->name(index));
    const Listing::Sample& sample = listing_->samples[index];
    std::vector<uint8_t> bytes =
        files_.open(listing_->containers[sample.container].file)->read(sample.offset, sample.size);
    if (listing_->has_crc32 && ::crc32_z(0, bytes.data(), bytes.size()) != sample.crc32)
      fail(name_in_errors(static_cast<int64_t>(index)), ": damaged: its checksum is not the one in the index");
    return bytes;
  }

  std::shared_ptr<const Listing> listing_;
  int channels_;
  bool renamed_;
  std::vector<std::string> classes_;
  std::vector<int> labels_;  // of each of the listing's classes
  TruncatedImages truncated_;
  FilePool files_;
  std::unique_ptr<EncodedCache> cache_;
};

}  // namespace

uint32_t Listing::add_container(uint32_t file, const std::string& prefix) {
  containers.push_back({file, prefix});
  return static_cast<uint32_t>(containers.size() - 1);
}

void Listing::add(const std::string& name, Sample sample) {
  names += name;
  sample.name_end = names.size();
  samples.push_back(sample);
}

std::string Listing::short_name(size_t index) const {
  const uint64_t begin = index == 0 ? 0 : samples[index - 1].name_end;
  return names.substr(begin, samples[index].name_end - begin);
}

std::string Listing::original(size_t index) const {
  if (index >= original_ends.size()) return "";
  const uint64_t begin = index == 0 ? 0 : original_ends[index - 1];
  return originals.substr(begin, original_ends[index] - begin);
}

std::string Listing::name(size_t index) const {
  const Container& container = containers[samples[index].container];
  return join(files[container.file], in_tars ? ":" : "/", container.prefix, short_name(index));
}

void sort_by_label_and_name(Listing& listing) {
  const size_t count = listing.samples.size();
  std::vector<uint64_t> begins(count);
  for (size_t i = 1; i < count; ++i) begins[i] = listing.samples[i - 1].name_end;
  const auto name_of = [&](size_t i) {
    return std::string_view(listing.names).substr(begins[i], listing.samples[i].name_end - begins[i]);
  };
  std::vector<size_t> order(count);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    const int32_t label_a = listing.samples[a].label, label_b = listing.samples[b].label;
    return label_a != label_b ? label_a < label_b : name_of(a) < name_of(b);
  });
  std::vector<Listing::Sample> samples;
  samples.reserve(count);
  std::string names;
  names.reserve(listing.names.size());
  for (const size_t i : order) {
    names += name_of(i);
    samples.push_back(listing.samples[i]);
    samples.back().name_end = names.size();
  }
  listing.samples = std::move(samples);
  listing.names = std::move(names);
}

void warn_about_numeric_names(Listing& listing) {
  const std::vector<std::string>& names = listing.classes;
  if (!std::all_of(names.begin(), names.end(), is_number)) return;
  for (size_t i = 1; i < names.size(); ++i) {
    if (std::stol(names[i - 1]) < std::stol(names[i])) continue;
    listing.warnings.push_back(join(listing.root, ": the class folders are numbers, and sort as text: '", names[i - 1],
                                    "' is class ", i - 1, " and '", names[i], "' class ", i,
                                    "; to give them another order, list them in data.class_names"));
    return;
  }
}

std::vector<std::string> number_names(int64_t count) {
  std::vector<std::string> names;
  for (int64_t i = 0; i < count; ++i) names.push_back(std::to_string(i));
  return names;
}

std::unique_ptr<Dataset> open_listing(std::shared_ptr<const Listing> listing, int channels,
                                      const DatasetOptions& options) {
  RIFFLE_CHECK(channels == 1 || channels == 3, listing->root, " asked for with ", channels, " channels");
  return std::make_unique<ListedDataset>(std::move(listing), channels, options);
}

}  // namespace riffle
