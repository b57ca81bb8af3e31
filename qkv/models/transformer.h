#pragma once
// The Transformer of Vaswani et al., "Attention Is All You Need" (2017), arXiv:1706.03762: figure 1, top to
// bottom.
//
// One definition, three lives: with gradients on it trains; under NoGrad with a DecoderState it runs, a few
// tokens at a time; with a probe it tells what each head looked at. Activations are packed rows
// (base/segments.h).

#include <memory>
#include <optional>
#include <vector>

#include "qkv/attention/multi_head.h"
#include "qkv/autograd/ops/drop_sequences.h"
#include "qkv/base/segments.h"
#include "qkv/models/transformer_config.h"
#include "qkv/nn/feed_forward.h"
#include "qkv/nn/norm.h"
#include "qkv/nn/residual.h"

namespace qkv {

/// A sub-layer with its residual connection, dropout and norm, around any function f(rows, residual) that
/// adds the residual to what it returns, if there is one: post-norm LayerNorm(x + Dropout(f(x))) as in
/// section 3.1, pre-norm x + Dropout(f(LayerNorm(x))). While training, f(x) is left out for whole sequences
/// with probability `skip` (stochastic depth).
class Residual {
 public:
  Residual(ParameterSet& set, const std::string& name, const TransformerConfig& config, double skip)
      : norm_(set, name, config.d_model), pre_norm_(config.pre_norm), dropout_(config.dropout), skip_(skip) {}

  template <class Sublayer>
  Var operator()(Pass& pass, const Var& x, const Segments& sequences, Sublayer&& f) const {
    const Var of = pre_norm_ ? norm_(x) : x;
    const double skip = pass.rate(skip_);
    const Var sum =
        skip == 0 ? add_sublayer(pass, x, dropout_, [&](const Var& residual) { return f(of, residual); })
                  : add_kept_sequences(pass, x, f(of, Var{}), sequences, skip);
    return pre_norm_ ? sum : norm_(sum);
  }

 private:
  Var add_kept_sequences(Pass& pass, const Var& x, const Var& y, const Segments& sequences,
                         double skip) const {
    const Var kept = drop_sequences(y, sequences, skip, pass.next_key());
    return add_dropout(x, kept, pass.rate(dropout_), pass.next_key());
  }

  LayerNorm norm_;
  bool pre_norm_;
  double dropout_, skip_;
};

/// Figure 1, left block.
class EncoderLayer {
 public:
  EncoderLayer(ParameterSet& set, const std::string& name, const TransformerConfig& config, int64_t layer);
  /// x [n_source_tokens, d_model] -> same shape
  Var operator()(Pass& pass, const Var& x, const Segments& source, Probe* probe) const;

 private:
  MultiHeadAttention self_attention_;
  Residual self_attention_residual_;
  FeedForward feed_forward_;
  Residual feed_forward_residual_;
};

/// What one decoder layer keeps while it runs: keys and values of the target so far, and of the source.
struct DecoderLayerState {
  KvCache target, source;
};

/// Figure 1, right block.
class DecoderLayer {
 public:
  DecoderLayer(ParameterSet& set, const std::string& name, const TransformerConfig& config, int64_t layer);
  /// Training: x [n_target_tokens, d_model] sees its own past and all of `memory` [n_source_tokens, d_model].
  Var operator()(Pass& pass, const Var& x, const Segments& target, const Var& memory, const Segments& source,
                 Probe* probe) const;
  /// Running: x are the newest rows of each sequence (`target` says how many came before); by_sentence groups
  /// the same rows by the source sentence they belong to. Appends to the state.
  Var operator()(Pass& pass, const Var& x, const Segments& target, const Segments& by_sentence,
                 DecoderLayerState& state, Probe* probe) const;
  DecoderLayerState start(Pass& pass, const Var& memory, const Segments& source) const;

 private:
  MultiHeadAttention self_attention_;
  Residual self_attention_residual_;
  MultiHeadAttention cross_attention_;
  Residual cross_attention_residual_;
  FeedForward feed_forward_;
  Residual feed_forward_residual_;
};

/// A running decoder: rows are the hypotheses under way, grouped by source sentence.
struct DecoderState {
  std::vector<DecoderLayerState> layers;
  std::vector<int32_t> sentence_of_row;  // ascending
  std::vector<int64_t> past_of_row;      // tokens already seen by each row
  int64_t n_sentences = 0;
};

class Transformer {
 public:
  /// Weights from a seed: Xavier for matrices, N(0, 1/d_model) for embeddings; or from a reader. dtype of
  /// masters: f32, or f64 for gradient checks.
  explicit Transformer(const TransformerConfig& config, ParameterStart start, DType dtype = DType::kF32);

  const TransformerConfig& config() const { return config_; }
  const ParameterSet& parameters() const { return set_; }

  /// ids of the packed source sentences -> memory [n_source_tokens, d_model]
  Var encode(Pass& pass, const std::vector<int32_t>& ids, const Segments& source,
             Probe* probe = nullptr) const;
  /// Teacher forcing: ids of the packed targets, each led by the start token -> hidden [n_target_tokens,
  /// d_model]
  Var decode(Pass& pass, const std::vector<int32_t>& ids, const Segments& target, const Var& memory,
             const Segments& source, Probe* probe = nullptr) const;

  /// Running: one row a sentence, nothing generated yet.
  DecoderState start(Pass& pass, const Var& memory, const Segments& source) const;
  /// Row r of the new state continues row parents[r] of the old one (ascending by sentence); sentences
  /// without rows leave.
  void select(DecoderState& state, const std::vector<int32_t>& parents) const;
  /// One more token for each row -> hidden [rows, d_model]
  Var step(Pass& pass, const std::vector<int32_t>& ids, DecoderState& state, Probe* probe = nullptr) const;
  /// hidden [n, d_model] -> logits [n, target_vocab] in the accumulator's dtype
  Tensor logits(const Var& hidden) const;

  /// The output layer, for losses that go straight from hidden states.
  const ParameterPtr& output_weight() const { return output_weight_; }
  const ParameterPtr& output_bias() const { return output_bias_; }

 private:
  Var embed(Pass& pass, const std::vector<int32_t>& ids, const Segments& segments, const ParameterPtr& table,
            const ParameterPtr& positions) const;
  void make_positions();

  TransformerConfig config_;
  ParameterSet set_;
  ParameterPtr source_embedding_, target_embedding_, output_weight_, output_bias_;
  ParameterPtr source_positions_, target_positions_;
  std::vector<EncoderLayer> encoder_;
  std::vector<DecoderLayer> decoder_;
  std::optional<LayerNorm> encoder_norm_, decoder_norm_;  // pre-norm only
};

}  // namespace qkv
