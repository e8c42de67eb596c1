// Text as HTML.
#include "train/report/html.h"

#include "core/check.h"

namespace riffle {
namespace {

const char* const kReplacement = "\xEF\xBF\xBD";

// The length of the UTF-8 sequence at `at`, or 0 if there is none: overlong forms, surrogates and code points above
// U+10FFFF are none.
size_t sequence_length(const std::string& text, size_t at) {
  const auto byte = [&](size_t i) { return at + i < text.size() ? static_cast<unsigned char>(text[at + i]) : 0u; };
  const auto follows = [&](size_t i, unsigned low, unsigned high) { return byte(i) >= low && byte(i) <= high; };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) return follows(1, 0x80, 0xBF) ? 2 : 0;
  if (first >= 0xE0 && first <= 0xEF) {
    const unsigned low = first == 0xE0 ? 0xA0 : 0x80, high = first == 0xED ? 0x9F : 0xBF;
    return follows(1, low, high) && follows(2, 0x80, 0xBF) ? 3 : 0;
  }
  if (first >= 0xF0 && first <= 0xF4) {
    const unsigned low = first == 0xF0 ? 0x90 : 0x80, high = first == 0xF4 ? 0x8F : 0xBF;
    return follows(1, low, high) && follows(2, 0x80, 0xBF) && follows(3, 0x80, 0xBF) ? 4 : 0;
  }
  return 0;
}

std::string escaped_symbol(char symbol) {
  switch (symbol) {
    case '<':
      return "&lt;";
    case '>':
      return "&gt;";
    case '&':
      return "&amp;";
    case '"':
      return "&quot;";
    case '\'':
      return "&#39;";
    default:
      break;
  }
  const bool control =
      (static_cast<unsigned char>(symbol) < 0x20 && symbol != '\n' && symbol != '\t') || symbol == 0x7f;
  return control ? kReplacement : std::string(1, symbol);
}

std::string base64(const std::vector<uint8_t>& bytes) {
  static const char* const kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t at = 0; at < bytes.size(); at += 3) {
    const size_t left = bytes.size() - at;
    const unsigned group = (static_cast<unsigned>(bytes[at]) << 16) |
                           (left > 1 ? static_cast<unsigned>(bytes[at + 1]) << 8 : 0u) |
                           (left > 2 ? static_cast<unsigned>(bytes[at + 2]) : 0u);
    text += kDigits[group >> 18];
    text += kDigits[group >> 12 & 63];
    text += left > 1 ? kDigits[group >> 6 & 63] : '=';
    text += left > 2 ? kDigits[group & 63] : '=';
  }
  return text;
}

}  // namespace

std::string html_escaped(const std::string& text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t length = sequence_length(text, at);
    if (length == 0) {
      out += kReplacement;
      ++at;
    } else if (length == 1) {
      out += escaped_symbol(text[at++]);
    } else {
      out += text.substr(at, length);
      at += length;
    }
  }
  return out;
}

std::string script_escaped(std::string json) {
  for (size_t at = 0; (at = json.find('<', at)) != std::string::npos;) json.replace(at, 1, "\\u003c");
  return json;
}

std::string image_data_url(const std::vector<uint8_t>& bytes, const std::string& path) {
  const bool png = bytes.size() > 8 && bytes[0] == 0x89 && bytes[1] == 'P' && bytes[2] == 'N' && bytes[3] == 'G';
  const bool jpeg = bytes.size() > 3 && bytes[0] == 0xFF && bytes[1] == 0xD8;
  if (!png && !jpeg) fail(path, " is neither a PNG nor a JPEG file");
  return std::string("data:image/") + (png ? "png" : "jpeg") + ";base64," + base64(bytes);
}

}  // namespace riffle
