// The restricted unpickler: opcodes of Python's pickle module, and what is refused.
#include <gtest/gtest.h>

#include <string>

#include "tests/checkpoint_files.h"
#include "train/checkpoint/pickle.h"

namespace riffle {
namespace {

using Kind = PickleValue::Kind;

std::string bytes(std::initializer_list<int> values) {
  std::string text;
  for (const int value : values) text.push_back(static_cast<char>(value));
  return text;
}

std::string parsing(const std::string& text) {
  return message_of([&] { Pickle(text, "x.pkl"); });
}

TEST(Pickle, Numbers) {
  const auto integer = [](const std::string& text) {
    const Pickle pickle(text, "x");
    EXPECT_EQ(pickle.root().kind, Kind::kInteger);
    return pickle.root().integer;
  };
  EXPECT_EQ(integer(bytes({'K', 255, '.'})), 255);
  EXPECT_EQ(integer(bytes({'M', 1, 2, '.'})), 513);
  EXPECT_EQ(integer(bytes({'J', 0xff, 0xff, 0xff, 0xff, '.'})), -1);
  EXPECT_EQ(integer(bytes({0x8a, 0, '.'})), 0);
  EXPECT_EQ(integer(bytes({0x8a, 1, 0x80, '.'})), -128);
  EXPECT_EQ(integer(bytes({0x8a, 5, 0, 0, 0, 0, 1, '.'})), int64_t{1} << 32);
  const std::string text = bytes({'G', 0x3f, 0xf8, 0, 0, 0, 0, 0, 0, '.'});
  const Pickle number(text, "x");
  EXPECT_EQ(number.root().number, 1.5);
  const std::string big_text = bytes({0x8a, 9, 0, 0, 0, 0, 0, 0, 0, 0, 1, '.'});
  const Pickle big(big_text, "x");
  EXPECT_EQ(big.root().kind, Kind::kBigInteger);
}

// {'a': [1, 2, (3,)], 'b': None}, the list and the dict being filled after they were made and remembered.
TEST(Pickle, ContainersAreFilledInPlace) {
  const std::string text = bytes({0x80, 2,   '}', 'q', 0, '(',  'X', 1,   0, 0, 0, 'a', ']', 'q', 1,   '(', 'K',
                                  1,    'K', 2,   'K', 3, 0x85, 'e', 'X', 1, 0, 0, 0,   'b', 'N', 'u', '.', 'x'});
  const Pickle pickle(text, "x");
  EXPECT_EQ(pickle.size(), text.size() - 1);
  ASSERT_EQ(pickle.root().kind, Kind::kDict);
  ASSERT_EQ(pickle.root().pairs.size(), 2u);
  const PickleValue* list = pickle.root().find("a");
  ASSERT_NE(list, nullptr);
  ASSERT_EQ(list->items.size(), 3u);
  EXPECT_EQ(list->items[2]->kind, Kind::kTuple);
  EXPECT_EQ(list->items[2]->items[0]->integer, 3);
  EXPECT_EQ(pickle.root().find("b")->kind, Kind::kNone);
  EXPECT_EQ(pickle.root().find("c"), nullptr);
}

TEST(Pickle, CallsAreRememberedAndNotMade) {
  const std::string text =
      "\x80\x02"
      "cos\nsystem\n"
      "X" +
      bytes({2, 0, 0, 0}) + "ls" +
      "\x85"
      "R.";
  const Pickle pickle(text, "x");
  EXPECT_EQ(pickle.root().kind, Kind::kObject);
  EXPECT_TRUE(pickle.root().callee->is_global("os", "system"));
  EXPECT_TRUE(pickle.root().argument->items[0]->is_text("ls"));
  EXPECT_EQ(pickle.globals(), std::vector<std::string>{"os.system"});
}

// A list that contains itself: nothing walks around it for ever, and nothing leaks.
TEST(Pickle, CirclesAreHarmless) {
  const std::string text = bytes({']', 0x94, 'h', 0, 'a', '.'});
  const Pickle pickle(text, "x");
  EXPECT_EQ(pickle.root().items[0], &pickle.root());
}

TEST(Pickle, DeepNestingNeedsNoStack) {
  std::string text;
  for (int i = 0; i < 500000; ++i) text += ']';
  for (int i = 0; i < 499999; ++i) text += 'a';
  text += '.';
  const Pickle pickle(text, "x");
  EXPECT_EQ(pickle.root().items.size(), 1u);
}

TEST(Pickle, RefusesWhatIsMalformed) {
  expect_message(parsing(""), {"x.pkl", "ends early"});
  expect_message(parsing("N"), {"ends early"});
  expect_message(parsing("."), {"stack is empty"});
  expect_message(parsing("(."), {"stack is empty"});
  expect_message(parsing("t."), {"no mark"});
  expect_message(parsing("a."), {"stack is empty"});
  expect_message(parsing("NNa."), {"not a list"});
  expect_message(parsing("}(Nu."), {"without a value"});
  expect_message(parsing("]NNs."), {"not a dict"});
  expect_message(parsing(bytes({'h', 3, '.'})), {"nothing is remembered under 3"});
  expect_message(parsing(bytes({0x80, 9, '.'})), {"protocol 9"});
  expect_message(parsing("I1\n."), {"opcode 73"});
  expect_message(parsing("cos"), {"ends within a name"});
  expect_message(parsing("K\x01"
                         "K\x02"
                         "\x93."),
                 {"name is not text"});
}

TEST(Pickle, ClaimsOfSizesAreCheckedFirst) {
  expect_message(parsing(bytes({'X', 0xff, 0xff, 0xff, 0xff, 'a', '.'})), {"4294967295 bytes more", "2 are there"});
  expect_message(parsing(bytes({0x8d, 0, 0, 0, 0, 0, 0, 0, 0x80, 'a', '.'})), {"9223372036854775808 bytes more"});
  expect_message(parsing(bytes({0x8b, 0xff, 0xff, 0xff, 0x7f, '.'})), {"bytes more"});
  expect_message(parsing(std::string(1000001, ')') + "."), {"more than 1000000 values"});
}

}  // namespace
}  // namespace riffle
