// Reading label files line by line; the first lines decide which kind it is.
#include "data/label_files.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <map>
#include <sstream>
#include <unordered_map>

#include "core/check.h"
#include "data/image.h"
#include "data/listing.h"

namespace riffle {
namespace {

namespace fs = std::filesystem;

const char* const kDevkitFile = "ILSVRC2012_validation_ground_truth.txt";

const std::vector<std::string>& known_files() {
  static const std::vector<std::string> names{
      "val.txt",
      "val_list.txt",
      "LOC_val_solution.csv",
      "imagenet_2012_validation_synset_labels.txt",
      kDevkitFile,
      join("ILSVRC2012_devkit_t12/data/", kDevkitFile),
  };
  return names;
}

bool is_number(const std::string& word) {
  return !word.empty() && word.size() <= 9 && word.find_first_not_of("0123456789") == std::string::npos;
}

bool is_file(const std::string& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

// A line that is not blank, and its words.
struct Line {
  std::string text;  // without blanks at its ends
  std::vector<std::string> words;
};

std::vector<Line> read_lines(const std::string& path) {
  const std::vector<uint8_t> bytes = read_file(path);
  std::string whole(bytes.begin(), bytes.end());
  if (whole.rfind("\xEF\xBB\xBF", 0) == 0) whole.erase(0, 3);  // UTF-8's byte order mark, which Windows writes
  std::istringstream in(whole);
  std::vector<Line> lines;
  for (std::string text; std::getline(in, text);) {
    std::istringstream words(text);
    Line line;
    for (std::string word; words >> word;) line.words.push_back(word);
    if (line.words.empty()) continue;
    const char* const blanks = " \t\r\v\f";
    text.erase(text.find_last_not_of(blanks) + 1);
    line.text = text.substr(text.find_first_not_of(blanks));
    lines.push_back(std::move(line));
  }
  if (lines.empty()) fail(path, ": the label file is empty");
  return lines;
}

// Names are compared without folder and extension.
std::string stem_of(const std::string& name) {
  return fs::path(name).stem().string();
}

// The word that labels each image: a number or a name.
using Words = std::vector<std::string>;

Words words_by_name(const std::string& path, const std::unordered_map<std::string, std::string>& word_of,
                    const std::vector<std::string>& names, const std::string& images) {
  Words words;
  for (const std::string& name : names) {
    const auto found = word_of.find(stem_of(name));
    if (found == word_of.end())
      fail(path, ": no label for ", name, " of ", images, "; the file labels ", word_of.size(), " images");
    words.push_back(found->second);
  }
  return words;
}

Words words_by_position(const std::string& path, const std::vector<Line>& lines, const std::vector<std::string>& names,
                        const std::string& images) {
  if (lines.size() != names.size())
    fail(path, ": has ", lines.size(), " labels, without names, but ", images, " has ", names.size(),
         " images; expected a label for each, in order of their names");
  Words words;
  for (const Line& line : lines) words.push_back(line.words.front());
  return words;
}

// Labels by image. An image may be there twice, but not with two labels.
class LabelsByName {
 public:
  explicit LabelsByName(const std::string& path) : path_(path) {}
  void add(const std::string& image, const std::string& word) {
    const auto [entry, added] = word_of_.emplace(image, word);
    if (!added && entry->second != word)
      fail(path_, ": labels '", image, "' twice, as ", entry->second, " and as ", word,
           "; names are compared without folder and extension");
  }
  const std::unordered_map<std::string, std::string>& map() const { return word_of_; }

 private:
  const std::string& path_;
  std::unordered_map<std::string, std::string> word_of_;
};

// "ILSVRC2012_val_00048981,n03995372 85 1 499 272 n03481172 ...": the first class is the image's.
LabelsByName read_kaggle(const std::string& path, const std::vector<Line>& lines) {
  LabelsByName labels(path);
  for (size_t i = 1; i < lines.size(); ++i) {
    const std::string& text = lines[i].text;
    const size_t comma = text.find(',');
    const std::string rest = comma == std::string::npos ? "" : text.substr(comma + 1);
    const std::string word = rest.substr(0, rest.find_first_of(" \t"));
    if (word.empty()) fail(path, ": line ", i + 1, " is '", text, "'; expected an image, a comma and its class");
    labels.add(text.substr(0, comma), word);
  }
  return labels;
}

// "my image.jpg 65": names may have blanks, labels have none.
LabelsByName read_pairs(const std::string& path, const std::vector<Line>& lines) {
  LabelsByName labels(path);
  for (const Line& line : lines) {
    if (line.words.size() < 2) fail(path, ": line '", line.text, "' has 1 word; expected image and label");
    const std::string image = line.text.substr(0, line.text.find_last_of(" \t"));
    labels.add(stem_of(image.substr(0, image.find_last_not_of(" \t") + 1)), line.words.back());
  }
  return labels;
}

// ILSVRC2012_ID - 1 -> wnid, from a file beside the ground truth.
std::vector<std::string> devkit_wnids(const std::string& path, std::vector<FileStamp>& stamps) {
  const fs::path folder = fs::path(path).parent_path();
  const std::string text = (folder / "synsets.txt").string(), matlab = (folder / "meta.mat").string();
  stamps.push_back(stamp_or_absence(matlab));
  if (is_file(matlab)) return read_devkit_synsets(matlab);
  if (!is_file(text))
    fail(path,
         ": these are ILSVRC2012_IDs, which only the devkit can translate; put its meta.mat beside the file, or a ",
         "synsets.txt with lines such as '490 n01751748' (or give a val.txt with lines 'IMAGE CLASS')");
  stamps.push_back(stamp_of(text));
  std::map<int, std::string> wnid_of;
  for (const Line& line : read_lines(text)) {
    if (line.words.size() < 2 || !is_number(line.words[0]))
      fail(text, ": line '", line.text, "'; expected a number from 1 and a wnid");
    wnid_of[std::stoi(line.words[0])] = line.words[1];
  }
  std::vector<std::string> wnids;
  for (const auto& [id, wnid] : wnid_of) {
    if (id != static_cast<int>(wnids.size()) + 1) fail(text, ": has no line for the number ", wnids.size() + 1);
    wnids.push_back(wnid);
  }
  return wnids;
}

void translate_devkit_ids(const std::string& path, Words& words, std::vector<FileStamp>& stamps) {
  const std::vector<std::string> wnids = devkit_wnids(path, stamps);
  for (std::string& word : words) {
    const int id = std::stoi(word);
    if (id < 1 || id > static_cast<int>(wnids.size()))
      fail(path, ": label ", id, "; expected ILSVRC2012_IDs from 1 to ", wnids.size());
    word = wnids[static_cast<size_t>(id - 1)];
  }
}

FlatLabels labels_of_numbers(const std::string& path, const Words& words,
                             const std::vector<std::string>& train_classes) {
  FlatLabels result;
  int largest = 0;
  for (const std::string& word : words) {
    result.labels.push_back(std::stoi(word));
    largest = std::max(largest, result.labels.back());
    if (largest >= kMostClasses)
      fail(path, ": has label ", largest, "; expected class numbers from 0 to ", kMostClasses - 1);
  }
  result.numbered = train_classes.empty();
  result.classes = result.numbered ? number_names(int64_t{largest} + 1) : train_classes;
  if (largest >= static_cast<int>(result.classes.size()))
    fail(path, ": has label ", largest, ", but the training data has ", train_classes.size(), " classes, 0 to ",
         train_classes.size() - 1);
  return result;
}

FlatLabels labels_of_names(const Words& words, const std::vector<std::string>& train_classes) {
  FlatLabels result;
  result.classes = words;
  std::sort(result.classes.begin(), result.classes.end());
  result.classes.erase(std::unique(result.classes.begin(), result.classes.end()), result.classes.end());
  const auto is_trained = [&](const std::string& name) {
    return std::find(train_classes.begin(), train_classes.end(), name) != train_classes.end();
  };
  if (std::all_of(result.classes.begin(), result.classes.end(), is_trained)) result.classes = train_classes;
  std::unordered_map<std::string, int32_t> label_of;
  for (const std::string& name : result.classes) label_of.emplace(name, static_cast<int32_t>(label_of.size()));
  for (const std::string& word : words) result.labels.push_back(label_of.at(word));
  return result;
}

}  // namespace

std::string find_label_file(const FlatLabelSource& source) {
  if (!source.file.empty()) return source.file;
  for (const std::string& folder : source.search) {
    for (const std::string& name : known_files()) {
      const std::string path = join(folder, "/", name);
      if (is_file(path)) return path;
    }
  }
  return "";
}

FlatLabels read_flat_labels(const FlatLabelSource& source, const std::vector<std::string>& names,
                            const std::string& images) {
  const std::string path = find_label_file(source);
  if (path.empty()) {
    std::string known;
    for (const std::string& name : known_files()) known += (known.empty() ? "" : ", ") + name;
    fail(images, ": images without class folders, and no file that labels them; looked for ", known, " in ",
         source.search.empty() ? "no folder" : source.search.front(), source.search.size() > 1 ? " and above" : "",
         "; name one with data.val_labels, or sort the images into class folders");
  }
  std::vector<FileStamp> stamps{stamp_of(path)};
  const std::vector<Line> lines = read_lines(path);
  Words words;
  if (lines.front().text.rfind("ImageId,", 0) == 0) {
    words = words_by_name(path, read_kaggle(path, lines).map(), names, images);
  } else if (lines.front().words.size() > 1) {
    words = words_by_name(path, read_pairs(path, lines).map(), names, images);
  } else {
    words = words_by_position(path, lines, names, images);
    if (std::all_of(words.begin(), words.end(), is_number)) translate_devkit_ids(path, words, stamps);
  }
  const std::vector<std::string> train_classes = source.train_classes ? source.train_classes() : Words{};
  // Training data that appears later names the classes.
  for (const std::string& train : source.train_paths) stamps.push_back(stamp_or_absence(train));
  const bool numbers = std::all_of(words.begin(), words.end(), is_number);
  FlatLabels result = numbers ? labels_of_numbers(path, words, train_classes) : labels_of_names(words, train_classes);
  result.stamps = std::move(stamps);
  return result;
}

}  // namespace riffle
