// From text to a YAML tree. yaml-cpp loads only the first of several documents, without a word; here that is an error.
#include "train/config_document.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

#include "core/check.h"

namespace riffle {

Origin::Origin(std::string name, bool has_lines) : name_(std::move(name)), has_lines_(has_lines) {}

std::string Origin::at(const YAML::Mark& mark) const {
  return has_lines_ && !mark.is_null() ? join(name_, ":", mark.line + 1, ":", mark.column + 1) : name_;
}

std::string listed(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : ", ") + word;
  return out;
}

std::string shown(const YAML::Node& node) {
  if (node.IsScalar()) return join("'", node.Scalar(), "'");
  if (node.IsSequence()) return "a list";
  if (node.IsMap()) return "a mapping";
  return "empty";
}

// White space at the end is cut off, because yaml-cpp takes a quoted string that nobody closed for a whole one if a line
// break follows.
YAML::Node load_yaml(const std::string& text, const Origin& origin) {
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(text.substr(0, text.find_last_not_of(" \t\r\n") + 1));
    if (documents.size() > 1) {
      fail_usage(origin.name(), ": ", documents.size(), " YAML documents, separated by '---'; expected one");
    }
    return documents.empty() ? YAML::Node(YAML::NodeType::Null) : documents.front();
  } catch (const YAML::Exception& error) {
    fail_usage(origin.at(error.mark), ": not valid YAML: ", error.msg);
  }
}

std::string read_config_text(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) fail_usage(path, ": is a folder; expected a YAML configuration file");
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file) fail_usage(path, ": cannot open the configuration: ", std::strerror(errno));
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (file.bad()) fail_usage(path, ": cannot read the configuration: ", std::strerror(errno));
  if (text.find('\0') != std::string::npos) {
    const bool is_checkpoint = std::filesystem::path(path).extension() == ".safetensors";
    fail_usage(path, ": is ", is_checkpoint ? "a checkpoint" : "not a text file", "; expected a YAML configuration",
               is_checkpoint ? " ('riffle inspect' shows the one that the checkpoint was trained with)" : "");
  }
  return text;
}

}  // namespace riffle
