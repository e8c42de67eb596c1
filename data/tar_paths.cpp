// Which tar files a specification means: patterns, ranges of shards, and folders.
#include <glob.h>

#include <algorithm>
#include <cctype>
#include <filesystem>

#include "core/check.h"
#include "data/sources.h"

namespace riffle {
namespace {

namespace fs = std::filesystem;
using Strings = std::vector<std::string>;

constexpr const char* kSplitField = "{split}";
constexpr size_t kMostShards = 100000;

bool is_tar_name(const std::string& name) {
  return name.size() > 4 && name.front() != '.' && name.compare(name.size() - 4, 4, ".tar") == 0;
}

bool is_file(const std::string& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

bool is_folder(const std::string& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

// Whether `word` stands in `name` with no letters or digits around: "train" in "ILSVRC2012_img_train.tar".
bool has_word(const std::string& name, const std::string& word) {
  const auto is_letter = [&name](size_t at) {
    return at < name.size() && std::isalnum(static_cast<unsigned char>(name[at])) != 0;
  };
  for (size_t at = name.find(word); at != std::string::npos; at = name.find(word, at + 1)) {
    if (!(at > 0 && is_letter(at - 1)) && !is_letter(at + word.size())) return true;
  }
  return false;
}

// "{000..127}" -> 000, 001, ...; "{a,b}" -> a, b; the first one in `text`, the rest by recursion.
Strings expand_braces(const std::string& text) {
  const size_t open = text.find('{');
  const size_t close = open == std::string::npos ? open : text.find('}', open);
  if (close == std::string::npos) return {text};
  const std::string head = text.substr(0, open), inner = text.substr(open + 1, close - open - 1);
  const size_t dots = inner.find("..");
  Strings values;
  if (dots == std::string::npos) {
    for (size_t at = 0; at <= inner.size();) {
      const size_t comma = std::min(inner.find(',', at), inner.size());
      values.push_back(inner.substr(at, comma - at));
      at = comma + 1;
    }
  } else {
    const std::string first = inner.substr(0, dots), last = inner.substr(dots + 2);
    const auto is_number = [](const std::string& word) {
      return !word.empty() && word.size() < 10 && word.find_first_not_of("0123456789") == std::string::npos;
    };
    if (!is_number(first) || !is_number(last) || std::stol(first) > std::stol(last))
      fail_usage(text, ": '{", inner, "}' is no range; expected one such as {000..127}");
    if (static_cast<size_t>(std::stol(last) - std::stol(first)) > kMostShards)
      fail_usage(text, ": '{", inner, "}' means more than ", kMostShards, " files");
    for (long value = std::stol(first); value <= std::stol(last); ++value) {
      const std::string digits = std::to_string(value);
      values.push_back(std::string(first.size() - std::min(first.size(), digits.size()), '0') + digits);
    }
  }
  Strings expanded;
  for (const std::string& tail : expand_braces(text.substr(close + 1))) {
    for (const std::string& value : values) expanded.push_back(head + value + tail);
  }
  std::sort(expanded.begin(), expanded.end());
  return expanded;
}

Strings expand_glob(const std::string& pattern) {
  if (pattern.find_first_of("*?[") == std::string::npos || is_file(pattern)) return {pattern};
  glob_t found{};
  Strings paths;
  if (glob(pattern.c_str(), 0, nullptr, &found) == 0) paths.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  globfree(&found);
  return paths;
}

// All files of a pattern without {split}.
Strings expand(const std::string& pattern) {
  Strings paths;
  for (const std::string& part : expand_braces(pattern)) {
    for (std::string& path : expand_glob(part)) {
      if (!is_file(path)) fail(path, ": no such file (of ", pattern, ")");
      paths.push_back(std::move(path));
    }
  }
  return paths;
}

Strings tars_in(const std::string& folder) {
  Strings paths;
  std::error_code error;
  fs::directory_iterator entry(folder, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (is_tar_name(name) && is_file(entry->path().string())) paths.push_back(join(folder, "/", name));
  }
  if (error) fail(folder, ": cannot list the folder: ", error.message());
  std::sort(paths.begin(), paths.end());
  return paths;
}

const Strings& all_split_words() {
  static const Strings words{"train", "val", "validation", "test"};
  return words;
}

bool names_a_split(const std::string& path) {
  const std::string name = fs::path(path).filename().string();
  return std::any_of(all_split_words().begin(), all_split_words().end(),
                     [&name](const std::string& word) { return has_word(name, word); });
}

Strings find_in_folder(const std::string& folder, const Split& split) {
  const Strings all = tars_in(folder);
  for (const std::string& word : split.words) {
    Strings named;
    std::copy_if(all.begin(), all.end(), std::back_inserter(named),
                 [&](const std::string& path) { return has_word(fs::path(path).filename().string(), word); });
    if (!named.empty()) return named;
    const std::string part = join(folder, "/", word);
    if (!is_folder(part)) continue;
    named = tars_in(part);
    if (!named.empty()) return named;
  }
  if (std::any_of(all.begin(), all.end(), names_a_split)) return {};
  return all;
}

}  // namespace

std::vector<std::string> find_tars(const std::string& spec, const Split& split) {
  if (is_folder(spec)) return find_in_folder(spec, split);
  const size_t field = spec.find(kSplitField);
  if (field != std::string::npos) {
    for (const std::string& word : split.words) {
      std::string pattern = spec;
      for (size_t at = field; at != std::string::npos; at = pattern.find(kSplitField))
        pattern.replace(at, std::string(kSplitField).size(), word);
      // Another word may be the one in use, so a pattern without any file is passed over.
      for (const std::string& part : expand_braces(pattern)) {
        const Strings found = expand_glob(part);
        if (!found.empty() && is_file(found.front())) return expand(pattern);
      }
    }
    return {};
  }
  const Strings paths = expand(spec);
  const bool other = std::any_of(paths.begin(), paths.end(), names_a_split) &&
                     std::none_of(paths.begin(), paths.end(), [&split](const std::string& path) {
                       const std::string name = fs::path(path).filename().string();
                       return std::any_of(split.words.begin(), split.words.end(),
                                          [&name](const std::string& word) { return has_word(name, word); });
                     });
  if (other)
    fail(spec, ": is named for another part than '", split.name,
         "'; name the folder instead, or write {split} in place of the part's name");
  return paths;
}

}  // namespace riffle
