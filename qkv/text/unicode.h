#pragma once
// What Unicode says about characters: normal forms, case and the classes that tokenizers split by.
// Tables: utf8proc 2.8 (Unicode 15.0).

#include <string>
#include <string_view>

namespace qkv::unicode {

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

/// `text` in a normal form (Unicode Standard Annex 15). Stable over any text; at most 11 times as long.
/// Throws Error kValue where the text is not UTF-8.
std::string normalized(std::string_view text, NormalForm form);

/// Whether normalising may cut before `c`: what precedes it neither composes with it nor is reordered past
/// it. Then normalized(a + c...) == normalized(a) + normalized(c...). May be false without need, never true
/// wrongly.
bool is_boundary(char32_t c, NormalForm form);

/// Appends the lower case of one character: one character for all but U+0130, which gives "i̇". No context is
/// looked at, so a final Σ becomes σ (as char::to_lowercase in Rust).
void append_lower(std::string& out, char32_t c);

bool is_whitespace(char32_t c);   // property White_Space
bool is_numeric(char32_t c);      // categories Nd, Nl, No
bool is_punctuation(char32_t c);  // categories P*, and all ASCII punctuation ('$', '+', '<', '^', ...)
bool is_word(char32_t c);         // \w of UTS 18: Alphabetic, M*, Nd, Pc, Join_Control

}  // namespace qkv::unicode
