// Finding the weights. Depth and numbers are bounded; circular structures end at the bound.
#include "train/checkpoint/torch_state.h"

#include <algorithm>
#include <set>

#include "core/check.h"

namespace riffle {
namespace {

using Kind = PickleValue::Kind;

constexpr int kDeepestModule = 32;
constexpr size_t kMostTensors = 100000, kMostModules = 100000, kMostNotes = 10000;
// Names are parts of the pickle, and one may be used a million times: copies are made of short ones only.
constexpr size_t kLongestName = 1000, kLongestShown = 60;
// The weights as trained come first; averages only where there is nothing else, or on request.
constexpr const char* kEntries[] = {"state_dict", "model",  "model_state_dict", "net",
                                    "network",    "module", "weights",          "state_dict_ema",
                                    "model_ema",  "ema",    "ema_state_dict"};

std::string shown(std::string_view text) {
  return text.size() <= kLongestShown ? std::string(text) : std::string(text.substr(0, kLongestShown)) + "...";
}

bool is_mapping(const PickleValue& value) {
  return value.kind == Kind::kDict ||
         (value.kind == Kind::kObject && (!value.pairs.empty() || value.callee->name == "OrderedDict"));
}

// The attributes of a pickled object; null if it has none.
const PickleValue* attributes(const PickleValue& value) {
  if (value.kind != Kind::kObject || value.state == nullptr) return nullptr;
  const PickleValue* state = value.state;
  if (state->kind == Kind::kTuple && !state->items.empty()) state = state->items[0];  // (attributes, slots)
  return state->kind == Kind::kDict ? state : nullptr;
}

std::string class_of(const PickleValue& value) {
  const PickleValue* callee = is_module_class(*value.callee) ? value.callee->argument->items[1] : value.callee;
  return callee->kind == Kind::kGlobal ? join(shown(callee->text), ".", shown(callee->name)) : "no name";
}

std::string describe(const PickleValue& value) {
  switch (value.kind) {
    case Kind::kNone:
      return "None";
    case Kind::kBool:
      return value.integer != 0 ? "True" : "False";
    case Kind::kInteger:
      return std::to_string(value.integer);
    case Kind::kFloat:
      return join(value.number);
    case Kind::kText:
      return value.text.size() <= 40 ? join("'", value.text, "'")
                                     : join("a text of ", value.text.size(), " characters");
    case Kind::kList:
      return join("a list of ", value.items.size());
    case Kind::kTuple:
      return join("a tuple of ", value.items.size());
    case Kind::kDict:
      return join("a dict of ", value.pairs.size());
    case Kind::kGlobal:
      return join(shown(value.text), ".", shown(value.name));
    case Kind::kObject:
      if (TorchTensors::is_tensor(value)) return "a tensor";
      return is_mapping(value) ? join("a dict of ", value.pairs.size()) : "an object of class " + class_of(value);
    default:
      return "something else";
  }
}

class Search {
 public:
  explicit Search(const std::string& file) : file_(file) {}

  // Tensors of a state dict; other entries are counted.
  std::vector<FoundTensor> of_mapping(const PickleValue& mapping) {
    std::vector<FoundTensor> found;
    for (const auto& [key, value] : mapping.pairs) {
      if (key->kind != Kind::kText || !TorchTensors::is_tensor(*value)) continue;
      check_length(key->text);
      add(found, std::string(key->text), *value);
    }
    return found;
  }

  // Tensors of a module, nn.Module or TorchScript: attributes that are tensors, and its children's.
  void of_module(const PickleValue& module, const std::string& prefix, int depth, std::vector<FoundTensor>& found) {
    const PickleValue* members = attributes(module);
    if (members == nullptr) return;
    if (depth > kDeepestModule || ++modules_ > kMostModules)
      fail(file_, ": more than ", kMostModules, " modules, or nested more than ", kDeepestModule, " deep");
    const PickleValue* children = members->find("_modules");
    if (children == nullptr) {  // TorchScript: everything is an attribute
      for (const auto& [key, value] : members->pairs) member(*key, *value, prefix, depth, found);
      return;
    }
    const std::set<std::string_view> scratch = texts_of(members->find("_non_persistent_buffers_set"));
    for (const char* table : {"_parameters", "_buffers"}) {
      const PickleValue* tensors = members->find(table);
      if (tensors == nullptr) continue;
      for (const auto& [key, value] : tensors->pairs) {
        if (scratch.count(key->text) == 0) member(*key, *value, prefix, depth, found);
      }
    }
    for (const auto& [key, value] : children->pairs) member(*key, *value, prefix, depth, found);
  }

 private:
  // The texts of a set, which protocol 2 writes as a call: set([...]).
  static std::set<std::string_view> texts_of(const PickleValue* set) {
    std::set<std::string_view> texts;
    if (set != nullptr && set->kind == Kind::kObject && set->argument->items.size() == 1) set = set->argument->items[0];
    if (set == nullptr) return texts;
    for (const PickleValue* item : set->items) texts.insert(item->text);
    return texts;
  }

