#include "qkv/text/tokenizer.h"

#include <limits>

#include "qkv/base/error.h"
#include "qkv/base/quote.h"
#include "qkv/io/atomic_file.h"
#include "qkv/io/file.h"
#include "qkv/text/added_tokens.h"
#include "qkv/text/decoders/decoder.h"
#include "qkv/text/models/model.h"
#include "qkv/text/normalizers/normalizer.h"
#include "qkv/text/post_processors/post_processor.h"
#include "qkv/text/pre_tokenizers/pre_tokenizer.h"
#include "qkv/text/utf8.h"

namespace qkv {

using namespace text;

namespace {

constexpr int64_t kMaxFile = 64 << 20;
constexpr int64_t kMaxText = std::numeric_limits<int32_t>::max();

// Kept in the file, checked, not done by encode(): see tokenizer.h.
void check_truncation(const io::Json& json, const std::string& where) {
  const int64_t max_length = io::get_int(json, "max_length", 0, kMaxText, where);
  const int64_t stride = io::get_int_or(json, "stride", 0, 0, kMaxText, where);
  QKV_CHECK(stride == 0 || stride < max_length, kFormat, "{}: \"stride\" {} is not below \"max_length\" {}",
            where, stride, max_length);
}

void check_padding(const io::Json& json, const std::string& where) {
  io::get_int_or(json, "pad_id", 0, 0, kMaxText, where);
  if (io::has(json, "pad_to_multiple_of", where)) io::get_int(json, "pad_to_multiple_of", 1, 1 << 20, where);
  if (io::has(json, "strategy", where) && json["strategy"].is_object())
    io::get_int(json["strategy"], "Fixed", 0, 1 << 24, where);
}

}  // namespace

struct Tokenizer::Parts {
  NormalizerPtr normalizer;  // this and the others but the model may be null
  PreTokenizerPtr pre_tokenizer;
  ModelPtr model;
  PostProcessorPtr post_processor;
  DecoderPtr decoder;
  AddedTokens added;
  io::Json truncation, padding;

  TracedText normalize(TracedText t) const { return normalizer ? normalizer->apply(std::move(t)) : t; }

  /// Runs the steps up to the model: on_token(added token, begin, end) and on_words(words), in order.
  template <class OnToken, class OnWords>
  void run(std::string_view text, bool traced, bool parse_special, OnToken&& on_token,
           OnWords&& on_words) const;

  std::vector<Token> encode(std::string_view text, bool traced, const EncodeOptions& options) const;

  const std::string* piece(int32_t id) const {
    if (const AddedToken* token = added.find(id)) return &token->content;
    return model->vocab().piece(id);
  }
};

template <class OnToken, class OnWords>
void Tokenizer::Parts::run(std::string_view text, bool traced, bool parse_special, OnToken&& on_token,
                           OnWords&& on_words) const {
  QKV_CHECK(static_cast<int64_t>(text.size()) <= kMaxText, kValue,
            "tokenizer: a text of {} bytes; {} are allowed", text.size(), kMaxText);
  const auto bad = utf8::first_invalid(text);
  QKV_CHECK(!bad, kValue, "tokenizer: the text is not UTF-8 at byte {} ({:#04x})", *bad,
            static_cast<unsigned char>(text[static_cast<size_t>(*bad)]));

  for (const Section& raw : added.find_in_raw(text, parse_special)) {
    if (raw.token) {
      on_token(*raw.token, raw.begin, raw.end);
      continue;
    }
    const TracedText normal = normalize(
        TracedText::of(text, static_cast<int64_t>(raw.begin), static_cast<int64_t>(raw.end), traced));
    for (const Section& section : added.find_in_normalized(normal.text, parse_special)) {
      if (section.token) {
        const Span source = traced ? normal.source(section.begin, section.end) : Span{};
        on_token(*section.token, source.begin, source.end);
        continue;
      }
      Words words{normal.slice(section.begin, section.end), {}};
      words.spans.push_back({0, static_cast<uint32_t>(words.text.text.size())});
      if (pre_tokenizer) pre_tokenizer->apply(words);
      on_words(words);
    }
  }
}

std::vector<Token> Tokenizer::Parts::encode(std::string_view text, bool traced,
                                            const EncodeOptions& options) const {
  std::vector<Token> out;
  std::vector<WordPiece> pieces;
  run(
      text, traced, options.parse_special,
      [&](const AddedToken& token, size_t begin, size_t end) {
        out.push_back({token.id, static_cast<int64_t>(begin), static_cast<int64_t>(end)});
      },
      [&](const Words& words) {
        for (const Span& span : words.spans) {
          pieces.clear();
          model->tokenize(words.word(span), pieces);
          for (const WordPiece& p : pieces) {
            const Span from = traced ? words.text.source(span.begin + p.begin, span.begin + p.end) : Span{};
            out.push_back({p.id, from.begin, from.end});
          }
        }
      });
  if (post_processor && options.add_special_tokens)
    post_processor->apply(out, static_cast<int64_t>(text.size()));
  return out;
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool add_special_tokens) const {
  return encode(text, EncodeOptions{.add_special_tokens = add_special_tokens});
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  std::vector<int32_t> ids;
  for (const Token& token : parts_->encode(text, /*traced=*/false, options)) ids.push_back(token.id);
  return ids;
}

std::vector<Token> Tokenizer::encode_with_offsets(std::string_view text, const EncodeOptions& options) const {
  return parts_->encode(text, /*traced=*/true, options);
}

std::vector<std::string> Tokenizer::words(std::string_view text) const {
  std::vector<std::string> out;
  parts_->run(
      text, /*traced=*/false, /*parse_special=*/false, [](const AddedToken&, size_t, size_t) {},
      [&](const Words& words) {
        for (const Span& span : words.spans) out.emplace_back(words.word(span));
      });
  return out;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  std::vector<std::string> pieces;
  pieces.reserve(ids.size());
  for (const int32_t id : ids) {
    const std::string* piece = parts_->piece(id);
    if (piece && !(skip_special_tokens && is_special(id))) pieces.push_back(*piece);
  }
  const bool joined_by_spaces =
      parts_->decoder == nullptr;  // as the reference implementation does without one
  if (parts_->decoder) pieces = parts_->decoder->apply(std::move(pieces));
  std::string out;
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (joined_by_spaces && i > 0) out += ' ';
    out += pieces[i];
  }
  return out;
}

