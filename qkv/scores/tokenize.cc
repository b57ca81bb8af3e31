#include "qkv/scores/tokenize.h"

#include <fmt/ranges.h>
#include <utf8proc.h>

#include <array>
#include <utility>

#include "qkv/base/error.h"
#include "qkv/base/quote.h"
#include "qkv/scores/python_text.h"
#include "qkv/text/utf8.h"

namespace qkv::scores {
namespace {

constexpr std::array<std::pair<BleuTokenizer, const char*>, 5> kNames = {{{BleuTokenizer::k13a, "13a"},
                                                                          {BleuTokenizer::kNone, "none"},
                                                                          {BleuTokenizer::kIntl, "intl"},
                                                                          {BleuTokenizer::kChar, "char"},
                                                                          {BleuTokenizer::kZh, "zh"}}};

template <class Char>
bool is_digit(Char c) {
  return c >= Char('0') && c <= Char('9');
}

// [\{-\~\[-\` -\&\(-\+\:-\@\/]: ASCII punctuation without ' , - . and with the space.
template <class Char>
bool is_western_punct(Char c) {
  const auto in = [c](char low, char high) { return c >= Char(low) && c <= Char(high); };
  return in('{', '~') || in('[', '`') || in(' ', '&') || in('(', '+') || in(':', '@') || c == Char('/');
}

template <class String>
void replace_all(String& text, const String& from, const String& to) {
  size_t at = text.find(from);
  if (at == String::npos) return;
  String out;
  size_t begin = 0;
  for (; at != String::npos; at = text.find(from, begin)) {
    out.append(text, begin, at - begin).append(to);
    begin = at + from.size();
  }
  out.append(text, begin, String::npos);
  text = std::move(out);
}

// ([x]) -> " \1 "
template <class String, class Class>
void pad_each(String& text, Class&& in_class) {
  using Char = typename String::value_type;
  String out;
  out.reserve(text.size() + text.size() / 2);
  for (const Char c : text) {
    if (in_class(c)) {
      out += {Char(' '), c, Char(' ')};
    } else {
      out += c;
    }
  }
  text = std::move(out);
}

// (first)(second) -> "\1 \2 ": a match takes both characters, so the second cannot begin the next match.
template <class String, class First, class Second>
void part_after(String& text, First&& first, Second&& second) {
  using Char = typename String::value_type;
  String out;
  out.reserve(text.size() + text.size() / 2);
  for (size_t i = 0; i < text.size(); ++i) {
    out += text[i];
    if (i + 1 < text.size() && first(text[i]) && second(text[i + 1])) {
      out += {Char(' '), text[i + 1], Char(' ')};
      ++i;
    }
  }
  text = std::move(out);
}

// (first)(second) -> " \1 \2"
template <class String, class First, class Second>
void part_before(String& text, First&& first, Second&& second) {
  using Char = typename String::value_type;
  String out;
  out.reserve(text.size() + text.size() / 2);
  for (size_t i = 0; i < text.size(); ++i) {
    if (i + 1 < text.size() && first(text[i]) && second(text[i + 1])) {
      out += {Char(' '), text[i], Char(' '), text[i + 1]};
      ++i;
    } else {
      out += text[i];
    }
  }
  text = std::move(out);
}

// The three rules on full stops, commas and dashes that 13a and tercom share. On bytes they do what they do
// on characters: the only characters named are ASCII, and a part of a longer one is "not a digit" as its
// whole is, at the same end of it.
template <class String>
void part_numbers(String& text) {
  using Char = typename String::value_type;
  const auto digit = [](Char c) { return is_digit(c); };
  const auto not_digit = [](Char c) { return !is_digit(c); };
  const auto stop = [](Char c) { return c == Char('.') || c == Char(','); };
  part_after(text, not_digit, stop);                               // unless preceded by a digit
  part_before(text, stop, not_digit);                              // unless followed by a digit
  part_after(text, digit, [](Char c) { return c == Char('-'); });  // a dash preceded by a digit
}

std::string joined(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const std::string_view word : split(text)) {
    if (!out.empty()) out += ' ';
    out += word;
  }
  return out;
}

void undo_escapes(std::string& line) {
  if (line.find('&') == std::string::npos) return;
  replace_all<std::string>(line, "&quot;", "\"");
  replace_all<std::string>(line, "&amp;", "&");
  replace_all<std::string>(line, "&lt;", "<");
  replace_all<std::string>(line, "&gt;", ">");
}

std::string western(std::string line) {
  pad_each(line, [](char c) { return is_western_punct(c); });
  part_numbers(line);
  return joined(line);
}

std::string tokenize_13a(std::string_view text) {
  std::string line(text);
  replace_all<std::string>(line, "<skipped>", "");
  replace_all<std::string>(line, "-\n", "");
  replace_all<std::string>(line, "\n", " ");
  undo_escapes(line);
  return western(" " + line + " ");
}

enum class Kind { kOther, kNumber, kPunctuation, kSymbol };

// utf8proc numbers the categories of a kind in a row.
Kind kind_of(char32_t c) {
  const utf8proc_category_t k = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  if (k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO) return Kind::kNumber;
  if (k >= UTF8PROC_CATEGORY_PC && k <= UTF8PROC_CATEGORY_PO) return Kind::kPunctuation;
  if (k >= UTF8PROC_CATEGORY_SM && k <= UTF8PROC_CATEGORY_SO) return Kind::kSymbol;
  return Kind::kOther;
}

// A number's full stop at the end of the line stays with it: (\p{P})(\P{N}) wants a character after. So in
// mteval-v14, so in sacreBLEU.
std::string tokenize_intl(std::string_view line) {
  std::u32string text = decode(line);
  const auto not_number = [](char32_t c) { return kind_of(c) != Kind::kNumber; };
  const auto punctuation = [](char32_t c) { return kind_of(c) == Kind::kPunctuation; };
  part_after(text, not_number, punctuation);
  part_before(text, punctuation, not_number);
  pad_each(text, [](char32_t c) { return kind_of(c) == Kind::kSymbol; });
  return joined(encode(text));
}

std::string tokenize_char(std::string_view line) {
  std::string out;
  for (const char32_t c : decode(line)) {
    if (!out.empty()) out += ' ';
    utf8::append(out, c);
  }
  return out;
}

// sacreBLEU writes extension B as '\u20000' .. '\u2a6d6', which Python reads as two characters: U+2000 and
// "0", U+2A6D and "6". A single character lies between those strings from U+2001 to U+2A6D, so general
// punctuation, arrows and mathematical signs are parted and extension B itself is not. The scores people
// publish are made with it, so it stays. ('\u2f800' .. '\u2fa1d' falls inside the Kangxi radicals' range.)
bool is_chinese(char32_t c) {
  static constexpr std::array<std::pair<char32_t, char32_t>, 18> kRanges = {{
      {0x2001, 0x2A6D},
      {0x2E80, 0x2EFF},
      {0x2F00, 0x2FDF},
      {0x2FF0, 0x2FFF},
      {0x3000, 0x303F},
      {0x3100, 0x312F},
      {0x31A0, 0x31BF},
      {0x31C0, 0x31EF},
      {0x3200, 0x32FF},
      {0x3300, 0x33FF},
      {0x3400, 0x4DB5},
      {0x4E00, 0x9FBB},
      {0xF900, 0xFA2D},
      {0xFA30, 0xFA6A},
      {0xFA70, 0xFAD9},
      {0xFE10, 0xFE1F},
      {0xFE30, 0xFE4F},
      {0xFF00, 0xFFEF},
  }};
  for (const auto& [low, high] : kRanges)
    if (c >= low && c <= high) return true;
  return false;
}

std::string tokenize_zh(std::string_view line) {
  std::u32string text = decode(strip(line));
  pad_each(text, is_chinese);
  return western(encode(text));
}

}  // namespace

