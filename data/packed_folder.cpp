// Reading the index of packed data.
#include <zlib.h>

#include <cstdlib>
#include <filesystem>
#include <string_view>

#include "core/check.h"
#include "data/pack.h"
#include "data/pack_index.h"

namespace riffle {
namespace {

namespace fs = std::filesystem;

// The folder that holds the index for a split: folder/<word>, or `folder` itself; "" for neither.
std::string index_folder(const std::string& folder, const Split& split) {
  std::error_code ignored;
  for (const std::string& word : split.words) {
    const std::string part = join(folder, "/", word);
    if (fs::is_regular_file(part + "/" + kPackIndex, ignored)) return part;
  }
  return fs::is_regular_file(folder + "/" + kPackIndex, ignored) ? folder : "";
}

// Words and lines of a text, without copying it: an index has a line for each image.
class Scanner {
 public:
  Scanner(const std::string& path, std::string_view text) : path_(path), text_(text) {}

  std::string_view line() {
    const size_t end = text_.find('\n', at_);
    if (end == std::string_view::npos) fail(path_, ": damaged index: it ends in the middle of a line");
    const std::string_view found = text_.substr(at_, end - at_);
    at_ = end + 1;
    ++line_;
    return found;
  }
  // "KEYWORD COUNT"
  uint64_t count(std::string_view keyword) {
    std::string_view words = line();
    if (next_word(words) != keyword) fail_here("expected '", keyword, " COUNT'");
    return number(next_word(words), 10);
  }
  static std::string_view next_word(std::string_view& words) {
    const size_t end = std::min(words.find(' '), words.size());
    const std::string_view word = words.substr(0, end);
    words.remove_prefix(std::min(end + 1, words.size()));
    return word;
  }
  uint64_t number(std::string_view word, int base) const {
    uint64_t value = 0;
    if (word.empty() || word.size() > 18) fail_here("'", word, "' is no number");
    for (const char c : word) {
      const int digit = c >= '0' && c <= '9' ? c - '0' : base == 16 && c >= 'a' && c <= 'f' ? c - 'a' + 10 : base;
      if (digit >= base) fail_here("'", word, "' is no number");
      value = value * static_cast<uint64_t>(base) + static_cast<uint64_t>(digit);
    }
    return value;
  }
  template <class... Parts>
  [[noreturn]] void fail_here(const Parts&... parts) const {
    fail(path_, ":", line_, ": damaged index: ", parts...);
  }

 private:
  const std::string& path_;
  std::string_view text_;
  size_t at_ = 0, line_ = 0;
};

// The text before its last line, "crc32 HEX", whose checksum must fit.
std::string_view checked_text(const std::string& path, std::string_view text) {
  const size_t last = text.rfind("crc32 ");
  if (last == std::string_view::npos || text.size() != last + 15 || text.back() != '\n')
    fail(path, ": damaged index: its last line should be a checksum");
  const std::string_view body = text.substr(0, last);
  const uint64_t expected = Scanner(path, text).number(text.substr(last + 6, 8), 16);
  if (::crc32_z(0, reinterpret_cast<const uint8_t*>(body.data()), body.size()) != expected)
    fail(path, ": damaged index: its checksum does not fit");
  return body;
}

void read_image_line(Scanner& scanner, Listing& listing) {
  std::string_view words = scanner.line();
  Listing::Sample sample;
  const uint64_t label = scanner.number(Scanner::next_word(words), 10);
  const uint64_t shard = scanner.number(Scanner::next_word(words), 10);
  sample.offset = scanner.number(Scanner::next_word(words), 10);
  sample.size = scanner.number(Scanner::next_word(words), 10);
  sample.crc32 = static_cast<uint32_t>(scanner.number(Scanner::next_word(words), 16));
  const std::string_view member = Scanner::next_word(words);
  if (label >= listing.classes.size()) scanner.fail_here("label ", label, " of ", listing.classes.size(), " classes");
  if (shard >= listing.files.size()) scanner.fail_here("shard ", shard, " of ", listing.files.size());
  sample.label = static_cast<int32_t>(label);
  sample.container = static_cast<uint32_t>(shard);
  listing.add(std::string(member), sample);
  listing.originals += words;
  listing.original_ends.push_back(listing.originals.size());
}

void check_shard(const std::string& path, uint64_t size) {
  std::error_code error;
  const uint64_t found = fs::file_size(path, error);
  if (error) fail(path, ": cannot read the file, which the index names: ", error.message());
  if (found != size) fail(path, ": has ", found, " bytes, but ", size, " in the index; copy it again");
}

}  // namespace

Listing read_pack_index(const std::string& folder) {
  const std::string path = folder + "/" + kPackIndex;
  const std::vector<uint8_t> bytes = read_file(path);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  Scanner scanner(path, checked_text(path, text));
  if (scanner.line() != kPackMagic)
    fail(path, ": not an index that this version reads: its first line should be '", kPackMagic, "'");
  scanner.line();  // what it was made from, for people
  Listing listing;
  listing.kind = "packed";
  listing.root = folder;
  listing.in_tars = true;
  listing.has_crc32 = true;
  const uint64_t numbered = scanner.count("numbered");
  if (numbered > 1) scanner.fail_here("'numbered ", numbered, "'; expected 0 or 1");
  listing.numbered = numbered == 1;
  for (uint64_t i = scanner.count("classes"); i > 0; --i) listing.classes.emplace_back(scanner.line());
  for (uint64_t i = scanner.count("shards"); i > 0; --i) {
    std::string_view words = scanner.line();
    const std::string shard = join(folder, "/", Scanner::next_word(words));
    check_shard(shard, scanner.number(Scanner::next_word(words), 10));
    listing.add_container(static_cast<uint32_t>(listing.files.size()), "");
    listing.files.push_back(shard);
  }
  for (uint64_t i = scanner.count("images"); i > 0; --i) read_image_line(scanner, listing);
  return listing;
}

bool is_packed(const std::string& folder, const Split& split) {
  return !index_folder(folder, split).empty();
}

std::unique_ptr<Dataset> open_packed(const std::string& folder, const Split& split, int channels,
                                     const DatasetOptions& options) {
  const std::string found = index_folder(folder, split);
  if (found.empty())
    fail(folder, ": no ", kPackIndex, " here or in ", folder, "/", split.words.front(),
         "; 'riffle data pack' writes it");
  return open_listing(std::make_shared<const Listing>(read_pack_index(found)), channels, options);
}

}  // namespace riffle
