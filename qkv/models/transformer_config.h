#pragma once
// Sizes and choices of a Transformer, and their form in config.json.

#include <cstdint>
#include <string>

#include "qkv/attention/heads.h"
#include "qkv/io/json.h"
#include "qkv/kernels/gemm.h"

namespace qkv {

struct TransformerConfig {
  int64_t vocab_size = 0;
  int64_t target_vocab_size = 0;  // 0: one vocabulary and one embedding for source, target and output
  int64_t d_model = 256, d_ff = 1024;
  int64_t encoder_layers = 3, decoder_layers = 3;
  int64_t n_heads = 4, n_kv_heads = 0;  // 0: n_heads
  int64_t d_k = 0, d_v = 0;             // a head's; 0: d_model / n_heads
  kernels::Activation activation = kernels::Activation::kRelu;
  bool pre_norm =
      false;  // x + f(norm(x)), with a norm at the end of each stack; else norm(x + f(x)), the paper's
  std::string positions = "sinusoidal";  // added to embeddings: nn/positions.h
  int64_t max_len = 512;                 // positions
  bool tie_output = true;                // output layer = target embedding
  // In words: attention/variant.h.
  std::string encoder_attention = "scaled_dot", decoder_attention = "scaled_dot",
              cross_attention = "scaled_dot";
  double dropout = 0.1, attention_dropout = 0, activation_dropout = 0;
  double stochastic_depth = 0;  // chance of a last layer's sub-layer to be left out; training's alone, not in
                                // config.json
  int32_t pad_id = 0, eos_id = 1, start_id = 0;

  int64_t source_vocab() const { return vocab_size; }
  int64_t target_vocab() const { return target_vocab_size > 0 ? target_vocab_size : vocab_size; }
  bool shared_vocab() const { return target_vocab_size == 0; }
  int64_t kv_heads() const { return n_kv_heads > 0 ? n_kv_heads : n_heads; }
  int64_t key_width() const { return d_k > 0 ? d_k : d_model / n_heads; }
  int64_t value_width() const { return d_v > 0 ? d_v : d_model / n_heads; }
  HeadSizes heads() const {
    return {.n_heads = n_heads, .n_kv_heads = kv_heads(), .d_k = key_width(), .d_v = value_width()};
  }

  /// Error kValue, naming `where` and the field: sizes out of range, heads that do not divide, ids outside
  /// the vocabulary, words of attention that make no sense.
  void validate(const std::string& where = "transformer") const;
};

/// The public architecture that computes exactly this: "marian" (post-norm, sinusoids) or "pegasus"
/// (pre-norm, sinusoids), or "qkv_transformer" where none does (learned positions, other scores, d_k of one's
/// own, separate output layer, vocabularies of two sizes), so that other tools refuse such a model instead of
/// computing something else. See docs/formats.md.
std::string public_model_type(const TransformerConfig& config);

io::Json to_json(const TransformerConfig& config);
/// Error kFormat or kUnsupported, naming `where` and the key.
TransformerConfig transformer_config_from_json(const io::Json& json, const std::string& where);

}  // namespace qkv
