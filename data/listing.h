// Listing: where each image of a data set lies, without the images: what an index cache stores. A file in a folder and a
// member of a tar file are the same but for the offset.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "data/file_pool.h"

namespace riffle {

struct Listing {
  struct Sample {
    uint64_t offset = 0, size = 0;  // in the tar file
    uint64_t name_end = 0;          // in `names`
    uint32_t container = 0, crc32 = 0;
    int32_t label = 0;  // index into `classes`
  };
  // A folder, or a part of a tar file, whose images' names share a prefix.
  struct Container {
    uint32_t file = 0;   // index into `files`
    std::string prefix;  // "n01440764/", "n01440764.tar/", "test/airplane/"
  };

  std::string kind;                  // "ImageFolder", "tar", ...
  std::string root;                  // what the user named
  std::vector<std::string> classes;  // as the data calls them
  bool numbered = false;             // the classes are just numbers: labels came without names
  bool in_tars = false;              // else `files` holds one root folder
  bool has_crc32 = false;
  bool labelled_by_file = false;  // by data.val_labels or a file of a known name
  std::vector<std::string> files;
  std::vector<Container> containers;
  std::vector<Sample> samples;
  std::string names;  // of all samples, one after the other: ImageNet has 1.3 million
  // Packed data: names in the source, one after the other, and the end of each; empty for other kinds.
  std::string originals;
  std::vector<uint64_t> original_ends;
  std::vector<std::string> warnings;
  std::vector<FileStamp> stamps;  // the listing is valid while these are unchanged

  uint32_t add_container(uint32_t file, const std::string& prefix);
  void add(const std::string& name, Sample sample);
  std::string short_name(size_t index) const;  // without its container
  std::string original(size_t index) const;    // "" where there is none
  std::string name(
      size_t index) const;  // for messages: "/data/train/n01440764/a.JPEG", "train.tar:n01440764.tar/a.JPEG"
};

// Puts samples in the order of (label, name), which is that of class folders.
void sort_by_label_and_name(Listing& listing);
// Numbers that sort as text ("10" before "2") are labelled in that order, which rarely is what was meant.
void warn_about_numeric_names(Listing& listing);
// The numbers 0 .. largest label, as names of classes that have none.
std::vector<std::string> number_names(int64_t count);
// A label above is damage, not a class; number_names() would fill the memory with names.
constexpr int32_t kMostClasses = 1 << 20;

// Reads the listed images. `classes` as for open_image_folder(); numbered classes are renamed by any list long enough.
std::unique_ptr<Dataset> open_listing(std::shared_ptr<const Listing> listing, int channels,
                                      const DatasetOptions& options);

// What `scan` returns, or what an earlier call stored in `folder` ("": nothing is stored) if none of its stamps has
// changed. `key` tells apart what is scanned. Listings of fewer than kSmallestCached images are scanned anew.
constexpr int64_t kSmallestCached = 1000;
Listing cached_listing(const std::string& folder, const std::string& key, const std::function<Listing()>& scan);
// $XDG_CACHE_HOME/riffle, else ~/.cache/riffle; "" where neither variable is set.
std::string default_index_cache();

}  // namespace riffle
