// The strict walk over YAML: see config_reader.h. yaml-cpp accepts duplicate keys and leaves merge keys alone, both
// without a word; here each is an error.
#include "train/config_reader.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <map>
#include <type_traits>
#include <utility>

#include "core/check.h"
#include "train/config_checks.h"
#include "train/config_document.h"
#include "train/config_fields.h"
#include "train/config_include.h"
#include "train/config_transforms.h"
#include "train/config_values.h"
#include "train/nearest.h"

namespace riffle {
namespace {

// What a range limits.
template <class T>
double magnitude(T number) {
  return static_cast<double>(number);
}
double magnitude(const Duration& duration) {
  return duration.value;
}

template <class T>
T read_scalar(const YAML::Node& node, const std::string& where, const Field& field) {
  constexpr bool is_text = std::is_same_v<T, std::string> || std::is_same_v<T, Duration>;
  const bool is_quoted = node.IsScalar() && node.Tag() == "!";
  T value{};
  if (!node.IsScalar() || (is_quoted && !is_text) || !parse_value(node.Scalar(), value)) {
    const bool names_all = std::is_same_v<T, bool> || !field.constraint.choices.empty();
    fail_usage(where, ": ", field.path, " is ", shown(node), is_quoted && !is_text ? " in quotes" : "", "; expected ",
               names_all ? field.accepted() : join(kind_of(value).one, " such as ", kind_of(value).example));
  }
  if constexpr (std::is_same_v<T, std::string>) {
    if (!field.constraint.admits(value)) {
      const std::string near = nearest(value, field.constraint.choices);
      fail_usage(where, ": ", field.path, " is '", value, "'; expected ", field.constraint.text(),
                 near.empty() ? "" : "; did you mean '" + near + "'?");
    }
  } else if (!field.constraint.admits(magnitude(value))) {
    fail_usage(where, ": ", field.path, " is ", value_text(value), "; expected ", field.accepted());
  }
  return value;
}

template <class T>
void read_value(const YAML::Node& node, const std::string& where, const Origin&, const Field& field, T& value) {
  value = read_scalar<T>(node, where, field);
}

template <class T>
void read_value(const YAML::Node& node, const std::string& where, const Origin& origin, const Field& field,
                std::vector<T>& values) {
  if (!node.IsSequence()) {
    const ValueKind kind = kind_of(T{});
    fail_usage(where, ": ", field.path, " is ", shown(node), "; expected a list of ", kind.many, " such as ",
               kind.list_example);
  }
  std::vector<T> read;
  for (const YAML::Node& element : node) read.push_back(read_scalar<T>(element, origin.at(element.Mark()), field));
  values = std::move(read);
}

void read_parameter(const YAML::Node& node, const std::string& where, const Origin& origin, const Field& field);

// An element of a list of maps that have exactly these keys, such as {pattern: ..., multiplier: ...}.
void read_element(const YAML::Node& node, const Origin& origin, const std::string& list, const std::string& example,
                  const std::vector<Field>& parts) {
  const std::string where = origin.at(node.Mark()), expected = "; expected " + example;
  if (!node.IsMap()) fail_usage(where, ": an element of ", list, " is ", shown(node), expected);
  std::vector<bool> seen(parts.size());
  for (const auto& entry : node) {
    const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "", at = origin.at(entry.first.Mark());
    const auto part =
        std::find_if(parts.begin(), parts.end(), [&](const Field& field) { return leaf_of(field.path) == key; });
    if (part == parts.end()) fail_usage(at, ": unknown key '", key, "' in ", list, expected);
    const auto index = static_cast<size_t>(part - parts.begin());
    if (seen[index]) fail_usage(at, ": duplicate key '", key, "' in ", list);
    seen[index] = true;
    read_parameter(entry.second, origin.at(entry.second.Mark()), origin, *part);
  }
  for (size_t i = 0; i < parts.size(); ++i)
    if (!seen[i]) fail_usage(where, ": an element of ", list, " has no ", leaf_of(parts[i].path), expected);
}

void read_element(const YAML::Node& node, const Origin& origin, const Field& field, LrMultiplier& rule) {
  const std::string example = kind_of(LrMultiplier{}).example;
  read_element(node, origin, field.path, example,
               {{field.path + ".pattern", &rule.pattern, {}, ""},
                {field.path + ".multiplier", &rule.multiplier, field.constraint, ""}});
  if (rule.pattern.empty())
    fail_usage(origin.at(node.Mark()), ": an element of ", field.path, " has no pattern; expected ", example);
}

void read_element(const YAML::Node& node, const Origin& origin, const Field& field, ImageSizeChange& change) {
  read_element(
      node, origin, field.path, kind_of(ImageSizeChange{}).example,
      {{field.path + ".from", &change.from, {}, ""}, {field.path + ".size", &change.size, field.constraint, ""}});
}

template <class T>
void read_list_of_maps(const YAML::Node& node, const std::string& where, const Origin& origin, const Field& field,
                       std::vector<T>& values) {
  if (!node.IsSequence())
    fail_usage(where, ": ", field.path, " is ", shown(node), "; expected a list such as ", kind_of(T{}).list_example);
  std::vector<T> read(node.size());
  for (size_t i = 0; i < read.size(); ++i) read_element(node[i], origin, field, read[i]);
  values = std::move(read);
}

void read_value(const YAML::Node& node, const std::string& where, const Origin& origin, const Field& field,
                std::vector<LrMultiplier>& rules) {
  read_list_of_maps(node, where, origin, field, rules);
}

void read_value(const YAML::Node& node, const std::string& where, const Origin& origin, const Field& field,
                std::vector<ImageSizeChange>& changes) {
  read_list_of_maps(node, where, origin, field, changes);
}

void read_value(const YAML::Node& node, const std::string& where, const Origin& origin, const Field& field,
                Interval& range) {
  std::vector<double> ends;
  if (node.IsSequence() && node.size() == 2) read_value(node, where, origin, field, ends);
  if (ends.size() != 2) {
    fail_usage(where, ": ", field.path, " is ", shown(node), node.IsSequence() ? join(" of ", node.size()) : "",
               "; expected two numbers, the least and the greatest, such as ", field.value_text());
  }
  if (ends[0] > ends[1]) {
    fail_usage(where, ": ", field.path, " is ", value_text(Interval{ends[0], ends[1]}),
               "; expected the least first, then the greatest");
  }
  range = {ends[0], ends[1]};
}

TransformStep step_named(const std::string& name, const std::string& where) {
  std::vector<std::string> names;
  for (const TransformStep& step : known_steps()) {
    if (name_of(step) == name) return step;
    names.push_back(name_of(step));
  }
  const std::string near = nearest(name, names);
  if (!near.empty()) fail_usage(where, ": unknown transform '", name, "'; did you mean '", near, "'?");
  fail_usage(where, ": unknown transform '", name, "'; the transforms are ", listed(names));
}

void read_value(const YAML::Node& node, const std::string& where, const Origin& origin, const Field& field,
                std::vector<TransformStep>& steps);

void read_parameter(const YAML::Node& node, const std::string& where, const Origin& origin, const Field& field) {
  std::visit([&](auto* value) { read_value(node, where, origin, field, *value); }, field.value);
}

void read_parameters(const YAML::Node& map, const Origin& origin, const std::string& name,
                     const std::vector<Field>& fields) {
  std::vector<std::string> known;
  known.reserve(fields.size());
  for (const Field& field : fields) known.push_back(leaf_of(field.path));
  std::map<std::string, std::string> seen;
  for (const auto& entry : map) {
    const std::string where = origin.at(entry.first.Mark());
    if (!entry.first.IsScalar()) fail_usage(where, ": a key is ", shown(entry.first), "; expected a name");
    const std::string key = entry.first.Scalar(), path = join(name, ".", key);
    const auto found = std::find(known.begin(), known.end(), key);
    if (found == known.end()) {
      const std::string near = nearest(key, known);
      fail_usage(where, ": unknown key '", path, "'; ",
                 !near.empty()   ? join("did you mean '", name, ".", near, "'?")
                 : known.empty() ? std::string("it has no parameters")
                                 : join("its parameters are ", listed(known)));
    }
    const auto [first, is_new] = seen.emplace(path, where);
    if (!is_new) fail_usage(where, ": duplicate key '", path, "'; it is already at ", first->second);
    read_parameter(entry.second, entry.second.IsNull() ? where : origin.at(entry.second.Mark()), origin,
                   fields[static_cast<size_t>(found - known.begin())]);
  }
}

// `name`, `{name: value}` for the first parameter, or `{name: {parameter: value, ...}}`.
TransformStep read_step(const YAML::Node& node, const Origin& origin, const Field& field) {
  const std::string where = origin.at(node.Mark());
  if (node.IsScalar()) return step_named(node.Scalar(), where);
  if (!node.IsMap() || node.size() != 1 || !node.begin()->first.IsScalar()) {
    fail_usage(where, ": ", field.path, " has ", shown(node), node.IsMap() ? join(" of ", node.size(), " keys") : "",
               "; expected a transform such as flip, {flip: 0.5} or {flip: {probability: 0.5}}");
  }
  const std::string name = node.begin()->first.Scalar();
  const YAML::Node value = node.begin()->second;
  TransformStep step = step_named(name, where);
  const std::vector<Field> fields = fields_of(step);
  if (value.IsMap()) {
    read_parameters(value, origin, name, fields);
  } else if (!value.IsNull()) {
    if (fields.empty()) fail_usage(origin.at(value.Mark()), ": ", name, " has no parameters; expected just its name");
    read_parameter(value, origin.at(value.Mark()), origin, fields.front());
  }
  return step;
}

void read_value(const YAML::Node& node, const std::string& where, const Origin& origin, const Field& field,
                std::vector<TransformStep>& steps) {
  if (!node.IsSequence()) {
    fail_usage(where, ": ", field.path, " is ", shown(node), "; expected a list of transforms such as ",
               kind_of(TransformStep{}).list_example);
  }
  std::vector<TransformStep> read;
  for (const YAML::Node& element : node) read.push_back(read_step(element, origin, field));
  steps = std::move(read);
}

class Reader {
 public:
  explicit Reader(const std::string& file_name) : sources_(file_name), fields_(fields_of(config_)) {
    for (Field& field : fields_) by_path_[field.path] = &field;
    sections_ = sections_of(fields_);
  }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  void read_document(const ConfigDocument& document) {
    const auto& [origin, root] = document;
    if (root.IsNull()) return;
    if (!root.IsMap()) {
      fail_usage(origin.at(root.Mark()), ": the configuration is ", shown(root),
                 "; expected sections: ", listed(sections_));
    }
    seen_.clear();
    read_keys(root, "", origin);
  }

