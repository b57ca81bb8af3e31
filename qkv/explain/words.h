#pragma once
// Pieces of words into words, and words into columns of a terminal.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qkv::explain {

/// A sentence's tokens, grouped.
struct Words {
  std::vector<std::string> words;
  std::vector<int32_t> word_of;  // [n_tokens] the word that a token belongs to; -1: none (eos and its like)
};

enum class WordRule {
  kWhitespace,   // what stands between blanks: "Mann." is one word, as for the tools that read Pharaoh files
  kPunctuation,  // besides, punctuation stands alone, and so does every piece that begins with a wide (CJK)
                 // character
};

/// Groups the tokens of a sentence by their texts (Tokenizer::piece_text: " Mäd", "chen", "."). A word begins
/// with a piece that begins with a blank, and where the rule says so. A piece of blanks alone or of nothing
/// at all belongs to no word: give special tokens (eos) the text "". Texts may be single bytes of a
/// character: they join the piece before. What is not printable then becomes U+FFFD, as printable() says.
Words group_words(std::span<const std::string> pieces, WordRule rule = WordRule::kWhitespace);

/// `text` as valid, printable UTF-8: control characters and invalid bytes become U+FFFD, format characters
/// (bidirectional overrides, ...) are left out, so that no text can move the cursor or colour the screen.
/// ascii: all that is not printable ASCII becomes '?', one for one character.
std::string printable(std::string_view text, bool ascii = false);

/// Terminal columns that printable text takes (utf8proc_charwidth: CJK 2, combining marks 0).
int64_t display_width(std::string_view text);

/// `text` cut to at most `width` columns, the last of them "…" ("." where ascii) if anything was cut.
std::string fitted(std::string_view text, int64_t width, bool ascii = false);

}  // namespace qkv::explain
