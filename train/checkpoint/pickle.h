// Pickle: what a Python pickle would build, as plain data. Nothing in it is ever called: a class or function is its name,
// a call of one is an object that remembers the name and the arguments. The opcodes: Python's Lib/pickletools.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace riffle {

struct PickleValue {
  enum class Kind {
    kNone,
    kBool,        // integer: 0 or 1
    kInteger,     // integer
    kBigInteger,  // beyond 64 bits; text: little-endian two's complement
    kFloat,       // number
    kText,        // text
    kBytes,       // text
    kList,        // items
    kTuple,       // items
    kSet,         // items
    kDict,        // pairs
    kGlobal,      // a class or function by name. text: module, name: name
    kPersistent,  // something outside of the pickle. argument: its identifier
    kObject       // callee(argument), then items and pairs that were added to it, and the state that it was given;
                  // the pairs of an OrderedDict also where they were its argument
  };

  Kind kind = Kind::kNone;
  int64_t integer = 0;
  double number = 0;
  std::string_view text, name;  // into the pickle's bytes
  std::vector<const PickleValue*> items;
  std::vector<std::pair<const PickleValue*, const PickleValue*>> pairs;  // in the order they were added
  const PickleValue *callee = nullptr, *argument = nullptr, *state = nullptr;

  bool is_text(std::string_view value) const { return kind == Kind::kText && text == value; }
  bool is_global(std::string_view module, std::string_view global) const {
    return kind == Kind::kGlobal && text == module && name == global;
  }
  // The value of a text key among the pairs, the last one as in Python; null if there is none.
  const PickleValue* find(std::string_view key) const;
};

// Values refer to each other freely, also in circles; the pickle owns them all, and the bytes must outlive it.
class Pickle {
 public:
  // Reads one pickle (protocols 2 to 5) from the beginning of `bytes`; what follows it is not looked at. `name` stands for
  // the file in messages. Throws for anything malformed, for opcodes that checkpoints have no use for, and beyond a million
  // values (in all, on the stack, or remembered). Memory is bounded by a multiple of the bytes read, whatever they claim.
  Pickle(std::string_view bytes, const std::string& name);

  const PickleValue& root() const { return *root_; }
  size_t size() const { return size_; }  // bytes, up to and with its end
  void for_each(const std::function<void(const PickleValue&)>& visit) const {
    for (const PickleValue& value : values_) visit(value);
  }
  // Names "module.name" of the first thousand globals, sorted, each once; modules and names of up to 100 characters.
  std::vector<std::string> globals() const;

 private:
  friend class PickleReader;
  std::deque<PickleValue> values_;
  const PickleValue* root_ = nullptr;
  size_t size_ = 0;
};

}  // namespace riffle
