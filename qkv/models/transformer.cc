#include "qkv/models/transformer.h"

#include <cmath>

#include "qkv/autograd/ops/embedding.h"
#include "qkv/autograd/recompute.h"
#include "qkv/base/trace.h"
#include "qkv/nn/positions.h"

namespace qkv {
namespace {

MultiHeadConfig attention_config(const TransformerConfig& c, const std::string& attention,
                                 const std::string& site, int64_t layer) {
  return {.d_model = c.d_model,
          .n_heads = c.n_heads,
          .n_kv_heads = c.kv_heads(),
          .d_k = c.key_width(),
          .d_v = c.value_width(),
          .attention = attention,
          .causal = site == "decoder",
          .cross = site == "cross",
          .dropout = c.attention_dropout,
          .site = site,
          .layer = layer};
}

FeedForward make_feed_forward(ParameterSet& set, const std::string& name, const TransformerConfig& c) {
  return FeedForward(set, name + ".fc1", name + ".fc2", c.d_model, c.d_ff, c.activation,
                     c.activation_dropout);
}

// Huang et al. 2016, section 4: the chance to be left out rises linearly, to stochastic_depth in the last
// layer.
double skip(const TransformerConfig& c, int64_t layer, int64_t n_layers) {
  return c.stochastic_depth * static_cast<double>(layer + 1) / static_cast<double>(n_layers);
}

}  // namespace

EncoderLayer::EncoderLayer(ParameterSet& set, const std::string& name, const TransformerConfig& c,
                           int64_t layer)
    : self_attention_(set, name + ".self_attn", attention_config(c, c.encoder_attention, "encoder", layer)),
      self_attention_residual_(set, name + ".self_attn_layer_norm", c, skip(c, layer, c.encoder_layers)),
      feed_forward_(make_feed_forward(set, name, c)),
      feed_forward_residual_(set, name + ".final_layer_norm", c, skip(c, layer, c.encoder_layers)) {}

// 3.1  "The first is a multi-head self-attention mechanism, and the second is a ... feed-forward network."
Var EncoderLayer::operator()(Pass& pass, const Var& x, const Segments& source, Probe* probe) const {
  const trace::Span span("encoder_layer");
  const Var h = self_attention_residual_(pass, x, source, [&](const Var& y, const Var& residual) {
    return self_attention_(pass, y, source, y, source, {}, probe, residual);
  });
  return feed_forward_residual_(
      pass, h, source, [&](const Var& y, const Var& residual) { return feed_forward_(pass, y, residual); });
}

DecoderLayer::DecoderLayer(ParameterSet& set, const std::string& name, const TransformerConfig& c,
                           int64_t layer)
    : self_attention_(set, name + ".self_attn", attention_config(c, c.decoder_attention, "decoder", layer)),
      self_attention_residual_(set, name + ".self_attn_layer_norm", c, skip(c, layer, c.decoder_layers)),
      cross_attention_(set, name + ".encoder_attn", attention_config(c, c.cross_attention, "cross", layer)),
      cross_attention_residual_(set, name + ".encoder_attn_layer_norm", c, skip(c, layer, c.decoder_layers)),
      feed_forward_(make_feed_forward(set, name, c)),
      feed_forward_residual_(set, name + ".final_layer_norm", c, skip(c, layer, c.decoder_layers)) {}

// 3.1  The decoder "inserts a third sub-layer, which performs multi-head attention over the output of the
// encoder stack"; 3.2.3  its self-attention is masked "to prevent leftward information flow".
Var DecoderLayer::operator()(Pass& pass, const Var& x, const Segments& target, const Var& memory,
                             const Segments& source, Probe* probe) const {
  const trace::Span span("decoder_layer");
  const Var h = self_attention_residual_(pass, x, target, [&](const Var& y, const Var& residual) {
    return self_attention_(pass, y, target, y, target, {}, probe, residual);
  });
  const Var g = cross_attention_residual_(pass, h, target, [&](const Var& y, const Var& residual) {
    return cross_attention_(pass, y, target, memory, source, {}, probe, residual);
  });
  return feed_forward_residual_(
      pass, g, target, [&](const Var& y, const Var& residual) { return feed_forward_(pass, y, residual); });
}

// The same three sub-layers, with keys and values remembered instead of computed again.
Var DecoderLayer::operator()(Pass& pass, const Var& x, const Segments& target, const Segments& by_sentence,
                             DecoderLayerState& state, Probe* probe) const {
  const trace::Span span("decoder_layer");
  const Var h = self_attention_residual_(pass, x, target, [&](const Var& y, const Var& residual) {
    return self_attention_.attend(y, target, state.target, {}, probe, residual);
  });
  const Var g = cross_attention_residual_(pass, h, target, [&](const Var& y, const Var& residual) {
    return cross_attention_.attend(y, by_sentence, state.source, {}, probe, residual);
  });
  return feed_forward_residual_(
      pass, g, target, [&](const Var& y, const Var& residual) { return feed_forward_(pass, y, residual); });
}

DecoderLayerState DecoderLayer::start(Pass& pass, const Var& memory, const Segments& source) const {
  DecoderLayerState state{.target = self_attention_.make_cache(pass.dtype(), source.size()),
                          .source = cross_attention_.make_cache(pass.dtype(), source.size())};
  cross_attention_.remember(memory, source, state.source);
  return state;
}

Transformer::Transformer(const TransformerConfig& config, ParameterStart start, DType dtype)
    : config_(config), set_(std::move(start), dtype) {
  config_.validate();
  const int64_t d = config_.d_model;
  // 3.4  "In the embedding layers, we multiply those weights by sqrt(d_model)": they start with variance 1 /
  // d_model.
  const double deviation = 1 / std::sqrt(static_cast<double>(d));
  if (config_.shared_vocab()) {
    source_embedding_ = target_embedding_ =
        set_.normal("model.shared.weight", {config_.vocab_size, d}, deviation);
  } else {
    source_embedding_ =
        set_.normal("model.encoder.embed_tokens.weight", {config_.source_vocab(), d}, deviation);
    target_embedding_ =
        set_.normal("model.decoder.embed_tokens.weight", {config_.target_vocab(), d}, deviation);
  }
  for (int64_t i = 0; i < config_.encoder_layers; ++i)
    encoder_.emplace_back(set_, fmt::format("model.encoder.layers.{}", i), config_, i);
  for (int64_t i = 0; i < config_.decoder_layers; ++i)
    decoder_.emplace_back(set_, fmt::format("model.decoder.layers.{}", i), config_, i);
  if (config_.pre_norm) {
    encoder_norm_.emplace(set_, "model.encoder.layer_norm", d);
    decoder_norm_.emplace(set_, "model.decoder.layer_norm", d);
  }
  // 3.4  "we share the same weight matrix between the two embedding layers and the pre-softmax linear
  // transformation"
  output_weight_ = config_.tie_output ? target_embedding_
                                      : set_.xavier_uniform("lm_head.weight", {config_.target_vocab(), d});
  for (const ParameterPtr& table : {source_embedding_, target_embedding_, output_weight_})
    table->set_table(true);
  output_bias_ = set_.constant("final_logits_bias", {1, config_.target_vocab()}, 0);
  make_positions();  // last: sinusoids take memory that no file vouches for, so the rest has to fit first
}

void Transformer::make_positions() {
  const auto table = [&](const char* name) {
    return position_table(config_.positions, set_, name, config_.max_len, config_.d_model, 0.02);
  };
  source_positions_ = table("model.encoder.embed_positions.weight");
  target_positions_ =
      config_.positions == "sinusoidal" ? source_positions_ : table("model.decoder.embed_positions.weight");
}

// 3.5  Positions enter once, here, as vectors added to the embeddings; or not here, but where queries meet
// keys.
Var Transformer::embed(Pass& pass, const std::vector<int32_t>& ids, const Segments& segments,
                       const ParameterPtr& table, const ParameterPtr& positions) const {
  const Var x = embedding(ids, table, std::sqrt(static_cast<double>(config_.d_model)),
                          places_of_rows(segments, ids.size(), config_.max_len, "transformer"), positions,
                          pass.dtype());
  return dropout(x, pass.rate(config_.dropout), pass.next_key());
}

Var Transformer::encode(Pass& pass, const std::vector<int32_t>& ids, const Segments& source,
                        Probe* probe) const {
  const trace::Span span("encode");
  Var x = embed(pass, ids, source, source_embedding_, source_positions_);
  for (const EncoderLayer& layer : encoder_)
    x = pass.gradient_checkpointing() && !probe
            ? recompute(
                  pass, [layer, source](Pass& p, const Var& in) { return layer(p, in, source, nullptr); }, x)
            : layer(pass, x, source, probe);
  return encoder_norm_ ? (*encoder_norm_)(x) : x;
}

Var Transformer::decode(Pass& pass, const std::vector<int32_t>& ids, const Segments& target,
                        const Var& memory, const Segments& source, Probe* probe) const {
  const trace::Span span("decode");
  Var x = embed(pass, ids, target, target_embedding_, target_positions_);
  for (const DecoderLayer& layer : decoder_)
    x = pass.gradient_checkpointing() && !probe
            ? recompute(
                  pass,
                  [layer, target, source](Pass& p, const Var& in, const Var& from) {
                    return layer(p, in, target, from, source, nullptr);
                  },
                  x, memory)
            : layer(pass, x, target, memory, source, probe);
  return decoder_norm_ ? (*decoder_norm_)(x) : x;
}

DecoderState Transformer::start(Pass& pass, const Var& memory, const Segments& source) const {
  DecoderState state;
  for (const DecoderLayer& layer : decoder_) state.layers.push_back(layer.start(pass, memory, source));
  state.n_sentences = source.size();
  for (int64_t s = 0; s < source.size(); ++s) state.sentence_of_row.push_back(static_cast<int32_t>(s));
  state.past_of_row.assign(static_cast<size_t>(source.size()), 0);
  return state;
}

void Transformer::select(DecoderState& state, const std::vector<int32_t>& parents) const {
  std::vector<int32_t> sentence_of_row, kept;  // kept: old numbers of the sentences that stay
  std::vector<int64_t> past_of_row;
  for (int32_t parent : parents) {
    const int32_t sentence = state.sentence_of_row[parent];
    QKV_CHECK(kept.empty() || kept.back() <= sentence, kValue,
              "transformer: rows need to stay grouped by sentence");
    if (kept.empty() || kept.back() != sentence) kept.push_back(sentence);
    sentence_of_row.push_back(static_cast<int32_t>(kept.size()) - 1);
    past_of_row.push_back(state.past_of_row[parent]);
  }
  for (DecoderLayerState& layer : state.layers) {
    layer.target.select(parents);
    if (static_cast<int64_t>(kept.size()) < state.n_sentences) layer.source.select(kept);
  }
  state.sentence_of_row = std::move(sentence_of_row);
  state.past_of_row = std::move(past_of_row);
  state.n_sentences = static_cast<int64_t>(kept.size());
}

Var Transformer::step(Pass& pass, const std::vector<int32_t>& ids, DecoderState& state, Probe* probe) const {
  const Segments target(std::vector<int64_t>(ids.size(), 1), state.past_of_row);
  std::vector<int64_t> rows_of_sentence(static_cast<size_t>(state.n_sentences), 0);
  for (int32_t sentence : state.sentence_of_row) ++rows_of_sentence[sentence];
  const Segments by_sentence(rows_of_sentence);

  Var x = embed(pass, ids, target, target_embedding_, target_positions_);
  for (size_t i = 0; i < decoder_.size(); ++i)
    x = decoder_[i](pass, x, target, by_sentence, state.layers[i], probe);
  for (int64_t& past : state.past_of_row) ++past;
  return decoder_norm_ ? (*decoder_norm_)(x) : x;
}

Tensor Transformer::logits(const Var& hidden) const {
  const trace::Span span("logits");
  const Tensor out =
      Tensor::empty({hidden.size(0), config_.target_vocab()}, accumulator_dtype(hidden.dtype()));
  matmul(hidden.value(), output_weight_->packed_transposed(hidden.dtype()), out,
         {.bias = output_bias_->value()});
  return out;
}

}  // namespace qkv
