#pragma once
// BERT: Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding"
// (2018), arXiv:1810.04805. The encoder of Vaswani et al. (2017) with learned positions, embeddings of the
// two sentences of a pair, GELU, and a head that says which word a [MASK] hides. What the paper leaves to its
// code (the norm of the embeddings, the head's transform) is as in github.com/google-research/bert,
// modeling.py and run_pretraining.py.

#include <optional>
#include <string>
#include <vector>

#include "qkv/attention/multi_head.h"
#include "qkv/base/segments.h"
#include "qkv/nn/feed_forward.h"
#include "qkv/nn/norm.h"

namespace qkv {

/// BERT-base.
struct BertConfig {
  int64_t vocab_size = 30522, max_len = 512;
  int64_t type_vocab = 2;  // kinds of segment: sentence A, sentence B
  int64_t d_model = 768, n_layers = 12, n_heads = 12, d_ff = 3072;
  int64_t d_k = 0, d_v = 0;  // a head's; 0: d_model / n_heads
  Activation activation = Activation::kGelu;
  double dropout = 0.1, attention_dropout = 0.1;
  double eps = 1e-12;                    // of the norms
  std::string positions = "learned";     // added to the embeddings: nn/positions.h
  std::string attention = "scaled_dot";  // in words: attention/variant.h
  int32_t pad_id = 0;
  // Which of these come with the encoder.
  bool masked_lm = true;  // the head that predicts hidden words
  bool pooler = false;    // the first token's row through a layer, for whole sequences

  int64_t key_width() const { return d_k > 0 ? d_k : d_model / n_heads; }
  int64_t value_width() const { return d_v > 0 ? d_v : d_model / n_heads; }
  /// Error kValue, naming `where` and the field: sizes out of range, heads that do not divide, words that
  /// make no sense.
  void validate(const std::string& where = "bert") const;
};

/// Section 3, "Input/Output Representations": the sum of what a token is, where it stands and which sentence
/// it belongs to; then a norm.
class BertEmbeddings {
 public:
  BertEmbeddings(ParameterSet& set, const BertConfig& config);
  Var operator()(Pass& pass, const std::vector<int32_t>& ids, const Segments& text,
                 const std::vector<int32_t>& types) const;
  const ParameterPtr& words() const { return words_; }

 private:
  ParameterPtr words_, positions_, types_;  // positions_ null: none are added
  LayerNorm norm_;
  int64_t max_len_;
  double dropout_;
};

/// Section 3, "Model Architecture": a block of the encoder of Vaswani et al., two sub-layers, each wrapped as
/// norm(x + dropout(f(x))).
class BertLayer {
 public:
  BertLayer(ParameterSet& set, const std::string& name, const BertConfig& config, int64_t layer);
  /// x [n_tokens, d_model] -> same shape; every token sees all tokens of its text
  Var operator()(Pass& pass, const Var& x, const Segments& text, Probe* probe) const;

 private:
  MultiHeadAttention attention_;
  LayerNorm attention_norm_;
  FeedForward feed_forward_;
  LayerNorm feed_forward_norm_;
  double dropout_;
};

/// Section 3.1, task #1: "the final hidden vectors corresponding to the mask tokens are fed into an output
/// softmax over the vocabulary", after a layer and a norm; the output layer is the word embedding, with a
/// bias.
class MaskedLmHead {
 public:
  MaskedLmHead(ParameterSet& set, const BertConfig& config);
  /// hidden [n, d_model] -> [n, d_model]: what meets the output layer
  Var operator()(const Var& hidden) const { return norm_(transform_(hidden, activation_)); }
  const ParameterPtr& output_bias() const { return output_bias_; }

 private:
  Linear transform_;
  LayerNorm norm_;
  ParameterPtr output_bias_;
  Activation activation_;
};

class Bert {
 public:
  explicit Bert(const BertConfig& config, ParameterStart start, DType dtype = DType::kF32);
  const BertConfig& config() const { return config_; }
  const ParameterSet& parameters() const { return set_; }

  /// ids of packed texts -> hidden [n_tokens, d_model]. types: for each token the number of its segment in
  /// the text; none given: 0 for all.
  Var operator()(Pass& pass, const std::vector<int32_t>& ids, const Segments& text,
                 const std::vector<int32_t>& types = {}, Probe* probe = nullptr) const;

  /// The first token of each text, through a layer with tanh: hidden [n_tokens, d_model] -> [n_texts,
  /// d_model]. Error kUnsupported without a pooler; kValue: an empty text.
  Var pool(const Var& hidden, const Segments& text) const;

  /// Rows of hidden whose words are asked for -> what meets output_weight() and output_bias(), for losses;
  /// and the logits [n, vocab_size] that this makes, in the accumulator's dtype. Error kUnsupported without
  /// the head.
  Var predict(const Var& hidden) const;
  Tensor logits(const Var& predicted) const;
  const ParameterPtr& output_weight() const { return embeddings_->words(); }
  const ParameterPtr& output_bias() const;

 private:
  BertConfig config_;
  ParameterSet set_;
  std::optional<BertEmbeddings> embeddings_;
  std::vector<BertLayer> layers_;
  std::optional<Linear> pooler_;
  std::optional<MaskedLmHead> masked_lm_;
};

}  // namespace qkv
