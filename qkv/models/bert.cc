#include "qkv/models/bert.h"

#include "qkv/autograd/ops/embedding.h"
#include "qkv/autograd/ops/rows.h"
#include "qkv/autograd/recompute.h"
#include "qkv/base/trace.h"
#include "qkv/models/config_check.h"
#include "qkv/nn/positions.h"
#include "qkv/nn/residual.h"

namespace qkv {
namespace {

// modeling.py, initializer_range, of the embeddings. Layers start as elsewhere in qkv (nn/linear.h).
constexpr double kDeviation = 0.02;

ParameterPtr table(ParameterSet& set, const std::string& name, const Shape& shape) {
  ParameterPtr p = set.normal(name, shape, kDeviation);
  p->set_table(true);
  return p;
}

}  // namespace

void BertConfig::validate(const std::string& where) const {
  const ConfigCheck check(where);
  check.range("vocab_size", vocab_size, 2, kMaxVocab);
  check.range("type_vocab", type_vocab, 1, kMaxWidth);
  check.range("n_layers", n_layers, 1, kMaxLayers);
  check.range("d_ff", d_ff, 1, kMaxWidth * 4);
  check.heads(d_model, n_heads, d_k, d_v);
  check.positions(positions, max_len, d_model);
  check_variant(attention, where + ": attention",
                {.n_heads = n_heads, .n_kv_heads = n_heads, .d_k = key_width(), .d_v = value_width()},
                d_model,
                /*causal=*/false, /*cross=*/false);
  check.rate("dropout", dropout);
  check.rate("attention_dropout", attention_dropout);
  check.range("pad_id", pad_id, 0, vocab_size - 1);
}

BertEmbeddings::BertEmbeddings(ParameterSet& set, const BertConfig& c)
    : words_(table(set, "bert.embeddings.word_embeddings.weight", {c.vocab_size, c.d_model})),
      positions_(position_table(c.positions, set, "bert.embeddings.position_embeddings.weight", c.max_len,
                                c.d_model, kDeviation)),
      types_(table(set, "bert.embeddings.token_type_embeddings.weight", {c.type_vocab, c.d_model})),
      norm_(set, "bert.embeddings.LayerNorm", c.d_model, c.eps),
      max_len_(c.max_len),
      dropout_(c.dropout) {}

// 3  "For a given token, its input representation is constructed by summing the corresponding token, segment,
// and position embeddings."
Var BertEmbeddings::operator()(Pass& pass, const std::vector<int32_t>& ids, const Segments& text,
                               const std::vector<int32_t>& types) const {
  const Var words =
      embedding(ids, words_, 1, places_of_rows(text, ids.size(), max_len_, "bert"), positions_, pass.dtype());
  const Var segments = embedding(types, types_, 1, {}, nullptr, pass.dtype());
  return dropout(norm_(add(words, segments)), pass.rate(dropout_), pass.next_key());
}

BertLayer::BertLayer(ParameterSet& set, const std::string& name, const BertConfig& c, int64_t layer)
    : attention_(set, name + ".attention",
                 {.d_model = c.d_model,
                  .n_heads = c.n_heads,
                  .n_kv_heads = c.n_heads,
                  .d_k = c.key_width(),
                  .d_v = c.value_width(),
                  .attention = c.attention,
                  .dropout = c.attention_dropout,
                  .site = "encoder",
                  .layer = layer}),
      attention_norm_(set, name + ".attention.output.LayerNorm", c.d_model, c.eps),
      feed_forward_(set, name + ".intermediate.dense", name + ".output.dense", c.d_model, c.d_ff,
                    c.activation, 0),
      feed_forward_norm_(set, name + ".output.LayerNorm", c.d_model, c.eps),
      dropout_(c.dropout) {}

Var BertLayer::operator()(Pass& pass, const Var& x, const Segments& text, Probe* probe) const {
  const trace::Span span("encoder_layer");
  const Var h = attention_norm_(add_sublayer(pass, x, dropout_, [&](const Var& residual) {
    return attention_(pass, x, text, x, text, {}, probe, residual);
  }));
  return feed_forward_norm_(
      add_sublayer(pass, h, dropout_, [&](const Var& residual) { return feed_forward_(pass, h, residual); }));
}

MaskedLmHead::MaskedLmHead(ParameterSet& set, const BertConfig& c)
    : transform_(set, "cls.predictions.transform.dense", c.d_model, c.d_model),
      norm_(set, "cls.predictions.transform.LayerNorm", c.d_model, c.eps),
      output_bias_(set.constant("cls.predictions.bias", {c.vocab_size}, 0)),
      activation_(c.activation) {}

Bert::Bert(const BertConfig& config, ParameterStart start, DType dtype)
    : config_(config), set_(std::move(start), dtype) {
  config_.validate();
  embeddings_.emplace(set_, config_);
  for (int64_t i = 0; i < config_.n_layers; ++i)
    layers_.emplace_back(set_, fmt::format("bert.encoder.layer.{}", i), config_, i);
  if (config_.pooler) pooler_.emplace(set_, "bert.pooler.dense", config_.d_model, config_.d_model);
  if (config_.masked_lm) masked_lm_.emplace(set_, config_);
}

Var Bert::operator()(Pass& pass, const std::vector<int32_t>& ids, const Segments& text,
                     const std::vector<int32_t>& types, Probe* probe) const {
  const std::vector<int32_t> one_sentence(types.empty() ? ids.size() : 0);
  Var x = (*embeddings_)(pass, ids, text, types.empty() ? one_sentence : types);
  for (const BertLayer& layer : layers_)
    x = pass.gradient_checkpointing() && !probe
            ? recompute(
                  pass, [layer, text](Pass& p, const Var& in) { return layer(p, in, text, nullptr); }, x)
            : layer(pass, x, text, probe);
  return x;
}

// 3  "The final hidden state corresponding to [the first] token is used as the aggregate sequence
// representation."
Var Bert::pool(const Var& hidden, const Segments& text) const {
  QKV_CHECK(pooler_, kUnsupported, "bert: this model has no pooler");
  std::vector<int64_t> first;
  for (int64_t b = 0; b < text.size(); ++b) {
    QKV_CHECK(text.length(b) > 0, kValue, "bert: text {} has no token to stand for it", b);
    first.push_back(text.begin(b));
  }
  return (*pooler_)(take_rows({hidden}, first), Activation::kTanh);
}

Var Bert::predict(const Var& hidden) const {
  QKV_CHECK(masked_lm_, kUnsupported, "bert: this model has no head for hidden words (cls.predictions)");
  return (*masked_lm_)(hidden);
}

Tensor Bert::logits(const Var& predicted) const {
  const Tensor out =
      Tensor::empty({predicted.size(0), config_.vocab_size}, accumulator_dtype(predicted.dtype()));
  matmul(predicted.value(), output_weight()->packed_transposed(predicted.dtype()), out,
         {.bias = output_bias()->value()});
  return out;
}

const ParameterPtr& Bert::output_bias() const {
  QKV_CHECK(masked_lm_, kUnsupported, "bert: this model has no head for hidden words (cls.predictions)");
  return masked_lm_->output_bias();
}

}  // namespace qkv
