#pragma once
// GPT-2: Radford et al., "Language Models are Unsupervised Multitask Learners" (2019), section 2.3, which
// refers for the rest to Radford et al., "Improving Language Understanding by Generative Pre-Training"
// (2018). A decoder-only Transformer: pre-norm, a norm after the last block, learned positions, GELU, output
// tied to the embedding.

#include <optional>
#include <vector>

#include "qkv/attention/multi_head.h"
#include "qkv/attention/segment_memory.h"
#include "qkv/base/segments.h"
#include "qkv/nn/feed_forward.h"
#include "qkv/nn/norm.h"

namespace qkv {

struct Gpt2Config {
  int64_t vocab_size = 50257, max_len = 1024;
  int64_t d_model = 768, n_layers = 12, n_heads = 12, d_ff = 3072;
  int64_t d_k = 0, d_v = 0;  // a head's; 0: d_model / n_heads
  Activation activation = Activation::kGeluTanh;
  double dropout = 0.1;
  double eps = 1e-5;                     // of the norms
  std::string positions = "learned";     // added to the embeddings: nn/positions.h
  std::string attention = "scaled_dot";  // in words: attention/variant.h
  int32_t eos_id = -1;                   // <|endoftext|>, between texts; -1: there is none

  int64_t key_width() const { return d_k > 0 ? d_k : d_model / n_heads; }
  int64_t value_width() const { return d_v > 0 ? d_v : d_model / n_heads; }
  /// Error kValue, naming `where` and the field: sizes out of range, heads that do not divide, words that
  /// make no sense.
  void validate(const std::string& where = "gpt2") const;
};

class Gpt2Block {
 public:
  Gpt2Block(ParameterSet& set, const std::string& name, const Gpt2Config& config, int64_t layer);
  /// x [n_tokens, d_model] -> same shape; each token sees itself and those before it, and what `memory`, if
  /// any, keeps of earlier segments
  Var operator()(Pass& pass, const Var& x, const Segments& text, SegmentMemory* memory, Probe* probe) const;

 private:
  LayerNorm norm1_, norm2_;
  MultiHeadAttention attention_;
  FeedForward feed_forward_;
  int64_t layer_;
  double dropout_;
};

class Gpt2 {
 public:
  explicit Gpt2(const Gpt2Config& config, ParameterStart start, DType dtype = DType::kF32);
  const Gpt2Config& config() const { return config_; }
  const ParameterSet& parameters() const { return set_; }

  /// ids of packed texts -> hidden [n_tokens, d_model], after the last norm; logits are hidden times
  /// embedding()^T. With a memory these are the texts' next segments.
  Var operator()(Pass& pass, const std::vector<int32_t>& ids, const Segments& text, Probe* probe = nullptr,
                 SegmentMemory* memory = nullptr) const;
  const ParameterPtr& embedding() const { return tokens_; }

 private:
  Gpt2Config config_;
  ParameterSet set_;
  ParameterPtr tokens_, positions_;  // positions_ null: none are added
  std::vector<Gpt2Block> blocks_;
  std::optional<LayerNorm> norm_;
};

}  // namespace qkv