  void member(const PickleValue& key, const PickleValue& value, const std::string& prefix, int depth,
              std::vector<FoundTensor>& found) {
    if (key.kind != Kind::kText) return;
    check_length(key.text);
    const std::string name = prefix + std::string(key.text);
    if (TorchTensors::is_tensor(value)) {
      add(found, name, value);
    } else {
      of_module(value, name + ".", depth + 1, found);
    }
  }

  void check_length(std::string_view name) const {
    if (name.size() > kLongestName)
      fail(file_, ": a name of ", name.size(), " characters, '", shown(name), "'; no tensor is called so");
  }

  void add(std::vector<FoundTensor>& found, const std::string& name, const PickleValue& value) const {
    if (found.size() == kMostTensors) fail(file_, ": more than ", kMostTensors, " tensors");
    found.push_back({name, &value});
  }

  const std::string& file_;
  size_t modules_ = 0;
};

std::vector<FoundTensor> tensors_of(const PickleValue& value, const std::string& file) {
  Search search(file);
  if (is_mapping(value)) return search.of_mapping(value);
  std::vector<FoundTensor> found;
  search.of_module(value, "", 0, found);
  return found;
}

std::string names_of(const PickleValue& mapping) {
  constexpr size_t kShown = 12;
  std::string names;
  for (size_t i = 0; i < std::min(kShown, mapping.pairs.size()); ++i) {
    const auto& [key, value] = mapping.pairs[i];
    names +=
        join(i == 0 ? "" : ", ", key->kind == Kind::kText ? join("'", shown(key->text), "'") : "a key that is not text",
             " (", describe(*value), ")");
  }
  return names + (mapping.pairs.size() > kShown ? ", ..." : "");
}

// DataParallel, DistributedDataParallel, averaged models and torch.compile wrap a module in another; Lightning's modules
// have it as a member, by custom `model` or `net`.
void drop_wrappers(std::vector<FoundTensor>& tensors, const std::string& file, std::vector<std::string>& notes) {
  std::set<std::string> dropped, names;
  for (FoundTensor& tensor : tensors) {
    for (bool again = true; again;) {
      again = false;
      for (const std::string prefix : {"module.", "_orig_mod.", "model.", "net."}) {
        if (tensor.name.rfind(prefix, 0) != 0) continue;
        tensor.name.erase(0, prefix.size());
        dropped.insert(prefix);
        again = true;
      }
    }
    if (!names.insert(tensor.name).second) fail(file, ": two tensors are called '", tensor.name, "'");
  }
  for (const std::string& prefix : dropped) notes.push_back(join("prefix '", prefix, "' dropped from names"));
}

}  // namespace

std::vector<FoundTensor> find_torch_state(const Pickle& pickle, const std::string& entry, const std::string& file,
                                          std::vector<std::string>& notes) {
  const PickleValue& root = pickle.root();
  const PickleValue* chosen = &root;
  std::string chosen_key;
  if (!entry.empty()) {
    chosen = is_mapping(root) ? root.find(entry) : nullptr;
    if (chosen == nullptr)
      fail_usage(file, " has no entry '", entry, "'; it has ", is_mapping(root) ? names_of(root) : describe(root));
    chosen_key = entry;
  } else if (is_mapping(root)) {
    for (const char* key : kEntries) {
      const PickleValue* value = root.find(key);
      if (value == nullptr || TorchTensors::is_tensor(*value) || tensors_of(*value, file).empty()) continue;
      if (chosen_key.empty()) {
        chosen = value;
        chosen_key = key;
      } else {
        notes.push_back(join("'", key, "' has weights too, which are not used; ask for them with --entry ", key));
      }
    }
  }
  std::vector<FoundTensor> found = tensors_of(*chosen, file);
  if (found.empty())
    fail(file, " holds no weights", chosen_key.empty() ? "" : join(" under '", chosen_key, "'"), ", only ",
         is_mapping(*chosen) ? "a dict: " + names_of(*chosen) : describe(*chosen));
  if (!chosen_key.empty()) {
    notes.push_back(join("weights are those under '", chosen_key, "'"));
    for (const auto& [key, value] : root.pairs) {
      if (value == chosen || key->kind != Kind::kText) continue;
      const bool told = std::any_of(std::begin(kEntries), std::end(kEntries),
                                    [&, name = key->text](const char* known) { return name == known; });
      if (notes.size() < kMostNotes && (!told || tensors_of(*value, file).empty()))
        notes.push_back(join("'", shown(key->text), "': ", describe(*value), ", skipped"));
    }
  } else if (is_mapping(*chosen)) {
    for (const auto& [key, value] : chosen->pairs) {
      if (notes.size() < kMostNotes && key->kind == Kind::kText && !TorchTensors::is_tensor(*value))
        notes.push_back(join("'", shown(key->text), "': ", describe(*value), ", skipped"));
    }
  }
  drop_wrappers(found, file, notes);
  return found;
}

}  // namespace riffle
