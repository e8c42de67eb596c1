// The pickle machine: a stack, a memo, and opcodes of one byte. Every operand's length is checked against the bytes at
// hand before it is used; nothing recurses.
#include "train/checkpoint/pickle.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <unordered_map>

#include "core/check.h"

namespace riffle {

using Kind = PickleValue::Kind;

const PickleValue* PickleValue::find(std::string_view key) const {
  for (auto pair = pairs.rbegin(); pair != pairs.rend(); ++pair) {
    if (pair->first->is_text(key)) return pair->second;
  }
  return nullptr;
}

namespace {

// Of values, and of entries on the stack, in the memo and of dicts made from lists. ShuffleNetV2's largest training
// checkpoints have some ten thousand.
constexpr size_t kMostValues = 1000000;

enum Opcode : uint8_t {
  kMark = '(',
  kStop = '.',
  kPop = '0',
  kPopMark = '1',
  kDup = '2',
  kBinInt = 'J',
  kBinInt1 = 'K',
  kBinInt2 = 'M',
  kNone = 'N',
  kBinPersId = 'Q',
  kReduce = 'R',
  kBinString = 'T',
  kShortBinString = 'U',
  kBinUnicode = 'X',
  kAppend = 'a',
  kBuild = 'b',
  kGlobal = 'c',
  kDict = 'd',
  kEmptyDict = '}',
  kAppends = 'e',
  kBinGet = 'h',
  kLongBinGet = 'j',
  kList = 'l',
  kEmptyList = ']',
  kBinPut = 'q',
  kLongBinPut = 'r',
  kSetItem = 's',
  kTuple = 't',
  kEmptyTuple = ')',
  kSetItems = 'u',
  kBinFloat = 'G',
  kBinBytes = 'B',
  kShortBinBytes = 'C',
  kProto = 0x80,
  kNewObj = 0x81,
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kNewTrue = 0x88,
  kNewFalse = 0x89,
  kLong1 = 0x8a,
  kLong4 = 0x8b,
  kShortBinUnicode = 0x8c,
  kBinUnicode8 = 0x8d,
  kBinBytes8 = 0x8e,
  kEmptySet = 0x8f,
  kAddItems = 0x90,
  kFrozenSet = 0x91,
  kNewObjEx = 0x92,
  kStackGlobal = 0x93,
  kMemoize = 0x94,
  kFrame = 0x95,
  kByteArray8 = 0x96
};

}  // namespace

class PickleReader {
 public:
  PickleReader(std::string_view bytes, const std::string& name, Pickle& pickle)
      : bytes_(bytes), name_(name), pickle_(pickle) {}

  void run() {
    while (true) {
      opcode_position_ = position_;
      const auto opcode = static_cast<uint8_t>(take(1)[0]);
      if (opcode == kStop) break;
      if (!run_number(opcode) && !run_text(opcode) && !run_container(opcode) && !run_object(opcode) &&
          !run_stack(opcode))
        invalid(join("opcode ", static_cast<int>(opcode), " has no place in a checkpoint"));
    }
    pickle_.root_ = pop();
    pickle_.size_ = position_;
  }

 private:
  bool run_number(uint8_t opcode) {
    switch (opcode) {
      case kNone:
        make(Kind::kNone);
        return true;
      case kNewTrue:
      case kNewFalse:
        make(Kind::kBool).integer = opcode == kNewTrue ? 1 : 0;
        return true;
      case kBinInt:
        make(Kind::kInteger).integer = static_cast<int32_t>(unsigned_number(4));
        return true;
      case kBinInt1:
      case kBinInt2: {
        const uint64_t value = unsigned_number(opcode == kBinInt1 ? 1 : 2);
        make(Kind::kInteger).integer = static_cast<int64_t>(value);
        return true;
      }
      case kLong1:
      case kLong4:
        make_long(take(unsigned_number(opcode == kLong1 ? 1 : 4)));
        return true;
      case kBinFloat:
        make(Kind::kFloat).number = big_endian_double(take(8));
        return true;
      default:
        return false;
    }
  }

  bool run_text(uint8_t opcode) {
    switch (opcode) {
      case kShortBinString:
      case kShortBinUnicode:
        return make_text(Kind::kText, 1);
      case kBinString:
      case kBinUnicode:
        return make_text(Kind::kText, 4);
      case kBinUnicode8:
        return make_text(Kind::kText, 8);
      case kShortBinBytes:
        return make_text(Kind::kBytes, 1);
      case kBinBytes:
        return make_text(Kind::kBytes, 4);
      case kBinBytes8:
      case kByteArray8:
        return make_text(Kind::kBytes, 8);
      default:
        return false;
    }
  }

