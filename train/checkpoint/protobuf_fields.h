// The fields of a serialised protocol buffer, one after the other. Enough for TensorFlow's checkpoints, whose four small
// messages would not justify a code generator and a library.
// The encoding: https://protobuf.dev/programming-guides/encoding/
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace riffle {

// Takes a base-128 number of at most 64 bits off the front of `bytes`; false if there is none, `bytes` then unchanged.
bool take_varint(std::string_view& bytes, uint64_t& value);

struct ProtobufField {
  uint32_t number = 0;
  uint64_t value = 0;      // of numeric fields
  std::string_view bytes;  // of texts, bytes and messages
  bool is_numeric = false;
};

class ProtobufFields {
 public:
  // `what` names the message in errors; it must outlive this.
  ProtobufFields(std::string_view message, const std::string& what) : left_(message), what_(what) {}

  // False at the end; throws for what is no valid encoding.
  bool next(ProtobufField& field);
  // The current field, which must be of that kind.
  uint64_t number() const;
  std::string_view bytes() const;

 private:
  std::string_view take(size_t size);

  std::string_view left_;
  const std::string& what_;
  ProtobufField field_;
};

}  // namespace riffle
