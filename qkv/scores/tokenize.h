#pragma once
// The tokenisations of BLEU. A BLEU number means nothing without the name of the one it was made with, which
// is why that name is in the signature.
//
// All are those of sacreBLEU 2.x (sacrebleu/tokenizers/), one hand-written scanner for each of its regular
// expressions, run in its order: linear in the line, whatever is in it.

#include <string>
#include <string_view>
#include <vector>

namespace qkv::scores {

enum class BleuTokenizer {
  k13a,   // mteval-v13a of NIST and WMT: ASCII punctuation is split off, numbers stay whole. The default
  kNone,  // the white space that is there; for text that is tokenised already
  kIntl,  // mteval-v14's international mode: Unicode punctuation and symbols are split off
  kChar,  // every character is a token
  kZh,    // every Chinese character is a token; 13a for the rest
};

/// "13a", "none", "intl", "char", "zh".
const char* name(BleuTokenizer tokenizer);

/// The other way. Error kValue for any other name, with a list of these; it says so where sacreBLEU has the
/// name, but needs a model or a dictionary for it (spm, flores101, flores200, ja-mecab, ko-mecab).
BleuTokenizer parse_bleu_tokenizer(std::string_view name);

/// The names that parse_bleu_tokenizer takes.
std::vector<std::string> bleu_tokenizer_names();

/// `line` with its tokens parted by white space: take python_text.h's split() of it. For 13a, intl and zh
/// that is exactly one space; none and char may leave more, as in sacreBLEU.
std::string tokenize(std::string_view line, BleuTokenizer tokenizer);

/// Switches of the tercom tokenisation that TER uses.
struct TercomOptions {
  bool normalized = false;  // split punctuation off, undo XML escapes
  bool no_punct = false;    // drop . , ? : ; ! " ( )
  bool asian_support =
      false;  // with normalized: part Chinese characters and kanji; with no_punct: drop 、。...
  bool case_sensitive = false;  // keep upper case
};

/// `line` for TER: sacreBLEU's TercomTokenizer, after tercom's Normalizer.java. split() gives the words.
std::string tokenize_tercom(std::string_view line, const TercomOptions& options);

}  // namespace qkv::scores
