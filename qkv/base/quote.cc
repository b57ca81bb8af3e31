#include "qkv/base/quote.h"

#include <fmt/format.h>

namespace qkv {
namespace {

// Length of the UTF-8 character at the front of `text` and its code point, or 0 where the bytes are none.
int64_t decode_utf8(std::string_view text, uint32_t* code) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return *code = lead, 1;
  const size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < length) return 0;
  uint32_t value = lead & (0x7fu >> length);
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
    value = value << 6 | (byte(i) & 0x3fu);
  }
  const bool overlong = (length == 3 && value < 0x800) || (length == 4 && value < 0x10000);
  if (overlong || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff)) return 0;
  *code = value;
  return static_cast<int64_t>(length);
}

// Controls, line and paragraph separators, and the marks that reorder text on a screen.
bool is_harmless(uint32_t code) {
  if (code < 0x20 || (code >= 0x7f && code < 0xa0)) return false;
  return !(code == 0x061c || (code >= 0x200b && code <= 0x200f) || (code >= 0x2028 && code <= 0x202e) ||
           (code >= 0x2060 && code <= 0x2069) || code == 0xfeff);
}

std::string escape_bytes(std::string_view text, int64_t max_bytes, bool quotes) {
  std::string out;
  const int64_t size = static_cast<int64_t>(text.size());
  for (int64_t at = 0; at < size;) {
    if (at >= max_bytes) return out + "...";
    const std::string_view rest = text.substr(static_cast<size_t>(at));
    uint32_t code = 0;
    const int64_t length = decode_utf8(rest, &code);
    if (length == 0) {
      out += fmt::format("\\x{:02x}", static_cast<uint8_t>(rest[0]));
      at += 1;
      continue;
    }
    if (code == '\n') {
      out += "\\n";
    } else if (code == '\t') {
      out += "\\t";
    } else if (code == '\r') {
      out += "\\r";
    } else if (quotes && (code == '"' || code == '\\')) {
      out += '\\';
      out += static_cast<char>(code);
    } else if (is_harmless(code)) {
      out += rest.substr(0, static_cast<size_t>(length));
    } else {
      out += fmt::format("\\u{:04x}", code);
    }
    at += length;
  }
  return out;
}

}  // namespace

std::string quote(std::string_view text, int64_t max_bytes) {
  return '"' + escape_bytes(text, max_bytes, true) + '"';
}

std::string escape(std::string_view text, int64_t max_bytes) { return escape_bytes(text, max_bytes, false); }

}  // namespace qkv
