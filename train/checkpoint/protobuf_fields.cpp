// Decoding of protocol buffers, bounded by the message's bytes.
#include "train/checkpoint/protobuf_fields.h"

#include <cstring>

#include "core/check.h"

namespace riffle {
namespace {

enum WireType : uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

}  // namespace

bool take_varint(std::string_view& bytes, uint64_t& value) {
  constexpr size_t kMaxBytes = 10;
  uint64_t result = 0;
  for (size_t i = 0; i < bytes.size() && i < kMaxBytes; ++i) {
    const auto byte = static_cast<uint8_t>(bytes[i]);
    if (i == kMaxBytes - 1 && byte > 1) return false;  // beyond 64 bits
    result |= static_cast<uint64_t>(byte & 0x7f) << (7 * i);
    if ((byte & 0x80) == 0) {
      bytes.remove_prefix(i + 1);
      value = result;
      return true;
    }
  }
  return false;
}

std::string_view ProtobufFields::take(size_t size) {
  if (size > left_.size())
    fail(what_, ": field ", field_.number, " takes ", size, " bytes, but only ", left_.size(), " are left");
  const std::string_view taken = left_.substr(0, size);
  left_.remove_prefix(size);
  return taken;
}

bool ProtobufFields::next(ProtobufField& field) {
  if (left_.empty()) return false;
  uint64_t tag = 0, size = 0;
  field_ = {};
  if (!take_varint(left_, tag) || tag > UINT32_MAX || tag >> 3 == 0) fail(what_, ": not a valid protocol buffer");
  field_.number = static_cast<uint32_t>(tag >> 3);
  switch (tag & 7) {
    case kVarint:
      if (!take_varint(left_, field_.value)) fail(what_, ": field ", field_.number, " is not a valid number");
      field_.is_numeric = true;
      break;
    case kFixed64:
    case kFixed32: {
      const std::string_view bytes = take((tag & 7) == kFixed64 ? 8 : 4);
      std::memcpy(&field_.value, bytes.data(), bytes.size());
      field_.is_numeric = true;
      break;
    }
    case kBytes:
      if (!take_varint(left_, size)) fail(what_, ": field ", field_.number, " has no valid length");
      field_.bytes = take(size);
      break;
    default:
      fail(what_, ": field ", field_.number, " has wire type ", tag & 7, "; expected 0, 1, 2 or 5");
  }
  field = field_;
  return true;
}

uint64_t ProtobufFields::number() const {
  if (!field_.is_numeric) fail(what_, ": field ", field_.number, " is text; expected a number");
  return field_.value;
}

std::string_view ProtobufFields::bytes() const {
  if (field_.is_numeric) fail(what_, ": field ", field_.number, " is a number; expected text or a message");
  return field_.bytes;
}

}  // namespace riffle
