#include "qkv/models/gpt2.h"

#include "qkv/autograd/ops/embedding.h"
#include "qkv/nn/positions.h"

namespace qkv {

Gpt2Block::Gpt2Block(ParameterSet& set, const std::string& name, const Gpt2Config& c, int64_t layer)
    : norm1_(set, name + ".ln_1", c.d_model),
      norm2_(set, name + ".ln_2", c.d_model),
      attention_(set, name + ".attn",
                 {.d_model = c.d_model,
                  .n_heads = c.n_heads,
                  .n_kv_heads = c.n_heads,
                  .d_k = c.d_k > 0 ? c.d_k : c.d_model / c.n_heads,
                  .d_v = c.d_v > 0 ? c.d_v : c.d_model / c.n_heads,
                  .attention = c.attention,
                  .causal = true,
                  .dropout = c.dropout,
                  .site = "decoder",
                  .layer = layer}),
      feed_forward_(set, name + ".mlp.c_fc", name + ".mlp.c_proj", c.d_model, c.d_ff, c.activation, 0),
      layer_(layer),
      dropout_(c.dropout) {}

// "Layer normalization was moved to the input of each sub-block."
Var Gpt2Block::operator()(Pass& pass, const Var& x, const Segments& text, SegmentMemory* memory,
                          Probe* probe) const {
  const Var y = norm1_(x);
  Var attended;
  if (memory) {
    const SegmentMemory::Context context = memory->extend(layer_, x, text);
    attended = attention_(pass, y, context.queries, norm1_(context.rows), context.keys, {}, probe);
  } else {
    attended = attention_(pass, y, text, y, text, {}, probe);
  }
  const Var h = add_dropout(x, attended, pass.rate(dropout_), pass.next_key());
  return add_dropout(h, feed_forward_(pass, norm2_(h)), pass.rate(dropout_), pass.next_key());
}

Gpt2::Gpt2(const Gpt2Config& config, ParameterStart start, DType dtype)
    : config_(config), set_(std::move(start), dtype) {
  QKV_CHECK(config.d_model % config.n_heads == 0 || (config.d_k > 0 && config.d_v > 0), kValue,
            "gpt2: n_heads ({}) does not divide d_model ({})", config.n_heads, config.d_model);
  tokens_ = set_.normal("wte.weight", {config.vocab_size, config.d_model}, 0.02);
  tokens_->set_table(true);
  positions_ = position_table(config.positions, set_, "wpe.weight", config.max_len, config.d_model, 0.01);
  for (int64_t i = 0; i < config.n_layers; ++i) blocks_.emplace_back(set_, fmt::format("h.{}", i), config, i);
  norm_.emplace(
      set_, "ln_f",
      config.d_model);  // "an additional layer normalization was added after the final self-attention block"
}

Var Gpt2::operator()(Pass& pass, const std::vector<int32_t>& ids, const Segments& text, Probe* probe,
                     SegmentMemory* memory) const {
  QKV_CHECK(!memory || !positions_, kValue,
            "gpt2: a memory of earlier segments needs relative positions; these are added to the embeddings");
  std::vector<int32_t> places;
  for (int64_t b = 0; b < text.size(); ++b)
    for (int64_t i = 0; i < text.length(b); ++i) places.push_back(static_cast<int32_t>(text.past(b) + i));
  Var x = dropout(qkv::embedding(ids, tokens_, 1, places, positions_, pass.dtype()),
                  pass.rate(config_.dropout), pass.next_key());
  for (const Gpt2Block& block : blocks_) x = block(pass, x, text, memory, probe);
  return (*norm_)(x);
}

}  // namespace qkv