  bool run_container(uint8_t opcode) {
    switch (opcode) {
      case kEmptyList:
        make(Kind::kList);
        return true;
      case kEmptyTuple:
        make(Kind::kTuple);
        return true;
      case kEmptySet:
        make(Kind::kSet);
        return true;
      case kEmptyDict:
        make(Kind::kDict);
        return true;
      case kList:
        return make_of(Kind::kList, pop_to_mark());
      case kTuple:
        return make_of(Kind::kTuple, pop_to_mark());
      case kFrozenSet:
        return make_of(Kind::kSet, pop_to_mark());
      case kTuple1:
      case kTuple2:
      case kTuple3:
        return make_of(Kind::kTuple, pop_last(static_cast<size_t>(opcode - kTuple1) + 1));
      case kDict: {
        const Values items = pop_to_mark();
        make(Kind::kDict);
        return add_pairs(items);
      }
      case kAppend:
        return add_items(pop_last(1));
      case kAppends:
      case kAddItems:
        return add_items(pop_to_mark());
      case kSetItem:
        return add_pairs(pop_last(2));
      case kSetItems:
        return add_pairs(pop_to_mark());
      default:
        return false;
    }
  }

  bool run_object(uint8_t opcode) {
    switch (opcode) {
      case kGlobal: {
        const std::string_view module = line(), name = line();
        make_global(module, name);
        return true;
      }
      case kStackGlobal: {
        const Values names = pop_last(2);
        if (names[0]->kind != Kind::kText || names[1]->kind != Kind::kText) invalid("a global's name is not text");
        make_global(names[0]->text, names[1]->text);
        return true;
      }
      case kReduce:
      case kNewObj: {
        const Values call = pop_last(2);
        make_object(call[0], call[1]);
        return true;
      }
      case kNewObjEx: {
        const Values call = pop_last(3);
        make_object(call[0], call[1]);
        return true;
      }
      case kBuild: {
        const PickleValue* state = pop();
        top().state = state;
        return true;
      }
      case kBinPersId: {
        const PickleValue* identifier = pop();
        make(Kind::kPersistent).argument = identifier;
        return true;
      }
      default:
        return false;
    }
  }

  bool run_stack(uint8_t opcode) {
    switch (opcode) {
      case kProto:
        if (const uint64_t version = unsigned_number(1); version < 2 || version > 5)
          invalid(join("protocol ", version, " is not one of 2 to 5"));
        return true;
      case kFrame:
        take(8);  // a frame's length is only of use to those who read ahead
        return true;
      case kMark:
        if (marks_.size() == kMostValues) invalid(join("more than ", kMostValues, " marks"));
        marks_.push_back(stack_.size());
        return true;
      case kPop:
        pop();
        return true;
      case kPopMark:
        pop_to_mark();
        return true;
      case kDup:
        push(&top());
        return true;
      case kBinPut:
        return put(unsigned_number(1));
      case kLongBinPut:
        return put(unsigned_number(4));
      case kMemoize:
        return put(memo_.size());
      case kBinGet:
        return get(unsigned_number(1));
      case kLongBinGet:
        return get(unsigned_number(4));
      default:
        return false;
    }
  }

  using Values = std::vector<PickleValue*>;

  PickleValue& make(Kind kind) {
    if (pickle_.values_.size() == kMostValues) invalid(join("more than ", kMostValues, " values"));
    PickleValue& value = pickle_.values_.emplace_back();
    value.kind = kind;
    push(&value);
    return value;
  }
  bool make_text(Kind kind, size_t length_bytes) {
    const std::string_view text = take(unsigned_number(length_bytes));
    make(kind).text = text;
    return true;
  }
  bool make_of(Kind kind, const Values& items) {
    make(kind).items.assign(items.begin(), items.end());
    return true;
  }
  void make_global(std::string_view module, std::string_view name) {
    PickleValue& value = make(Kind::kGlobal);
    value.text = module;
    value.name = name;
  }
  void make_object(const PickleValue* callee, const PickleValue* argument) {
    PickleValue& value = make(Kind::kObject);
    value.callee = callee;
    value.argument = argument;
    if (callee->is_global("collections", "OrderedDict")) take_pairs(value);
  }
  // Python 2 pickles an OrderedDict as a call with a list of [key, value]. Lists can be passed again and again, so what is
  // copied is counted.
  void take_pairs(PickleValue& dict) {
    if (dict.argument->kind != Kind::kTuple || dict.argument->items.size() != 1) return;
    for (const PickleValue* pair : dict.argument->items[0]->items) {
      if (++copied_pairs_ > kMostValues) invalid(join("more than ", kMostValues, " entries of dicts"));
      if (pair->items.size() != 2) invalid("an OrderedDict is made of something other than pairs");
      dict.pairs.emplace_back(pair->items[0], pair->items[1]);
    }
  }
  void make_long(std::string_view digits) {
    if (digits.size() > sizeof(int64_t)) {
      make(Kind::kBigInteger).text = digits;
      return;
    }
    const bool negative = !digits.empty() && (static_cast<uint8_t>(digits.back()) & 0x80) != 0;
    int64_t value = negative ? -1 : 0;
    std::memcpy(&value, digits.data(), digits.size());
    make(Kind::kInteger).integer = value;
  }

