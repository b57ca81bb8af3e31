// Cutting words at matches, and the pre-tokenizers that do only that.

#include <algorithm>
#include <utility>

#include "qkv/base/error.h"
#include "qkv/base/quote.h"
#include "qkv/text/pattern.h"
#include "qkv/text/pre_tokenizers/pre_tokenizer.h"
#include "qkv/text/unicode.h"
#include "qkv/text/utf8.h"

namespace qkv::text {

namespace {

constexpr std::pair<SplitBehavior, const char*> kBehaviors[] = {
    {SplitBehavior::kRemoved, "Removed"},
    {SplitBehavior::kIsolated, "Isolated"},
    {SplitBehavior::kContiguous, "Contiguous"},
    {SplitBehavior::kMergedWithPrevious, "MergedWithPrevious"},
    {SplitBehavior::kMergedWithNext, "MergedWithNext"},
};

struct Piece {
  Span span;
  bool match;
};

// Matches and the gaps between them, which together cover the word. Empty ones only mark a cut.
void cover(size_t size, const std::vector<Span>& matches, bool invert, std::vector<Piece>& out) {
  out.clear();
  uint32_t at = 0;
  for (const Span& m : matches) {
    if (at < m.begin) out.push_back({{at, m.begin}, invert});
    out.push_back({m, !invert});
    at = m.end;
  }
  if (at < size) out.push_back({{at, static_cast<uint32_t>(size)}, invert});
}

// Joins neighbours as `behavior` says; each piece that stays becomes a word.
void join(const std::vector<Piece>& pieces, SplitBehavior behavior, std::vector<Span>& out) {
  const size_t first = out.size();
  bool previous_match = false;
  switch (behavior) {
    case SplitBehavior::kRemoved:
      for (const Piece& p : pieces)
        if (!p.match) out.push_back(p.span);
      break;
    case SplitBehavior::kIsolated:
      for (const Piece& p : pieces) out.push_back(p.span);
      break;
    case SplitBehavior::kContiguous:
      for (const Piece& p : pieces) {
        if (p.match == previous_match && out.size() > first)
          out.back().end = p.span.end;
        else
          out.push_back(p.span);
        previous_match = p.match;
      }
      break;
    case SplitBehavior::kMergedWithPrevious:
      for (const Piece& p : pieces) {
        if (p.match && !previous_match && out.size() > first)
          out.back().end = p.span.end;
        else
          out.push_back(p.span);
        previous_match = p.match;
      }
      break;
    case SplitBehavior::kMergedWithNext:
      for (auto p = pieces.rbegin(); p != pieces.rend(); ++p) {
        if (p->match && !previous_match && out.size() > first)
          out.back().begin = p->span.begin;
        else
          out.push_back(p->span);
        previous_match = p->match;
      }
      std::reverse(out.begin() + static_cast<ptrdiff_t>(first), out.end());
      break;
  }
}

class Split final : public PreTokenizer {
 public:
  Split(Pattern pattern, SplitBehavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}
  void apply(Words& words) const override {
    split_words(
        words, [&](std::string_view w, std::vector<Span>& m) { pattern_.find_all(w, m); }, behavior_,
        invert_);
  }
  io::Json to_json() const override {
    return {{"type", "Split"},
            {"pattern", pattern_.to_json()},
            {"behavior", name(behavior_)},
            {"invert", invert_}};
  }

 private:
  Pattern pattern_;
  SplitBehavior behavior_;
  bool invert_;
};

// Splits at every character of a class.
class SplitAtClass final : public PreTokenizer {
 public:
  SplitAtClass(bool (*is_in)(char32_t), SplitBehavior behavior, io::Json json)
      : is_in_(is_in), behavior_(behavior), json_(std::move(json)) {}
  void apply(Words& words) const override {
    split_words(
        words,
        [&](std::string_view word, std::vector<Span>& matches) {
          matches.clear();
          utf8::for_each(word, [&](char32_t c, size_t begin, size_t end) {
            if (is_in_(c)) matches.push_back({static_cast<uint32_t>(begin), static_cast<uint32_t>(end)});
          });
        },
        behavior_);
  }
  io::Json to_json() const override { return json_; }

