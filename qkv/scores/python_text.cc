#include "qkv/scores/python_text.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>

#include "qkv/text/utf8.h"

namespace qkv::scores {
namespace {

// Bytes of the white space character at i, or 0.
size_t space_at(std::string_view text, size_t i) {
  const auto c = static_cast<unsigned char>(text[i]);
  if (c < 0x80) return is_space(c) ? 1 : 0;
  if (c != 0xC2 && c != 0xE1 && c != 0xE2 && c != 0xE3) return 0;  // the only leads white space has
  const utf8::Step s = utf8::step(text, i);
  return s.valid && is_space(s.value) ? static_cast<size_t>(s.length) : 0;
}

bool between(char32_t c, char32_t low, char32_t high) { return c >= low && c <= high; }

// Property Cased, less what is case-ignorable too (modifier letters): ends_word() never asks about those.
bool is_cased(char32_t c) {
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LL ||
         category == UTF8PROC_CATEGORY_LT || c == 0xAA || c == 0xBA || between(c, 0x2160, 0x217F) ||
         between(c, 0x24B6, 0x24E9) || between(c, 0x1F130, 0x1F149) || between(c, 0x1F150, 0x1F169) ||
         between(c, 0x1F170, 0x1F189);
}

// Property Case_Ignorable: five categories, and the word-break classes MidLetter, MidNumLet, Single_Quote.
bool is_case_ignorable(char32_t c) {
  static constexpr std::array<char32_t, 16> kMidWord = {0x27,   0x2E,   0x3A,   0xB7,   0x387,  0x55F,
                                                        0x5F4,  0x2018, 0x2019, 0x2024, 0x2027, 0xFE13,
                                                        0xFE52, 0xFE55, 0xFF07, 0xFF0E};
  if (std::find(kMidWord.begin(), kMidWord.end(), c) != kMidWord.end() || c == 0xFF1A) return true;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
      return true;
    default:
      return false;
  }
}

// Unicode Standard 3.13, Final_Sigma: a cased letter before, none after, case-ignorables between allowed.
bool ends_word(const std::u32string& text, size_t sigma) {
  size_t before = sigma;
  while (before > 0 && is_case_ignorable(text[before - 1])) --before;
  if (before == 0 || !is_cased(text[before - 1])) return false;
  size_t after = sigma + 1;
  while (after < text.size() && is_case_ignorable(text[after])) ++after;
  return after == text.size() || !is_cased(text[after]);
}

}  // namespace

std::u32string decode(std::string_view text) {
  std::u32string out;
  out.reserve(text.size());
  utf8::for_each(text, [&](char32_t c, size_t, size_t) { out.push_back(c); });
  return out;
}

std::string encode(std::u32string_view text) {
  std::string out;
  out.reserve(text.size() * 2);
  for (const char32_t c : text) utf8::append(out, c);
  return out;
}

bool is_space(char32_t c) {
  return between(c, 0x09, 0x0D) || between(c, 0x1C, 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         between(c, 0x2000, 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

std::string_view rstrip(std::string_view text) {
  for (bool shorter = true; shorter && !text.empty();) {
    shorter = false;
    for (size_t bytes = 1; bytes <= 3 && bytes <= text.size() && !shorter; ++bytes) {
      shorter = space_at(text, text.size() - bytes) == bytes;
      if (shorter) text.remove_suffix(bytes);
    }
  }
  return text;
}

std::string_view strip(std::string_view text) {
  while (!text.empty()) {
    const size_t bytes = space_at(text, 0);
    if (bytes == 0) break;
    text.remove_prefix(bytes);
  }
  return rstrip(text);
}

std::vector<std::string_view> split(std::string_view text) {
  std::vector<std::string_view> words;
  size_t begin = 0;
  for (size_t i = 0; i < text.size();) {
    const size_t space = space_at(text, i);
    if (space == 0) {
      ++i;
      continue;
    }
    if (i > begin) words.push_back(text.substr(begin, i - begin));
    i += space;
    begin = i;
  }
  if (begin < text.size()) words.push_back(text.substr(begin));
  return words;
}

std::string lower(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  if (std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; })) {
    for (const char c : text) out.push_back(c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c);
    return out;
  }
  const std::u32string codes = decode(text);
  for (size_t i = 0; i < codes.size(); ++i) {
    const char32_t c = codes[i];
    if (c == 0x130) {
      out += "i\xCC\x87";  // i and a combining dot above
    } else if (c == 0x3A3) {
      utf8::append(out, ends_word(codes, i) ? 0x3C2 : 0x3C3);
    } else {
      utf8::append(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
    }
  }
  return out;
}

}  // namespace qkv::scores
