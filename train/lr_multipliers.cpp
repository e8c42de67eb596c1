// Rules for learning rates.
#include "train/lr_multipliers.h"

#include <fnmatch.h>

#include <algorithm>

#include "core/check.h"
#include "train/nearest.h"

namespace riffle {
namespace {

bool matches(const LrMultiplier& rule, const std::string& parameter) {
  return fnmatch(rule.pattern.c_str(), parameter.c_str(), 0) == 0;
}

// A name, or a module's pattern such as "stage4.*".
std::string near_pattern(const std::string& pattern, const std::vector<std::string>& parameters) {
  std::vector<std::string> candidates;
  for (const std::string& name : parameters) {
    for (size_t dot = name.find('.'); dot != std::string::npos; dot = name.find('.', dot + 1)) {
      candidates.push_back(name.substr(0, dot) + ".*");
      if (pattern.find('*') == std::string::npos) candidates.push_back(name.substr(0, dot));
    }
    candidates.push_back(name);
  }
  const std::string near = nearest(pattern, candidates);
  if (near.empty() || std::find(parameters.begin(), parameters.end(), near) != parameters.end()) return near;
  return near.back() == '*' ? near : near + ".*";  // a module's name alone matches nothing
}

std::string module_patterns(const std::vector<std::string>& parameters) {
  std::vector<std::string> all;
  std::string text;
  for (const std::string& name : parameters) {
    const std::string pattern = name.substr(0, name.find('.')) + ".*";
    if (std::find(all.begin(), all.end(), pattern) != all.end()) continue;
    all.push_back(pattern);
    text += (text.empty() ? "" : ", ") + pattern;
  }
  return text;
}

}  // namespace

size_t find_lr_multiplier(const std::vector<LrMultiplier>& rules, const std::string& parameter) {
  size_t i = 0;
  while (i < rules.size() && !matches(rules[i], parameter)) ++i;
  return i;
}

void check_lr_multipliers(const std::vector<LrMultiplier>& rules, const std::vector<std::string>& parameters,
                          const std::function<bool(const std::string&)>& frozen) {
  for (size_t i = 0; i < rules.size(); ++i) {
    const std::string& pattern = rules[i].pattern;
    size_t matched_by = rules.size();  // a rule that some match of this one belongs to
    bool owns = false, changes = false;
    for (const std::string& name : parameters) {
      if (!matches(rules[i], name)) continue;
      matched_by = find_lr_multiplier(rules, name);
      owns = owns || matched_by == i;
      changes = changes || (matched_by == i && !frozen(name));
    }
    if (changes) continue;
    if (owns) {
      fail_usage(
          "optimizer.lr_multipliers: the pattern '", pattern,
          "' changes nothing, for all that it sets the rate of is frozen (finetune.freeze); take it out, or freeze "
          "less");
    }
    if (matched_by < rules.size()) {
      fail_usage("optimizer.lr_multipliers: the pattern '", pattern,
                 "' changes nothing, for what it matches belongs to ", "the earlier pattern '",
                 rules[matched_by].pattern, "'; the first match counts, so put '", pattern, "' before it");
    }
    const std::string near = near_pattern(pattern, parameters);
    fail_usage(
        "optimizer.lr_multipliers: the pattern '", pattern, "' matches no parameter of the network; ",
        near.empty() ? "expected patterns such as " + module_patterns(parameters) : "did you mean '" + near + "'?",
        " ('riffle inspect' lists the layers)");
  }
}

}  // namespace riffle