  // The fields of `section` that the document has; whatever else it holds is passed over.
  void read_known_fields(const std::string& text, const std::string& name, const std::string& section) {
    const Origin origin = Origin::file(name);
    const YAML::Node root = load_yaml(text, origin);
    if (!root.IsMap() || !root[section] || !root[section].IsMap()) return;
    for (const auto& entry : root[section]) {
      const std::string path = section + "." + (entry.first.IsScalar() ? entry.first.Scalar() : "");
      if (by_path_.count(path) > 0) read_entry(entry.second, path, origin.at(entry.first.Mark()), origin);
    }
  }

  void apply_override(const std::string& argument) {
    const Origin origin = Origin::override_argument(argument);
    const size_t equals = argument.find('=');
    if (equals == std::string::npos || equals == 0) {
      fail_usage(origin.name(), ": expected key.path=value, such as schedule.lr=0.1");
    }
    seen_.clear();
    read_entry(load_yaml(argument.substr(equals + 1), origin), argument.substr(0, equals), origin.name(), origin);
  }

  const std::vector<std::string>& sections() const { return sections_; }
  const Config& unchecked() const { return config_; }
  SourcedConfig finish() const { return {config_, sources_}; }

 private:
  void read_keys(const YAML::Node& map, const std::string& prefix, const Origin& origin) {
    for (const auto& entry : map) {
      const std::string where = origin.at(entry.first.Mark());
      if (!entry.first.IsScalar()) fail_usage(where, ": a key is ", shown(entry.first), "; expected a name");
      const std::string path = prefix + entry.first.Scalar();
      if (path != kIncludeKey) read_entry(entry.second, path, where, origin);  // with_includes() has read those
    }
  }