const char* name(BleuTokenizer tokenizer) {
  for (const auto& [value, text] : kNames)
    if (value == tokenizer) return text;
  return "?";
}

std::vector<std::string> bleu_tokenizer_names() {
  std::vector<std::string> names;
  for (const auto& entry : kNames) names.emplace_back(entry.second);
  return names;
}

BleuTokenizer parse_bleu_tokenizer(std::string_view name) {
  for (const auto& [value, text] : kNames)
    if (name == text) return value;
  for (const char* known : {"spm", "flores101", "flores200", "ja-mecab", "ko-mecab"}) {
    QKV_CHECK(
        name != known, kValue,
        "bleu: tokenisation {} needs a model or dictionary that qkv does not carry; there is {} (for text "
        "that is tokenised already: none)",
        name, fmt::join(bleu_tokenizer_names(), ", "));
  }
  throw_error(ErrorCode::kValue, "bleu: unknown tokenisation {}; there is {}", quote(name, 40),
              fmt::join(bleu_tokenizer_names(), ", "));
}

std::string tokenize(std::string_view line, BleuTokenizer tokenizer) {
  switch (tokenizer) {
    case BleuTokenizer::k13a:
      return tokenize_13a(line);
    case BleuTokenizer::kNone:
      return std::string(line);
    case BleuTokenizer::kIntl:
      return tokenize_intl(line);
    case BleuTokenizer::kChar:
      return tokenize_char(line);
    case BleuTokenizer::kZh:
      return tokenize_zh(line);
  }
  throw_error(ErrorCode::kInternal, "bleu: tokenizer {} has no case", static_cast<int>(tokenizer));
}

