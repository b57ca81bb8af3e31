#include "qkv/explain/words.h"

#include <utf8proc.h>

namespace qkv::explain {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

struct Character {
  int32_t code;  // -1: not UTF-8
  size_t bytes;  // at least 1
};

Character first_character(std::string_view text) {
  utf8proc_int32_t code = -1;
  const auto bytes = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                      static_cast<utf8proc_ssize_t>(text.size()), &code);
  return bytes > 0 ? Character{code, static_cast<size_t>(bytes)} : Character{-1, 1};
}

Character last_character(std::string_view text) {
  size_t at = text.size();
  while (at > 0 && (static_cast<unsigned char>(text[--at]) & 0xC0) == 0x80) {
  }
  const Character c = first_character(text.substr(at));
  return at + c.bytes == text.size() ? c : Character{-1, 1};
}

bool is_blank(int32_t code) {
  return code == ' ' || (code >= '\t' && code <= '\r') ||
         (code >= 0 && utf8proc_category(code) == UTF8PROC_CATEGORY_ZS);
}

bool is_punctuation(int32_t code) {
  if (code < 0) return false;
  const utf8proc_category_t c = utf8proc_category(code);
  return c >= UTF8PROC_CATEGORY_PC && c <= UTF8PROC_CATEGORY_PO;
}

bool is_wide(int32_t code) { return code >= 0 && utf8proc_charwidth(code) == 2; }

std::string_view without_blanks(std::string_view text) {
  while (!text.empty()) {
    const Character c = first_character(text);
    if (!is_blank(c.code)) break;
    text.remove_prefix(c.bytes);
  }
  while (!text.empty()) {
    const Character c = last_character(text);
    if (!is_blank(c.code)) break;
    text.remove_suffix(c.bytes);
  }
  return text;
}

}  // namespace

Words group_words(std::span<const std::string> pieces, WordRule rule) {
  Words out;
  bool begins = true;  // the next piece begins a word, whatever it is
  for (const std::string_view piece : pieces) {
    const std::string_view bare = without_blanks(piece);
    if (bare.empty()) {
      out.word_of.push_back(-1);
      begins = true;
      continue;
    }
    const int32_t first = first_character(bare).code;
    begins = begins || bare.data() != piece.data();
    if (rule == WordRule::kPunctuation && !begins) {
      const int32_t before = last_character(out.words.back()).code;
      begins = is_punctuation(first) || is_punctuation(before) || is_wide(first) ||
               (is_wide(before) && first >= 0);
    }
    if (begins) out.words.emplace_back();
    out.words.back() += bare;
    out.word_of.push_back(static_cast<int32_t>(out.words.size()) - 1);
    begins = bare.data() + bare.size() != piece.data() + piece.size();
  }
  for (std::string& word : out.words) word = printable(word);
  return out;
}

std::string printable(std::string_view text, bool ascii) {
  std::string out;
  while (!text.empty()) {
    const Character c = first_character(text);
    const std::string_view bytes = text.substr(0, c.bytes);
    text.remove_prefix(c.bytes);
    const utf8proc_category_t category = c.code < 0 ? UTF8PROC_CATEGORY_CC : utf8proc_category(c.code);
    if (category == UTF8PROC_CATEGORY_CF) continue;
    const bool shown = category != UTF8PROC_CATEGORY_CC && category != UTF8PROC_CATEGORY_CN &&
                       category != UTF8PROC_CATEGORY_CS && category != UTF8PROC_CATEGORY_ZL &&
                       category != UTF8PROC_CATEGORY_ZP;
    if (ascii)
      out += shown && c.code < 128 ? static_cast<char>(c.code) : '?';
    else
      out += shown ? bytes : kReplacement;
  }
  return out;
}

int64_t display_width(std::string_view text) {
  int64_t width = 0;
  while (!text.empty()) {
    const Character c = first_character(text);
    width += c.code < 0 ? 1 : utf8proc_charwidth(c.code);
    text.remove_prefix(c.bytes);
  }
  return width;
}

std::string fitted(std::string_view text, int64_t width, bool ascii) {
  if (display_width(text) <= width) return std::string(text);
  if (width <= 0) return {};
  std::string out;
  int64_t used = 0;
  while (!text.empty()) {
    const Character c = first_character(text);
    const int64_t more = c.code < 0 ? 1 : utf8proc_charwidth(c.code);
    if (used + more > width - 1) break;
    used += more;
    out += text.substr(0, c.bytes);
    text.remove_prefix(c.bytes);
  }
  return out + (ascii ? "." : "…");
}

}  // namespace qkv::explain