  // `where` is the key's place.
  void read_entry(const YAML::Node& node, const std::string& path, const std::string& where, const Origin& origin) {
    const bool is_section = std::find(sections_.begin(), sections_.end(), path) != sections_.end();
    const auto field = by_path_.find(path);
    if (!is_section && field == by_path_.end()) fail_unknown(path, where);
    const auto [first, is_new] = seen_.emplace(path, where);
    if (!is_new) fail_usage(where, ": duplicate key '", path, "'; it is already at ", first->second);

    // An absent value stands nowhere, so its key speaks for it.
    const std::string value_where = node.IsNull() ? where : origin.at(node.Mark());
    if (!is_section) {
      std::visit([&](auto* value) { read_value(node, value_where, origin, *field->second, *value); },
                 field->second->value);
      sources_.set(path, value_where);
    } else if (node.IsMap()) {
      read_keys(node, path + ".", origin);
    } else if (!node.IsNull()) {
      fail_usage(value_where, ": ", path, " is ", shown(node), "; expected its keys: ", listed(keys_of(path)));
    }
  }

  [[noreturn]] void fail_unknown(const std::string& path, const std::string& where) const {
    if (path == kIncludeKey) fail_usage(where, ": include belongs into a file; name the file that includes the other");
    if (leaf_of(path) == "<<") {
      fail_usage(where, ": unknown key '", path, "'; YAML merge keys are not supported: write the keys out");
    }
    const std::string near = suggestion(path);
    if (!near.empty()) fail_usage(where, ": unknown key '", path, "'; did you mean '", near, "'?");
    const std::vector<std::string> keys = keys_of(section_of(path));
    if (keys.empty()) fail_usage(where, ": unknown key '", path, "'; the sections are ", listed(sections_));
    fail_usage(where, ": unknown key '", path, "'; the keys of ", section_of(path), " are ", listed(keys));
  }

