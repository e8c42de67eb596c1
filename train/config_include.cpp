// Following includes, depth first.
#include "train/config_include.h"

#include <algorithm>
#include <filesystem>

#include "core/check.h"

namespace riffle {
namespace {

std::string identity_of(const std::string& path) {
  std::error_code error;
  const std::filesystem::path found = std::filesystem::weakly_canonical(path, error);
  return error ? path : found.string();
}

struct Include {
  std::string path, where;
};

std::vector<Include> includes_of(const ConfigDocument& document) {
  const auto& [origin, root] = document;
  const std::filesystem::path folder = std::filesystem::path(origin.name()).parent_path();
  std::vector<Include> includes;
  const auto add = [&, &source = origin](const YAML::Node& node, const std::string& where) {
    if (!node.IsScalar() || node.Scalar().empty())
      fail_usage(where, ": include is ", shown(node), "; expected a file such as base.yaml, or a list of files");
    includes.push_back({(folder / node.Scalar()).lexically_normal().string(), source.at(node.Mark())});
  };
  std::string first;
  if (!root.IsMap()) return {};
  for (const auto& entry : root) {
    if (!entry.first.IsScalar() || entry.first.Scalar() != kIncludeKey) continue;
    const std::string where = origin.at(entry.first.Mark());
    if (!first.empty()) fail_usage(where, ": duplicate key 'include'; it is already at ", first);
    first = where;
    if (!entry.second.IsSequence()) {
      add(entry.second, entry.second.IsNull() ? where : origin.at(entry.second.Mark()));
      continue;
    }
    for (const YAML::Node& node : entry.second) add(node, node.IsNull() ? where : origin.at(node.Mark()));
  }
  return includes;
}

class Collector {
 public:
  void add(const std::string& text, const std::string& name) {
    open_.push_back(name);
    ConfigDocument document{Origin::file(name), {}};
    document.root.reset(load_yaml(text, document.origin));
    for (const Include& include : includes_of(document)) {
      check_no_cycle(include);
      add(text_of(include), include.path);
    }
    documents_.push_back(std::move(document));
    open_.pop_back();
  }

  std::vector<ConfigDocument> take() { return std::move(documents_); }

 private:
  void check_no_cycle(const Include& include) const {
    const auto same = [&](const std::string& name) { return identity_of(name) == identity_of(include.path); };
    const auto found = std::find_if(open_.begin(), open_.end(), same);
    if (found == open_.end()) return;
    std::string chain;
    for (auto name = found; name != open_.end(); ++name) chain += *name + " -> ";
    fail_usage(include.where, ": ", *found, " includes itself: ", chain, *found);
  }

  static std::string text_of(const Include& include) {
    try {
      return read_config_text(include.path);
    } catch (const Error& error) {
      fail_usage(include.where, ": include: ", error.what());
    }
  }

  std::vector<std::string> open_;  // from the outermost file to the one being read
  std::vector<ConfigDocument> documents_;
};

}  // namespace

std::vector<ConfigDocument> with_includes(const std::string& text, const std::string& name) {
  Collector collector;
  collector.add(text, name);
  return collector.take();
}

}  // namespace riffle
