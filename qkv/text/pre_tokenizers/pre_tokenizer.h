#pragma once
// Step 2 of encoding: the normalised text cut into words, which the model never joins again.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "qkv/io/json.h"
#include "qkv/text/traced_text.h"

namespace qkv::text {

/// A text and its words, in order. What lies in no word is dropped.
struct Words {
  TracedText text;
  std::vector<Span> spans;

  std::string_view word(const Span& span) const {
    return std::string_view(text.text).substr(span.begin, span.end - span.begin);
  }
};

/// ByteLevel, Split, Metaspace, WhitespaceSplit, Whitespace, Digits, Punctuation and Sequence of
/// tokenizer.json. Thread-safe.
class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  /// Cuts every word of `words` further, or spells it anew. No word comes out empty.
  virtual void apply(Words& words) const = 0;
  virtual io::Json to_json() const = 0;
};

using PreTokenizerPtr = std::unique_ptr<const PreTokenizer>;

/// Error kFormat (a field is missing or wrong) or kUnsupported (no such type), beginning with `where`.
PreTokenizerPtr pre_tokenizer_from_json(const io::Json& json, const std::string& where);

/// What becomes of the matches when a word is split at them, shown for "a--b" split at "-":
enum class SplitBehavior {
  kRemoved,             // a b
  kIsolated,            // a - - b
  kContiguous,          // a -- b
  kMergedWithPrevious,  // a- - b
  kMergedWithNext,      // a - -b
};
SplitBehavior split_behavior_from(const std::string& name, const std::string& where);
const char* name(SplitBehavior behavior);

/// Where a word is cut: `matches` within it, left to right, none overlapping.
using FindMatches = std::function<void(std::string_view word, std::vector<Span>& matches)>;

/// Splits every word at its matches. `invert` swaps matches and what lies between them.
void split_words(Words& words, const FindMatches& find, SplitBehavior behavior, bool invert = false);

// The makers behind the registry.
PreTokenizerPtr make_byte_level(const io::Json&, const std::string&);
PreTokenizerPtr make_metaspace(const io::Json&, const std::string&);
PreTokenizerPtr make_split(const io::Json&, const std::string&);
PreTokenizerPtr make_whitespace_split(const io::Json&, const std::string&);
PreTokenizerPtr make_whitespace(const io::Json&, const std::string&);
PreTokenizerPtr make_digits(const io::Json&, const std::string&);
PreTokenizerPtr make_punctuation(const io::Json&, const std::string&);

}  // namespace qkv::text
