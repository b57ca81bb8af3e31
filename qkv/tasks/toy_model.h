#pragma once
// For tests: a translation model that is made in a moment and knows nothing.

#include <memory>
#include <string>
#include <vector>

#include "qkv/tasks/translator.h"
#include "qkv/text/bpe_trainer.h"

namespace qkv::test {

/// Two layers each side, two heads, fresh weights; a token is a byte of the text, a word begins with the byte
/// of its space. Cross-attention as named: "uniform" makes every weight 1 / src_len.
inline TranslationModel toy_model(const std::string& cross_attention = "scaled_dot") {
  const std::vector<std::string> nothing = {"a"};
  const auto tokenizer = std::make_shared<Tokenizer>(train_bpe(nothing, {.vocab_size = 3 + 256}));
  TransformerConfig config{.vocab_size = tokenizer->vocab_size(),
                           .d_model = 16,
                           .d_ff = 24,
                           .encoder_layers = 2,
                           .decoder_layers = 3,
                           .n_heads = 2,
                           .max_len = 64,
                           .cross_attention = cross_attention,
                           .dropout = 0};
  return {.transformer = std::make_shared<Transformer>(config, 5),
          .source_tokenizer = tokenizer,
          .target_tokenizer = tokenizer};
}

/// What a search would have found, had it found these; best first.
inline Translation found(const Translator& translator, const std::string& source,
                         const std::vector<std::string>& texts) {
  Translation t;
  t.source_ids = translator.model().source_tokenizer->encode(source);
  double score = -0.25;
  for (const std::string& text : texts) {
    t.n_best.push_back({.text = text, .hypothesis = {}, .score = score});
    t.n_best.back().hypothesis.ids = translator.model().target_tokenizer->encode(text);
    t.n_best.back().hypothesis.ended = true;
    score *= 2;
  }
  return t;
}

}  // namespace qkv::test
