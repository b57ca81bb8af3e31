#include "qkv/text/bpe_trainer.h"

#include <algorithm>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "qkv/base/error.h"
#include "qkv/base/quote.h"
#include "qkv/io/json.h"
#include "qkv/text/bpe_learner.h"
#include "qkv/text/byte_alphabet.h"
#include "qkv/text/utf8.h"

namespace qkv {

namespace {

using io::Json;

constexpr int64_t kMaxVocab = 1 << 24;

bool is_special(const BpeTrainerOptions& options, const std::string& token) {
  return std::find(options.special_tokens.begin(), options.special_tokens.end(), token) !=
         options.special_tokens.end();
}

void check(const BpeTrainerOptions& options) {
  QKV_CHECK(options.vocab_size > 0 && options.vocab_size <= kMaxVocab, kValue,
            "tokenizer training: vocab_size {} is not in 1..{}", options.vocab_size, kMaxVocab);
  QKV_CHECK(options.min_frequency >= 1, kValue, "tokenizer training: min_frequency {} is not positive",
            options.min_frequency);
  QKV_CHECK(options.max_token_length >= 0, kValue, "tokenizer training: max_token_length {} is negative",
            options.max_token_length);
  std::set<std::string> seen;
  for (const std::string& token : options.special_tokens) {
    QKV_CHECK(!token.empty() && !utf8::first_invalid(token), kValue,
              "tokenizer training: special token {} needs to be UTF-8 and not empty", quote(token));
    QKV_CHECK(
        utf8::length(token) > 1, kValue,
        "tokenizer training: special token {} is one character, which text may have too; needs to be longer",
        quote(token));
    QKV_CHECK(seen.insert(token).second, kValue, "tokenizer training: special token {} is given twice",
              quote(token));
  }
  for (const auto& [field, token] :
       {std::pair{"start_token", options.start_token}, {"end_token", options.end_token}})
    QKV_CHECK(token.empty() || is_special(options, token), kValue,
              "tokenizer training: {} {} is not among the special tokens", field, quote(token));
}

Json sequence_or_one(const char* key, Json parts) {
  if (parts.empty()) return nullptr;
  if (parts.size() == 1) return parts[0];
  return {{"type", "Sequence"}, {key, std::move(parts)}};
}

// What stands before and after the model. Text gets a space in front by Prepend, not by the pre-tokenizers'
// own options: those add none where the text begins with a space already, and decode() could not tell.
Json pipeline(const BpeTrainerOptions& options) {
  Json normalizers = Json::array();
  if (options.form == UnicodeForm::kNfc) normalizers.push_back({{"type", "NFC"}});
  if (options.form == UnicodeForm::kNfkc) normalizers.push_back({{"type", "NFKC"}});
  if (options.lowercase) normalizers.push_back({{"type", "Lowercase"}});
  if (options.prefix_space) normalizers.push_back({{"type", "Prepend"}, {"prepend", " "}});

  const Json bytes = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", false}, {"use_regex", true}};
  const Json marks = {
      {"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", "never"}, {"split", true}};
  Json decoders = Json::array({options.byte_level ? bytes : marks});
  if (!options.byte_level) decoders.push_back({{"type", "Fuse"}});
  if (options.prefix_space)
    decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});

  return {{"version", "1.0"},
          {"normalizer", sequence_or_one("normalizers", std::move(normalizers))},
          {"pre_tokenizer", options.byte_level ? bytes : marks},
          {"decoder", sequence_or_one("decoders", std::move(decoders))},
          {"model", {{"type", "BPE"}, {"vocab", Json::object()}, {"merges", Json::array()}}}};
}

using WordCounts = std::unordered_map<std::string, int64_t>;

WordCounts count_words(const std::function<bool(std::string&)>& next, const Tokenizer& pipeline) {
  WordCounts counts;
  std::string line;
  for (int64_t number = 1; next(line); ++number) {
    try {
      for (std::string& word : pipeline.words(line)) ++counts[std::move(word)];
    } catch (const Error& error) {
      throw_error(error.code(), "tokenizer training: line {}: {}", number, error.what());
    }
  }
  return counts;
}

// The single characters that words are made of, in the order of their numbers.
std::vector<std::string> alphabet_of(const WordCounts& counts, bool byte_level) {
  std::set<char32_t> characters;
  if (byte_level) {
    for (int b = 0; b < 256; ++b)
      characters.insert(utf8::step(text::byte_character(static_cast<unsigned char>(b)), 0).value);
  } else {
    for (const auto& [word, count] : counts)
      utf8::for_each(word, [&](char32_t c, size_t, size_t) { characters.insert(c); });
  }
  std::vector<std::string> out;
  for (const char32_t c : characters) utf8::append(out.emplace_back(), c);
  return out;
}

std::vector<text::CountedWord> spell(const WordCounts& counts, const std::vector<std::string>& pieces,
                                     size_t first) {
  std::unordered_map<char32_t, int32_t> ids;
  for (size_t i = first; i < pieces.size(); ++i)
    ids.emplace(utf8::step(pieces[i], 0).value, static_cast<int32_t>(i));
  std::vector<text::CountedWord> out;
  out.reserve(counts.size());
  for (const auto& [word, count] : counts) {
    text::CountedWord& counted = out.emplace_back();
    counted.count = count;
    utf8::for_each(word, [&](char32_t c, size_t, size_t) { counted.symbols.push_back(ids.at(c)); });
  }
  return out;
}

