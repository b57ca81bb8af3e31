#pragma once
// Regular expressions from tokenizer files, run on user text with bounded time and stack.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "qkv/text/traced_text.h"

namespace qkv::text {

/// A regular expression in the dialect of tokenizer.json (Oniguruma's, as Ruby uses it), matched by PCRE2.
///
/// What the two read differently is translated: \s is the property White_Space (PCRE2's has U+180E besides),
/// \w is Alphabetic, M, Nd and Pc, \h a hex digit, \uHHHH a character, ^ and $ are the borders of lines. What
/// PCRE2 cannot do is refused by name: set operations and nested sets in [...], \W inside [...].
///
/// Back-tracking expressions can take exponential time. Here a search ends in Error kUnsupported once it has
/// used about a million steps and 16 more a byte, or half a second and 5 more microseconds a byte, whichever
/// comes first; those of the published tokenizers take a few steps a byte. The stack is constant, whatever
/// the text.
///
/// Throws Error: kFormat (not a regular expression; says where), kUnsupported (see above). Threads may share
/// one.
class Regex {
 public:
  Regex(std::string pattern, const std::string& where);
  ~Regex();
  Regex(Regex&&) noexcept;

  /// Replaces `out` by the matches in `text`, left to right, none overlapping. After an empty match the
  /// search goes on one character further. `text` must be UTF-8.
  void find_all(std::string_view text, std::vector<Span>& out) const;

  const std::string& pattern() const { return pattern_; }

 private:
  struct Code;
  std::string pattern_;
  std::unique_ptr<Code> code_;
};

}  // namespace qkv::text
