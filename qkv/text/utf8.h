#pragma once
// UTF-8 (RFC 3629): checking it, walking over it, writing it. Every function is safe on any bytes.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace qkv::utf8 {

constexpr char32_t kReplacement = 0xFFFD;

/// One step through a text: a character and the bytes it takes. Where the bytes are not UTF-8, `valid` is
/// false, `value` U+FFFD and `length` that of the longest beginning of a character found there, at least 1
/// (Unicode 15, section 3.9, "maximal subpart": what browsers and Rust do).
struct Step {
  char32_t value = 0;
  int32_t length = 0;
  bool valid = true;
};

/// The character at byte `i` of `text`; i < text.size(). Surrogates, overlong forms and values past U+10FFFF
/// are not UTF-8.
Step step(std::string_view text, size_t i);

/// Where the first byte that is not UTF-8 stands, or nothing. About 10 GB/s on ASCII.
std::optional<int64_t> first_invalid(std::string_view text);

/// `text` with a U+FFFD for each maximal subpart that is not UTF-8.
std::string repaired(std::string_view text);

/// Appends a character. U+FFFD stands in for what is none (surrogates, past U+10FFFF).
void append(std::string& out, char32_t c);

/// The number of characters. Costs a pass.
int64_t length(std::string_view text);

/// Calls body(char32_t, begin, end) for each character, in order.
template <class Body>
void for_each(std::string_view text, Body&& body) {
  for (size_t i = 0; i < text.size();) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const Step s = byte < 0x80 ? Step{byte, 1, true} : step(text, i);
    body(s.value, i, i + static_cast<size_t>(s.length));
    i += static_cast<size_t>(s.length);
  }
}

}  // namespace qkv::utf8
