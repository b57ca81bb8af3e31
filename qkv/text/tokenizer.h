#pragma once
// Text to ids and back, as a tokenizer.json says.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qkv {

struct EncodeOptions {
  /// Lets the post-processor add its tokens (`</s>` behind a sentence, ...).
  bool add_special_tokens = true;

  /// Whether the text of a special token that occurs in the input ("</s>", "<|endoftext|>") becomes that
  /// token. Off, it is text like any other, so nobody can type a control token; on is what Hugging Face's
  /// `tokenizers` does by default (off is its `encode_special_tokens = true`). Added tokens that are not
  /// special are found either way: they are words of the vocabulary.
  bool parse_special = false;
};

/// A token and the bytes of the input that it came from, [begin, end). What the tokenizer put in itself (a
/// prepended space, `</s>`) has begin == end. Where normalisation joined or expanded characters, every piece
/// of the result claims the whole of what it was made from, so neighbouring tokens may overlap.
struct Token {
  int32_t id = 0;
  int64_t begin = 0;
  int64_t end = 0;
};

/// normalizer -> pre-tokenizer -> model -> post-processor, and the decoder for the way back.
///
///     const Tokenizer tokenizer = Tokenizer::load("model/tokenizer.json");
///     tokenizer.encode("low newest");                      // {263, 267, 1}: "Ġlow", "Ġnewest", "</s>"
///     tokenizer.decode(ids);                               // "low newest"
///
/// The format is Hugging Face's (https://github.com/huggingface/tokenizers, tokenizers/src), and the ids are
/// those of that library; normalizers/normalizer.h and its like in the folders beside it name the components.
/// Two of its steps are kept in the file but not done: `truncation` and `padding`, which belong to whoever
/// makes batches.
///
/// Text is UTF-8; what is not is refused with the place of the first bad byte (repair it before, with
/// utf8::repaired, if that is what you want). encode() takes time near linear in the text, whatever the text
/// is. A Tokenizer is immutable and shared: copies are cheap, and any number of threads may use one at once.
///
/// Throws Error: kFormat (a file that breaks the format; the message names `where` and the part),
/// kUnsupported (a component that qkv does not know, by name; a text that its rules multiply or that an
/// expression takes too long for), kValue (text that is not UTF-8, or more than 2 GiB of it).
class Tokenizer {
 public:
  /// `where` (a path, mostly) begins the messages of errors.
  static Tokenizer from_json(std::string_view text, const std::string& where);

  /// The path of a tokenizer.json, which may be gzipped, or of a directory that holds one. Error kIo besides.
  static Tokenizer load(const std::string& path);

  /// tokenizer.json text: loading it gives the same tokenizer, saving that the same bytes.
  std::string to_json() const;
  void save(const std::string& path) const;

  std::vector<int32_t> encode(std::string_view text, bool add_special_tokens = true) const;
  std::vector<int32_t> encode(std::string_view text, const EncodeOptions& options) const;
  std::vector<Token> encode_with_offsets(std::string_view text, const EncodeOptions& options = {}) const;

  /// The text of ids. skip_special_tokens leaves `</s>` and its like out. An id outside the vocabulary
  /// (models pad their embeddings) has no text. Bytes that do not form UTF-8 become U+FFFD.
  std::string decode(std::span<const int32_t> ids, bool skip_special_tokens = true) const;

  /// One more than the largest id of a piece.
  int64_t vocab_size() const;

  /// The largest id that encode() can give, the post-processor's included, which need no piece: what an
  /// embedding needs to have a row for.
  int64_t max_emitted_id() const;

  /// Whether a token has this id. There may be gaps below vocab_size().
  bool has_piece(int32_t id) const;

  /// The token as it stands in the file, escapes and all ("Ġlow"). Error kValue where none has this id.
  std::string_view piece(int32_t id) const;

  /// The bytes that a token stands for inside a text (" low"); not always whole UTF-8 characters. ""
  /// where none has this id.
  std::string piece_text(int32_t id) const;

  std::optional<int32_t> id_of(std::string_view piece) const;

  /// Skipped by decode(skip_special_tokens) and never made from user text unless asked.
  bool is_special(int32_t id) const;

  /// What the model is given: `text` normalised and cut into words, in the spelling of the vocabulary.
  std::vector<std::string> words(std::string_view text) const;

 private:
  struct Parts;
  explicit Tokenizer(std::shared_ptr<const Parts> parts) : parts_(std::move(parts)) {}
  std::shared_ptr<const Parts> parts_;
};

}  // namespace qkv