int64_t Tokenizer::vocab_size() const {
  return std::max(parts_->model->vocab().max_id(), parts_->added.max_id()) + 1;
}

int64_t Tokenizer::max_emitted_id() const {
  return std::max(vocab_size() - 1, parts_->post_processor ? parts_->post_processor->max_id() : -1);
}

bool Tokenizer::has_piece(int32_t id) const { return parts_->piece(id) != nullptr; }

std::string_view Tokenizer::piece(int32_t id) const {
  const std::string* piece = parts_->piece(id);
  QKV_CHECK(piece, kValue, "tokenizer: no piece has the id {}; the vocabulary ends at {}", id,
            vocab_size() - 1);
  return *piece;
}

std::string Tokenizer::piece_text(int32_t id) const {
  const std::string* piece = parts_->piece(id);
  if (!piece) return "";
  std::string out = *piece;
  return parts_->decoder ? parts_->decoder->piece_text(std::move(out)) : out;
}

std::optional<int32_t> Tokenizer::id_of(std::string_view piece) const {
  if (const AddedToken* token = parts_->added.find(piece)) return token->id;
  return parts_->model->vocab().id_of(piece);
}

bool Tokenizer::is_special(int32_t id) const {
  const AddedToken* token = parts_->added.find(id);
  return token && token->special;
}

Tokenizer Tokenizer::from_json(std::string_view text, const std::string& where) {
  const io::Json json = io::parse_json(text, where);
  QKV_CHECK(io::has(json, "model", where), kFormat,
            "{}: not a tokenizer.json: it has no \"model\" (a tokenizer's other files, as vocab.json, are "
            "not read)",
            where);
  const std::string version = io::get_string_or(json, "version", "1.0", where);
  QKV_CHECK(version == "1.0", kUnsupported, "{}: \"version\": needs \"1.0\", got {}", where, quote(version));

  auto parts = std::make_shared<Parts>();
  const auto given = [&](const char* key) { return io::has(json, key, where); };
  const auto at = [&](const char* key) { return where + ": " + key; };
  if (given("normalizer")) parts->normalizer = normalizer_from_json(json["normalizer"], at("normalizer"));
  if (given("pre_tokenizer"))
    parts->pre_tokenizer = pre_tokenizer_from_json(json["pre_tokenizer"], at("pre_tokenizer"));
  parts->model = model_from_json(io::get_object(json, "model", where), at("model"));
  if (given("post_processor"))
    parts->post_processor = post_processor_from_json(json["post_processor"], at("post_processor"));
  if (given("decoder")) parts->decoder = decoder_from_json(json["decoder"], at("decoder"));
  if (given("added_tokens")) {
    const auto normalize = [&](const std::string& content) {
      return parts->normalize(TracedText::of(content, 0, static_cast<int64_t>(content.size()), false)).text;
    };
    parts->added =
        AddedTokens::from_json(json["added_tokens"], parts->model->vocab(), normalize, at("added_tokens"));
  }
  if (given("truncation")) check_truncation(parts->truncation = json["truncation"], at("truncation"));
  if (given("padding")) check_padding(parts->padding = json["padding"], at("padding"));
  return Tokenizer(std::move(parts));
}

Tokenizer Tokenizer::load(const std::string& path) {
  const std::string file = io::is_directory(path) ? path + "/tokenizer.json" : path;
  return from_json(io::read_maybe_gz(file, kMaxFile), file);
}

std::string Tokenizer::to_json() const {
  const auto part = [](const auto& p) { return p ? p->to_json() : io::Json(); };
  const io::Json json = {{"version", "1.0"},
                         {"truncation", parts_->truncation},
                         {"padding", parts_->padding},
                         {"added_tokens", parts_->added.to_json()},
                         {"normalizer", part(parts_->normalizer)},
                         {"pre_tokenizer", part(parts_->pre_tokenizer)},
                         {"post_processor", part(parts_->post_processor)},
                         {"decoder", part(parts_->decoder)},
                         {"model", parts_->model->to_json()}};
  return io::dump_json(json, 2) + "\n";
}

void Tokenizer::save(const std::string& path) const { io::write_file_atomically(path, to_json()); }

}  // namespace qkv