  // A right name in the wrong section comes before a similar one.
  std::string suggestion(const std::string& path) const {
    std::vector<std::string> all = sections_, same_leaf, leaves;
    for (const Field& field : fields_) {
      all.push_back(field.path);
      leaves.push_back(leaf_of(field.path));
      if (leaves.back() == leaf_of(path)) same_leaf.push_back(field.path);
    }
    if (same_leaf.size() == 1) return same_leaf.front();
    std::string near = nearest(path, all);
    if (!near.empty() || path.find('.') != std::string::npos) return near;
    const std::string near_leaf = nearest(path, leaves);
    if (near_leaf.empty()) return "";
    const auto index = std::find(leaves.begin(), leaves.end(), near_leaf) - leaves.begin();
    return fields_[static_cast<size_t>(index)].path;
  }

  std::vector<std::string> keys_of(const std::string& section) const {
    std::vector<std::string> keys;
    for (const Field& field : fields_) {
      if (section_of(field.path) == section) keys.push_back(leaf_of(field.path));
    }
    return keys;
  }

  Config config_;
  ConfigSources sources_;
  std::vector<Field> fields_;  // into config_
  std::map<std::string, const Field*> by_path_;
  std::vector<std::string> sections_;
  std::map<std::string, std::string> seen_;  // keys of the document or override being read -> place
};

}  // namespace

Config checked(const SourcedConfig& read) {
  check_config(read.config, read.sources);
  return read.config;
}

SourcedConfig parse_sourced_config(const std::string& text, const std::string& name,
                                   const std::vector<std::string>& overrides) {
  Reader reader(name);
  for (const ConfigDocument& document : with_includes(text, name)) reader.read_document(document);
  for (const std::string& argument : overrides) reader.apply_override(argument);
  return reader.finish();
}

Config parse_config(const std::string& text, const std::string& name, const std::vector<std::string>& overrides) {
  return checked(parse_sourced_config(text, name, overrides));
}

DataSection parse_data_section(const std::string& text, const std::string& name) {
  Reader reader(name);
  reader.read_known_fields(text, name, "data");
  return reader.unchecked().data;
}

Config parse_known_fields(const std::string& text, const std::string& name) {
  Reader reader(name);
  for (const std::string& section : reader.sections()) reader.read_known_fields(text, name, section);
  return reader.unchecked();
}

Config read_config(const std::string& path, const std::vector<std::string>& overrides) {
  return checked(read_sourced_config(path, overrides));
}

SourcedConfig read_sourced_config(const std::string& path, const std::vector<std::string>& overrides) {
  return parse_sourced_config(read_config_text(path), path, overrides);
}

std::string to_yaml(const Config& config) {
  Config copy = config;  // the table points into a Config it may write
  std::string yaml, section;
  for (const Field& field : fields_of(copy)) {
    if (section_of(field.path) != section) {
      section = section_of(field.path);
      yaml += section + ":\n";
    }
    yaml += "  " + leaf_of(field.path) + ": " + field.value_text() + "\n";
  }
  return yaml;
}

}  // namespace riffle
