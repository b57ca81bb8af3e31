#include "qkv/text/utf8.h"

#include <cstring>

namespace qkv::utf8 {

namespace {

bool is_continuation(std::string_view text, size_t i) {
  return i < text.size() && (static_cast<unsigned char>(text[i]) & 0xC0) == 0x80;
}

// The number of bytes from `i` on that are ASCII, looked at eight at a time.
size_t ascii_run(std::string_view text, size_t i) {
  const size_t start = i;
  for (; i + 8 <= text.size(); i += 8) {
    uint64_t eight;
    std::memcpy(&eight, text.data() + i, 8);
    if (eight & 0x8080808080808080u) break;
  }
  while (i < text.size() && static_cast<unsigned char>(text[i]) < 0x80) ++i;
  return i - start;
}

}  // namespace

Step step(std::string_view text, size_t i) {
  const auto first = static_cast<unsigned char>(text[i]);
  if (first < 0x80) return {first, 1, true};

  // The range of the second byte depends on the first; it is what shuts out overlong forms (E0, F0),
  // surrogates (ED) and values past U+10FFFF (F4): RFC 3629, section 4.
  int32_t length = 0;
  char32_t value = 0;
  unsigned low = 0x80, high = 0xBF;
  if (first >= 0xC2 && first <= 0xDF) {
    length = 2, value = first & 0x1Fu;
  } else if (first >= 0xE0 && first <= 0xEF) {
    length = 3, value = first & 0x0Fu;
    if (first == 0xE0) low = 0xA0;
    if (first == 0xED) high = 0x9F;
  } else if (first >= 0xF0 && first <= 0xF4) {
    length = 4, value = first & 0x07u;
    if (first == 0xF0) low = 0x90;
    if (first == 0xF4) high = 0x8F;
  } else {
    return {kReplacement, 1, false};
  }

  for (int32_t k = 1; k < length; ++k) {
    const size_t at = i + static_cast<size_t>(k);
    const bool fits = is_continuation(text, at) && (k > 1 || (static_cast<unsigned char>(text[at]) >= low &&
                                                              static_cast<unsigned char>(text[at]) <= high));
    if (!fits) return {kReplacement, k, false};
    value = value << 6 | (static_cast<unsigned char>(text[at]) & 0x3Fu);
  }
  return {value, length, true};
}

std::optional<int64_t> first_invalid(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    i += ascii_run(text, i);
    if (i == text.size()) break;
    const Step s = step(text, i);
    if (!s.valid) return static_cast<int64_t>(i);
    i += static_cast<size_t>(s.length);
  }
  return std::nullopt;
}

std::string repaired(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for_each(text, [&](char32_t c, size_t begin, size_t end) {
    if (c == kReplacement)
      append(out, c);
    else
      out.append(text, begin, end - begin);
  });
  return out;
}

void append(std::string& out, char32_t c) {
  if (c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF)) c = kReplacement;
  const auto put = [&](char32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | c >> 6), put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12), put(0x80 | (c >> 6 & 0x3F)), put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | c >> 18), put(0x80 | (c >> 12 & 0x3F)), put(0x80 | (c >> 6 & 0x3F)), put(0x80 | (c & 0x3F));
  }
}

int64_t length(std::string_view text) {
  int64_t n = 0;
  for_each(text, [&](char32_t, size_t, size_t) { ++n; });
  return n;
}

}  // namespace qkv::utf8