namespace {

bool is_cjk(char32_t c) {
  // Unified ideographs and extension A, strokes, radicals, compatibility forms; and 3200-3F22, which means to
  // be "enclosed letters and months" and reads 3F for 32.
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x31C0 && c <= 0x31EF) ||
         (c >= 0x2E80 && c <= 0x2EFF) || (c >= 0x3300 && c <= 0x33FF) || (c >= 0xF900 && c <= 0xFAFF) ||
         (c >= 0xFE30 && c <= 0xFE4F) || (c >= 0x3200 && c <= 0x3F22);
}

bool is_asian_punct(char32_t c) {
  return c == 0x3001 || c == 0x3002 || (c >= 0x3008 && c <= 0x3011) || (c >= 0x3014 && c <= 0x301F) ||
         (c >= 0xFF61 && c <= 0xFF65) || c == 0x30FB ||  // and the full-width forms:
         c == 0xFF0E || c == 0xFF0C || c == 0xFF1F || c == 0xFF1A || c == 0xFF1B || c == 0xFF01 ||
         c == 0xFF02 || c == 0xFF08 || c == 0xFF09;
}

template <class String, class Class>
void drop_each(String& text, Class&& in_class) {
  String out;
  for (const auto c : text)
    if (!in_class(c)) out += c;
  text = std::move(out);
}

std::string normalized(std::string line, bool asian_support) {
  replace_all<std::string>(line, "\n-", "");
  replace_all<std::string>(line, "\n", " ");
  undo_escapes(line);
  line = " " + line + " ";
  pad_each(line, [](char c) { return is_western_punct(c); });
  replace_all<std::string>(line, "'s ", " 's ");  // its twin for the end of the line has a space to meet too
  part_numbers(line);
  if (asian_support) {
    // sacreBLEU's three rules for kana want them at the very start of the line, where the space just put in
    // front is: they match nothing, and runs of kana stay whole between the ideographs.
    std::u32string text = decode(line);
    pad_each(text, [](char32_t c) { return is_cjk(c) || is_asian_punct(c); });
    line = encode(text);
  }
  return joined(line);
}

}  // namespace

std::string tokenize_tercom(std::string_view text, const TercomOptions& options) {
  std::string line = options.case_sensitive ? std::string(text) : lower(text);
  if (options.normalized) line = normalized(std::move(line), options.asian_support);
  if (options.no_punct) {
    drop_each(line, [](char c) { return std::string_view(".,?:;!\"()").find(c) != std::string_view::npos; });
    if (options.asian_support) {
      std::u32string codes = decode(line);
      drop_each(codes, is_asian_punct);
      line = encode(codes);
    }
  }
  return line;
}

}  // namespace qkv::scores