  bool add_items(const Values& items) {
    PickleValue& target = top();
    if (target.kind != Kind::kList && target.kind != Kind::kSet && target.kind != Kind::kObject)
      invalid("something is appended to what is not a list");
    target.items.insert(target.items.end(), items.begin(), items.end());
    return true;
  }
  bool add_pairs(const Values& items) {
    PickleValue& target = top();
    if (target.kind != Kind::kDict && target.kind != Kind::kObject) invalid("a key is set in what is not a dict");
    if (items.size() % 2 != 0) invalid("a key without a value");
    for (size_t i = 0; i < items.size(); i += 2) target.pairs.emplace_back(items[i], items[i + 1]);
    return true;
  }

  // --- stack and memo ---

  void push(PickleValue* value) {
    if (stack_.size() == kMostValues) invalid(join("more than ", kMostValues, " values on the stack"));
    stack_.push_back(value);
  }
  PickleValue& top() {
    if (stack_.size() <= floor()) invalid("the stack is empty");
    return *stack_.back();
  }
  PickleValue* pop() {
    PickleValue* value = &top();
    stack_.pop_back();
    return value;
  }
  Values pop_last(size_t count) {
    if (stack_.size() < floor() + count) invalid("the stack is empty");
    const Values values(stack_.end() - static_cast<std::ptrdiff_t>(count), stack_.end());
    stack_.resize(stack_.size() - count);
    return values;
  }
  Values pop_to_mark() {
    if (marks_.empty()) invalid("no mark is set");
    Values values(stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back()), stack_.end());
    stack_.resize(marks_.back());
    marks_.pop_back();
    return values;
  }
  size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
  bool get(uint64_t index) {
    const auto found = memo_.find(index);
    if (found == memo_.end()) invalid(join("nothing is remembered under ", index));
    push(found->second);
    return true;
  }
  bool put(uint64_t index) {
    if (memo_.size() == kMostValues) invalid(join("more than ", kMostValues, " values to remember"));
    memo_[index] = &top();
    return true;
  }

  // --- bytes ---

  std::string_view take(uint64_t count) {
    if (count > bytes_.size() - position_) {
      fail(name_, ": the pickle ends early: at its byte ", opcode_position_, " it claims ", count,
           " bytes more, of which ", bytes_.size() - position_, " are there; was the file truncated?");
    }
    const std::string_view taken = bytes_.substr(position_, count);
    position_ += count;
    return taken;
  }
  uint64_t unsigned_number(size_t count) {  // little-endian
    uint64_t value = 0;
    std::memcpy(&value, take(count).data(), count);
    return value;
  }
  static double big_endian_double(std::string_view bytes) {
    uint64_t bits = 0;
    for (const char byte : bytes) bits = bits << 8 | static_cast<uint8_t>(byte);
    double value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
  }
  std::string_view line() {
    const size_t end = bytes_.find('\n', position_);
    if (end == std::string_view::npos) fail(name_, ": the pickle ends within a name; was the file truncated?");
    const std::string_view text = bytes_.substr(position_, end - position_);
    position_ = end + 1;
    return text;
  }
  [[noreturn]] void invalid(const std::string& problem) const {
    fail(name_, ": invalid pickle at its byte ", opcode_position_, ": ", problem);
  }

  std::string_view bytes_;
  const std::string& name_;
  Pickle& pickle_;
  size_t position_ = 0, opcode_position_ = 0, copied_pairs_ = 0;
  Values stack_;
  std::vector<size_t> marks_;  // sizes of the stack
  std::unordered_map<uint64_t, PickleValue*> memo_;
};

Pickle::Pickle(std::string_view bytes, const std::string& name) {
  PickleReader(bytes, name, *this).run();
}

std::vector<std::string> Pickle::globals() const {
  constexpr size_t kMost = 1000, kLongest = 100;
  std::set<std::string> names;
  for (const PickleValue& value : values_) {
    if (value.kind == Kind::kGlobal && names.size() < kMost)
      names.insert(join(value.text.substr(0, kLongest), ".", value.name.substr(0, kLongest)));
  }
  return {names.begin(), names.end()};
}

}  // namespace riffle