Json model_json(const std::vector<std::string>& pieces,
                const std::vector<std::pair<int32_t, int32_t>>& merges, const BpeTrainerOptions& options) {
  Json vocab = Json::object(), merge_list = Json::array();
  for (size_t id = 0; id < pieces.size(); ++id) vocab[pieces[id]] = id;
  for (const auto& [left, right] : merges)
    merge_list.push_back({pieces[static_cast<size_t>(left)], pieces[static_cast<size_t>(right)]});
  const bool has_unknown = !options.byte_level && is_special(options, "<unk>");
  return {{"type", "BPE"},
          {"unk_token", has_unknown ? Json("<unk>") : Json()},
          {"fuse_unk", has_unknown},
          {"vocab", std::move(vocab)},
          {"merges", std::move(merge_list)}};
}

Json added_tokens(const BpeTrainerOptions& options) {
  Json out = Json::array();
  for (size_t id = 0; id < options.special_tokens.size(); ++id)
    out.push_back(
        {{"id", id}, {"content", options.special_tokens[id]}, {"normalized", false}, {"special", true}});
  return out;
}

// [start] A [end], and with a second text [start] A [end] B [end].
Json frame(const BpeTrainerOptions& options) {
  Json single = Json::array(), pair = Json::array(), specials = Json::object();
  const auto put = [&](Json& list, const std::string& token, int64_t type) {
    if (token.empty()) return;
    list.push_back({{"SpecialToken", {{"id", token}, {"type_id", type}}}});
    const auto at = std::find(options.special_tokens.begin(), options.special_tokens.end(), token);
    const auto id = at - options.special_tokens.begin();
    specials[token] = {{"id", token}, {"ids", {id}}, {"tokens", {token}}};
  };
  const auto text = [](const char* id, int64_t type) {
    return Json{{"Sequence", {{"id", id}, {"type_id", type}}}};
  };
  // BERT tells the two texts of a pair apart; what has an end alone does not.
  const int64_t second = options.start_token.empty() ? 0 : 1;
  put(single, options.start_token, 0);
  single.push_back(text("A", 0));
  put(single, options.end_token, 0);
  pair = single;
  pair.push_back(text("B", second));
  put(pair, options.end_token, second);
  if (specials.empty()) return nullptr;
  return {{"type", "TemplateProcessing"},
          {"single", std::move(single)},
          {"pair", std::move(pair)},
          {"special_tokens", std::move(specials)}};
}

}  // namespace

Tokenizer train_bpe(const std::function<bool(std::string& line)>& next, const BpeTrainerOptions& options) {
  check(options);
  Json json = pipeline(options);
  const WordCounts counts =
      count_words(next, Tokenizer::from_json(io::dump_json(json), "tokenizer training: pipeline"));

  std::vector<std::string> pieces = options.special_tokens;
  const std::vector<std::string> alphabet = alphabet_of(counts, options.byte_level);
  pieces.insert(pieces.end(), alphabet.begin(), alphabet.end());
  const auto base = static_cast<int64_t>(pieces.size());
  QKV_CHECK(
      options.vocab_size >= base, kValue,
      "tokenizer training: vocab_size {} is too small: {} special tokens and {} {} make {}; ask for more{}",
      options.vocab_size, options.special_tokens.size(), alphabet.size(),
      options.byte_level ? "bytes" : "characters", base,
      options.byte_level ? "" : ", or for a byte-level vocabulary");

  const auto merges =
      text::learn_merges(spell(counts, pieces, options.special_tokens.size()), pieces,
                         {.max_pieces = options.vocab_size,
                          .min_frequency = options.min_frequency,
                          .max_piece_length = options.max_token_length,
                          .forbidden = {options.special_tokens.begin(), options.special_tokens.end()}});
  const auto got = static_cast<int64_t>(pieces.size());
  QKV_CHECK(got == options.vocab_size || options.allow_smaller, kValue,
            "tokenizer training: vocab_size {} is more than this text can give: at most {} ({} special "
            "tokens, {} {}, "
            "{} merges of pairs that occur at least {} times). Ask for {} or less, lower min_frequency, or "
            "add text",
            options.vocab_size, got, options.special_tokens.size(), alphabet.size(),
            options.byte_level ? "bytes" : "characters", got - base, options.min_frequency, got);

  json["added_tokens"] = added_tokens(options);
  json["post_processor"] = frame(options);
  json["model"] = model_json(pieces, merges, options);
  return Tokenizer::from_json(io::dump_json(json), "tokenizer training: result");
}

Tokenizer train_bpe(std::span<const std::string> lines, const BpeTrainerOptions& options) {
  size_t i = 0;
  return train_bpe(
      [&](std::string& line) {
        if (i == lines.size()) return false;
        line = lines[i++];
        return true;
      },
      options);
}

}  // namespace qkv
