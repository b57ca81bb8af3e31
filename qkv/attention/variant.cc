#include "qkv/attention/variant.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "qkv/attention/masks.h"
#include "qkv/attention/registry.h"
#include "qkv/attention/scores.h"
#include "qkv/base/counted.h"
#include "qkv/base/nearest.h"
#include "qkv/base/quote.h"

namespace qkv {
namespace {

using Kind = AttentionWord::Kind;

constexpr size_t kMaxLength = 1000, kMaxWords = 32;  // of a sentence: no layer has use for more

std::string_view trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(' ');
  return begin == std::string_view::npos ? "" : text.substr(begin, text.find_last_not_of(' ') - begin + 1);
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(separator, begin), text.size());
    parts.push_back(trimmed(text.substr(begin, end - begin)));
    begin = end + 1;
  }
  return parts;
}

const WordEntry& entry_of(std::string_view name) {
  if (name == "none") name = "uniform";  // what users call attention that chooses nothing
  std::vector<std::string_view> known;
  for (const WordEntry& entry : word_entries()) known.push_back(entry.name);
  check_known("score, position scheme, mask, cap, normalizer, use of heads or path", name, known,
              "attention");
  return *std::find_if(word_entries().begin(), word_entries().end(),
                       [&](const WordEntry& entry) { return entry.name == name; });
}

// One word with its numbers.
struct Word {
  std::string_view text;  // as written
  const WordEntry* entry = nullptr;
  std::vector<double> numbers;
  Kind kind() const { return entry->kind; }

  void add_to(AttentionParts& parts, const VariantPlace& place) const {
    try {
      entry->add({.parts = parts, .at = place, .n = numbers});
    } catch (const Error& e) {  // what depends on the layer, or on two numbers at once
      throw Error(e.code(), fmt::format("attention: {}: {}", quote(text, 64), e.what()));
    }
  }
};

// ":N[:DILATION]"
std::string form_of(const std::vector<WordNumber>& numbers) {
  std::string form, ends;
  for (const WordNumber& n : numbers) {
    form += fmt::format("{}:{}", n.initial ? "[" : "", n.name);
    if (n.initial) ends += ']';
  }
  return form + ends;
}

// "none", "1", "1 or 2", "0 to 2"
std::string count_of(const std::vector<WordNumber>& numbers) {
  const auto least = std::count_if(numbers.begin(), numbers.end(), [](const auto& n) { return !n.initial; });
  const auto most = static_cast<std::ptrdiff_t>(numbers.size());
  if (most == 0) return "none";
  if (least == most) return fmt::format("{}", most);
  return fmt::format("{} {} {}", least, most - least == 1 ? "or" : "to", most);
}

// "a whole number from 1 to 65536"
std::string range_of(const WordNumber& n) {
  if (n.whole) return fmt::format("a whole number from {:.0f} to {:.0f}", n.above + 1, n.most);
  if (std::isfinite(n.most)) return fmt::format("a number from {:.3g} to {:.3g}", n.above, n.most);
  return std::isfinite(n.above) ? fmt::format("a number above {}", n.above) : "a number";
}

double parse_number(std::string_view text, const WordNumber& number, std::string_view word) {
  double x = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), x);
  QKV_CHECK(error != std::errc::result_out_of_range, kValue,
            "attention: {} in {} is too large, or too near 0, for a number: {} needs to be {}",
            quote(text, 64), quote(word, 64), number.name, range_of(number));
  QKV_CHECK(error == std::errc() && end == text.data() + text.size() && std::isfinite(x), kValue,
            "attention: {} in {} is not a number", quote(text, 64), quote(word, 64));
  QKV_CHECK((!number.whole || x == std::floor(x)) && x > number.above && x <= number.most, kValue,
            "attention: {} in {} is {}, needs to be {}", number.name, quote(word, 64), text,
            range_of(number));
  return x;
}

Word parse_word(std::string_view text) {
  QKV_CHECK(!text.empty(), kValue, "attention: a word is missing: before, between or after + and |");
  const std::vector<std::string_view> parts = split(text, ':');
  Word word{.text = text, .entry = &entry_of(parts.front()), .numbers = {}};
  const WordEntry& entry = *word.entry;
  const size_t given = parts.size() - 1;
  for (size_t i = 0; i < entry.numbers.size(); ++i) {
    const WordNumber& number = entry.numbers[i];
    if (i < given)
      word.numbers.push_back(parse_number(parts[i + 1], number, text));
    else if (number.initial)
      word.numbers.push_back(*number.initial);
  }
  QKV_CHECK(given <= entry.numbers.size() && word.numbers.size() == entry.numbers.size(), kValue,
            "attention: {} has {}, {} takes {}: write {}{}", quote(text, 64),
            counted(static_cast<int64_t>(given), "number"), entry.name, count_of(entry.numbers), entry.name,
            form_of(entry.numbers));
  return word;
}