 private:
  bool (*is_in_)(char32_t);
  SplitBehavior behavior_;
  io::Json json_;
};

// \w+|[^\w\s]+: runs of word characters, runs of what is neither word nor white space.
class Whitespace final : public PreTokenizer {
 public:
  void apply(Words& words) const override {
    const auto find = [](std::string_view word, std::vector<Span>& matches) {
      matches.clear();
      int last = 0;
      utf8::for_each(word, [&](char32_t c, size_t begin, size_t end) {
        const int kind = unicode::is_word(c) ? 1 : unicode::is_whitespace(c) ? 0 : 2;
        if (kind != 0) {
          if (kind == last)
            matches.back().end = static_cast<uint32_t>(end);
          else
            matches.push_back({static_cast<uint32_t>(begin), static_cast<uint32_t>(end)});
        }
        last = kind;
      });
    };
    split_words(words, find, SplitBehavior::kRemoved, /*invert=*/true);
  }
  io::Json to_json() const override { return {{"type", "Whitespace"}}; }
};

}  // namespace

SplitBehavior split_behavior_from(const std::string& text, const std::string& where) {
  for (const auto& [behavior, known] : kBehaviors)
    if (text == known) return behavior;
  throw_error(
      ErrorCode::kUnsupported,
      "{}: \"behavior\": needs Removed, Isolated, Contiguous, MergedWithPrevious or MergedWithNext, got {}",
      where, quote(text));
}

const char* name(SplitBehavior behavior) {
  for (const auto& [known, text] : kBehaviors)
    if (known == behavior) return text;
  return "?";
}

void split_words(Words& words, const FindMatches& find, SplitBehavior behavior, bool invert) {
  std::vector<Span> out, matches;
  std::vector<Piece> pieces;
  out.reserve(words.spans.size() + words.text.text.size() / 4);
  for (const Span& span : words.spans) {
    const std::string_view word = words.word(span);
    find(word, matches);
    cover(word.size(), matches, invert, pieces);
    const size_t first = out.size();
    join(pieces, behavior, out);
    size_t kept = first;
    for (size_t i = first; i < out.size(); ++i)
      if (out[i].begin < out[i].end) out[kept++] = {out[i].begin + span.begin, out[i].end + span.begin};
    out.resize(kept);
  }
  words.spans = std::move(out);
}

PreTokenizerPtr make_split(const io::Json& json, const std::string& where) {
  return std::make_unique<Split>(Pattern::from_json(io::get_object(json, "pattern", where), where),
                                 split_behavior_from(io::get_string(json, "behavior", where), where),
                                 io::get_bool_or(json, "invert", false, where));
}

PreTokenizerPtr make_whitespace_split(const io::Json&, const std::string&) {
  return std::make_unique<SplitAtClass>(unicode::is_whitespace, SplitBehavior::kRemoved,
                                        io::Json{{"type", "WhitespaceSplit"}});
}

PreTokenizerPtr make_whitespace(const io::Json&, const std::string&) {
  return std::make_unique<Whitespace>();
}

PreTokenizerPtr make_digits(const io::Json& json, const std::string& where) {
  const bool individual = io::get_bool(json, "individual_digits", where);
  return std::make_unique<SplitAtClass>(unicode::is_numeric,
                                        individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous,
                                        io::Json{{"type", "Digits"}, {"individual_digits", individual}});
}

PreTokenizerPtr make_punctuation(const io::Json& json, const std::string& where) {
  const auto behavior = split_behavior_from(io::get_string_or(json, "behavior", "Isolated", where), where);
  return std::make_unique<SplitAtClass>(unicode::is_punctuation, behavior,
                                        io::Json{{"type", "Punctuation"}, {"behavior", name(behavior)}});
}

}  // namespace qkv::text
