#include "qkv/models/gpt2.h"

#include <limits>

#include "qkv/autograd/ops/embedding.h"
#include "qkv/autograd/recompute.h"
#include "qkv/base/trace.h"
#include "qkv/models/config_check.h"
#include "qkv/nn/positions.h"
#include "qkv/nn/residual.h"

namespace qkv {

void Gpt2Config::validate(const std::string& where) const {
  const ConfigCheck check(where);
  check.range("vocab_size", vocab_size, 2, kMaxVocab);
  check.range("n_layers", n_layers, 1, kMaxLayers);
  check.range("d_ff", d_ff, 1, kMaxWidth * 4);
  check.heads(d_model, n_heads, d_k, d_v);
  check.positions(positions, max_len, d_model);
  check_variant(attention, where + ": attention",
                {.n_heads = n_heads, .n_kv_heads = n_heads, .d_k = key_width(), .d_v = value_width()},
                d_model,
                /*causal=*/true, /*cross=*/false);
  check.rate("dropout", dropout);
  check.range("eos_id", eos_id, -1, vocab_size - 1);
}

Gpt2Block::Gpt2Block(ParameterSet& set, const std::string& name, const Gpt2Config& c, int64_t layer)
    : norm1_(set, name + ".ln_1", c.d_model, c.eps),
      norm2_(set, name + ".ln_2", c.d_model, c.eps),
      attention_(set, name + ".attn",
                 {.d_model = c.d_model,
                  .n_heads = c.n_heads,
                  .n_kv_heads = c.n_heads,
                  .d_k = c.key_width(),
                  .d_v = c.value_width(),
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
  const trace::Span span("block");
  const Var y = norm1_(x);
  const Var h = add_sublayer(pass, x, dropout_, [&](const Var& residual) {
    if (!memory) return attention_(pass, y, text, y, text, {}, probe, residual);
    const SegmentMemory::Context context = memory->extend(layer_, x, text);
    return attention_(pass, y, context.queries, norm1_(context.rows), context.keys, {}, probe, residual);
  });
  return add_sublayer(pass, h, dropout_,
                      [&](const Var& residual) { return feed_forward_(pass, norm2_(h), residual); });
}

Gpt2::Gpt2(const Gpt2Config& config, ParameterStart start, DType dtype)
    : config_(config), set_(std::move(start), dtype) {
  config_.validate();
  tokens_ = set_.normal("wte.weight", {config.vocab_size, config.d_model}, 0.02);
  tokens_->set_table(true);
  positions_ = position_table(config.positions, set_, "wpe.weight", config.max_len, config.d_model, 0.01);
  for (int64_t i = 0; i < config.n_layers; ++i) blocks_.emplace_back(set_, fmt::format("h.{}", i), config, i);
  // "an additional layer normalization was added after the final self-attention block"
  norm_.emplace(set_, "ln_f", config.d_model, config.eps);
}

Var Gpt2::operator()(Pass& pass, const std::vector<int32_t>& ids, const Segments& text, Probe* probe,
                     SegmentMemory* memory) const {
  QKV_CHECK(!memory || !positions_, kValue,
            "gpt2: a memory of earlier segments needs relative positions; these are added to the embeddings");
  // Without a table of positions a text may be of any length.
  const int64_t longest = positions_ ? config_.max_len : std::numeric_limits<int32_t>::max();
  const Var embedded = qkv::embedding(ids, tokens_, 1, places_of_rows(text, ids.size(), longest, "gpt2"),
                                      positions_, pass.dtype());
  Var x = dropout(embedded, pass.rate(config_.dropout), pass.next_key());
  for (const Gpt2Block& block : blocks_) {
    const bool once = memory || probe;  // what they are told is told once
    x = pass.gradient_checkpointing() && !once
            ? recompute(
                  pass,
                  [block, text](Pass& p, const Var& in) { return block(p, in, text, nullptr, nullptr); }, x)
            : block(pass, x, text, memory, probe);
  }
  return (*norm_)(x);
}

}  // namespace qkv