// Words joined by +, each a list of those joined by |.
using Sentence = std::vector<std::vector<Word>>;

Sentence parse(std::string_view text) {
  QKV_CHECK(text.size() <= kMaxLength, kValue, "attention: {} characters of words; {} are enough",
            text.size(), kMaxLength);
  Sentence sentence;
  for (std::string_view part : split(text, '+')) {
    std::vector<Word>& either = sentence.emplace_back();
    for (std::string_view word : split(part, '|')) either.push_back(parse_word(word));
    for (const Word& word : either)
      QKV_CHECK(either.size() == 1 || word.kind() == Kind::kMask, kValue,
                "attention: {} is a {}; | joins masks, + joins everything", word.entry->name,
                name(word.kind()));
  }
  QKV_CHECK(sentence.size() <= kMaxWords, kValue, "attention: {} words; {} are enough", sentence.size(),
            kMaxWords);
  return sentence;
}

void check_kinds(const Sentence& sentence, bool cross) {
  const Word* only[4] = {};  // the score, the position scheme, the normalizer and the path
  for (const auto& either : sentence) {
    const Word& word = either.front();
    const Kind kind = word.kind();
    QKV_CHECK(!cross || (kind != Kind::kPositions && kind != Kind::kMask), kValue,
              "attention: {} in cross-attention: queries and keys there count different things",
              word.entry->name);
    if (kind == Kind::kMask || kind == Kind::kCap || kind == Kind::kHeads) continue;
    const Word*& first = only[kind == Kind::kScore        ? 0
                              : kind == Kind::kPositions  ? 1
                              : kind == Kind::kNormalizer ? 2
                                                          : 3];
    QKV_CHECK(first == nullptr, kValue, "attention: {} and {} are both a {}; there can be one",
              first->entry->name, word.entry->name, name(kind));
    first = &word;
  }
}

}  // namespace

AttentionParts make_variant(std::string_view words, const VariantPlace& place) {
  const Sentence sentence = parse(words);
  check_kinds(sentence, place.cross);
  AttentionParts parts{.score = scaled_dot(),
                       .positions = {},
                       .rules = {},
                       .normalizer = softmax_normalizer(),
                       .talking = {},
                       .head_scale = {}};
  for (const auto& either : sentence) {
    if (either.size() == 1) {
      either.front().add_to(parts, place);
      continue;
    }
    AttentionParts masks;
    for (const Word& word : either) word.add_to(masks, place);
    std::vector<MaskPtr> any;
    for (const RulePtr& rule : masks.rules) any.push_back(std::dynamic_pointer_cast<const Mask>(rule));
    parts.rules.push_back(any_of(any));
  }
  QKV_CHECK(!parts.positions || parts.score->pairing(place.heads).kind == Pairing::Kind::kDot, kValue,
            "attention: {}: these positions need a score that is a dot product; {} is none",
            quote(words, 200), parts.score->name());
  return parts;
}

void check_variant(std::string_view words, std::string_view where, const HeadSizes& heads, int64_t d_model,
                   bool causal, bool cross) {
  try {
    ParameterSet scratch(0);
    (void)make_variant(words, {.set = scratch,
                               .prefix = "attn",
                               .heads = heads,
                               .d_model = d_model,
                               .causal = causal,
                               .cross = cross});
  } catch (const Error& e) {
    throw Error(e.code(), fmt::format("{}: {}", where, e.what()));
  }
}

bool has_positions(std::string_view words) {
  const Sentence sentence = parse(words);
  return std::any_of(sentence.begin(), sentence.end(),
                     [](const auto& either) { return either.front().kind() == Kind::kPositions; });
}

std::vector<AttentionWord> attention_words() {
  std::vector<AttentionWord> words;
  for (const WordEntry& e : word_entries())
    words.push_back({.kind = e.kind, .name = e.name, .meaning = e.meaning, .numbers = form_of(e.numbers)});
  return words;
}

std::string_view name(AttentionWord::Kind kind) {
  switch (kind) {
    case Kind::kScore:
      return "score";
    case Kind::kPositions:
      return "position scheme";
    case Kind::kMask:
      return "mask";
    case Kind::kCap:
      return "cap";
    case Kind::kNormalizer:
      return "normalizer";
    case Kind::kHeads:
      return "use of heads";
    case Kind::kPath:
      return "path";
  }
  return "";
}

// scores.h
const std::vector<std::string_view>& score_names() {
  static const std::vector<std::string_view> names = [] {
    std::vector<std::string_view> all;
    for (const WordEntry& entry : word_entries())
      if (entry.kind == Kind::kScore) all.push_back(entry.name);
    return all;
  }();
  return names;
}

ScorePtr make_score(std::string_view name, ParameterSet& set, const std::string& prefix,
                    const HeadSizes& heads) {
  return make_variant(name, {.set = set, .prefix = prefix, .heads = heads}).score;
}

}  // namespace qkv
