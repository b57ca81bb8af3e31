#pragma once
// Language models as they lie in a directory: weights with their tokenizer.

#include <memory>
#include <optional>
#include <string>

#include "qkv/models/bert.h"
#include "qkv/models/gpt2.h"
#include "qkv/text/tokenizer.h"

namespace qkv {

/// What comes next: GPT-2 and its tokenizer.
struct LanguageModel {
  std::shared_ptr<Gpt2> gpt2;
  std::shared_ptr<Tokenizer> tokenizer;

  /// A model directory, or a run directory of `qkv train lm`. Errors: kIo, kFormat, kUnsupported, naming the
  /// part.
  static LanguageModel load(const std::string& dir, std::optional<Precision> only_runs = {});
  /// config.json, model.safetensors, tokenizer.json; and tokenizer_config.json, which qkv does not read.
  void save(const std::string& dir, const Precision& precision) const;
};

/// What is hidden: BERT and its tokenizer.
struct MaskedLanguageModel {
  std::shared_ptr<Bert> bert;
  std::shared_ptr<Tokenizer> tokenizer;

  /// As above; of `qkv train mlm`.
  static MaskedLanguageModel load(const std::string& dir, std::optional<Precision> only_runs = {});
  void save(const std::string& dir, const Precision& precision) const;
};

/// The token that ends a text and begins the next: <|endoftext|>, <|end_of_text|>, </s> or [SEP], whichever
/// the tokenizer has first. Error kFormat: none.
int32_t end_of_text(const Tokenizer& tokenizer);

/// The tokens of BERT: [CLS] text [SEP], [MASK] and [PAD]; or RoBERTa's <s>, </s>, <mask> and <pad>.
struct BertTokens {
  int32_t cls = 0, sep = 0, mask = 0, pad = 0;
};
/// Error kFormat, naming what is missing.
BertTokens bert_tokens(const Tokenizer& tokenizer);

}  // namespace qkv
