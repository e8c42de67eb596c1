// From classes and running numbers to attributes.
#include "train/checkpoint/keras_names.h"

#include <map>
#include <optional>
#include <regex>
#include <set>
#include <tuple>

#include "train/checkpoint/name_map.h"
#include "train/text.h"

namespace riffle {
namespace {

// Where a variable of the model lives. Numbers are Keras's, which are ascending in the order of construction.
struct Place {
  bool in_stage = false, projects = false, depthwise = false;  // projects: of the first unit of a stage
  int64_t stage = 0, unit = 0, layer = 0;
  std::string variable;  // "kernel", "gamma", ...
  bool norm = false;

  // First units come first in their stage, whatever their number.
  std::tuple<int64_t, bool, int64_t> unit_key() const { return {stage, !projects, unit}; }
};

int64_t number(const std::ssub_match& text) {
  return text.matched ? std::stoll(text.str().substr(1)) : 0;
}

std::optional<Place> find_place(const std::string& name) {
  if (name.size() > kLongestName) return std::nullopt;
  static const std::regex kVariable(R"((?:shuffle_netv2(?:_\d{1,6})?/)?)"
                                    R"((?:shufflenet_stage(_\d{1,6})?/shufflenet_unit([12])(_\d{1,6})?/)?)"
                                    R"((conv2d_bn__?re_lu|depthwise_conv2d_bn)(_\d{1,6})?/)"
                                    R"((conv2d|depthwise_conv2d|batch_normalization(?:_v[12])?)(?:_\d{1,6})?/)"
                                    R"((kernel|depthwise_kernel|gamma|beta|moving_mean|moving_variance))");
  std::smatch part;
  if (!std::regex_match(name, part, kVariable)) return std::nullopt;
  Place place;
  place.in_stage = part[2].matched;
  place.stage = number(part[1]);
  place.projects = part[2] == "2";
  place.unit = number(part[3]);
  place.depthwise = part[4] == "depthwise_conv2d_bn";
  place.layer = number(part[5]);
  place.norm = part[6].str().rfind("batch_normalization", 0) == 0;
  place.variable = part[7];
  return place;
}

template <class Key>
int64_t rank_of(const std::set<Key>& keys, const Key& key) {
  return std::distance(keys.begin(), keys.find(key));
}

// All places of a file, ranked.
class Ranks {
 public:
  void add(const Place& place) {
    if (place.in_stage) {
      stages_.insert(place.stage);
      units_[place.stage].insert(place.unit_key());
    }
    layers_[layers_key(place)].insert(place.layer);
  }

  // "stage2/ops/0/conv1_bn_relu/conv/kernel", or "" where the model has no such layer.
  std::string path(const Place& place) const {
    const int64_t layer = rank_of(layers_.at(layers_key(place)), place.layer);
    const std::string variable = place.norm ? "/bn/" : place.depthwise ? "/dconv/" : "/conv/";
    if (!place.in_stage) {
      if (layer > 1 || place.depthwise) return "";
      return (layer == 0 ? "conv1_bn_relu" : "conv5_bn_relu") + variable + place.variable;
    }
    static const char* const kPointwise[] = {"conv1_bn_relu", "conv2_bn_relu", "shortcut_conv_bn_relu"};
    static const char* const kDepthwise[] = {"dconv_bn", "shortcut_dconv_bn"};
    if (layer >= (place.depthwise ? 2 : 3)) return "";
    const char* const name = place.depthwise ? kDepthwise[layer] : kPointwise[layer];
    return join("stage", rank_of(stages_, place.stage) + 2, "/ops/", rank_of(units_.at(place.stage), place.unit_key()),
                "/", name, variable, place.variable);
  }

 private:
  using LayersKey = std::tuple<bool, std::tuple<int64_t, bool, int64_t>, bool>;
  static LayersKey layers_key(const Place& place) { return {place.in_stage, place.unit_key(), place.depthwise}; }

  std::set<int64_t> stages_;
  std::map<int64_t, std::set<std::tuple<int64_t, bool, int64_t>>> units_;
  std::map<LayersKey, std::set<int64_t>> layers_;  // of a unit, or of the model itself
};

// Object-based checkpoints: what leads to the model, and what follows a variable.
std::string plain_path(const std::string& key) {
  if (key.size() > kLongestName) return key;
  static const std::string kValue = "/.ATTRIBUTES/VARIABLE_VALUE";
  std::string path = key;
  if (path.size() > kValue.size() && path.compare(path.size() - kValue.size(), kValue.size(), kValue) == 0) {
    path.resize(path.size() - kValue.size());
  }
  static const std::regex kModel(R"((?:\w+/)*?((?:stage[2-4]/ops/|conv[15]_bn_relu/|linear/(?:kernel|bias)$).*))");
  std::smatch part;
  return std::regex_match(path, part, kModel) ? part[1].str() : path;
}

}  // namespace

TensorMap with_keras_paths(const TensorMap& tensors, const std::string& path) {
  Ranks ranks;
  std::map<std::string, Place> places;
  for (const auto& [name, tensor] : tensors) {
    if (const auto place = find_place(name)) {
      ranks.add(*place);
      places.emplace(name, *place);
    }
  }
  static const std::regex kDense(R"((?:shuffle_netv2(?:_\d{1,6})?/)?dense(?:_\d{1,6})?/(kernel|bias))");
  TensorMap result;
  for (const auto& [name, tensor] : tensors) {
    std::string renamed = plain_path(name);
    std::smatch part;
    if (const auto found = places.find(name); found != places.end()) {
      const std::string attribute = ranks.path(found->second);
      if (!attribute.empty()) renamed = attribute;
    } else if (!places.empty() && name.size() <= kLongestName && std::regex_match(name, part, kDense)) {
      renamed = "linear/" + part[1].str();
    }
    if (!result.emplace(renamed, tensor).second)
      fail(path, ": two tensors are the same variable: ", format_names({renamed, name}));
  }
  return result;
}

}  // namespace riffle
