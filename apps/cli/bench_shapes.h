#pragma once
// Sizes of models that several measures share, so that `bench train` and `bench translate` mean the same one.

#include "qkv/models/transformer_config.h"

namespace qkv::cli {

struct ModelShape {
  int64_t layers = 0, d_model = 0, heads = 0, d_ff = 0, vocab = 0;
};

// "3+3x256-8k", and the base model of Vaswani et al. 2017, table 3, with 32,000 words: "6+6x512-32k".
constexpr ModelShape kSmallTransformer{3, 256, 4, 1024, 8192}, kBaseTransformer{6, 512, 8, 2048, 32000};

/// As many layers in the encoder as in the decoder, one vocabulary, no dropout.
inline TransformerConfig transformer_config(const ModelShape& shape, int64_t max_len) {
  return {.vocab_size = shape.vocab,
          .d_model = shape.d_model,
          .d_ff = shape.d_ff,
          .encoder_layers = shape.layers,
          .decoder_layers = shape.layers,
          .n_heads = shape.heads,
          .max_len = max_len,
          .dropout = 0};
}

}  // namespace qkv::cli
