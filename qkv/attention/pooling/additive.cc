// Rows weighed by a perceptron: attention that a query of zeros asks, with the additive score.

#include "qkv/attention/pooling.h"
#include "qkv/autograd/ops/elementwise.h"
#include "qkv/autograd/ops/linear.h"

namespace qkv {

AdditivePooling::AdditivePooling(ParameterSet& set, const std::string& name, const PoolingConfig& c,
                                 bool bias)
    : Pooling(name, c, /*many=*/true), dropout_(c.dropout) {
  const int64_t d_attention = c.d_attention ? c.d_attention : c.d_model;
  weight_ = set.xavier_uniform(name + ".proj.weight", {d_attention, c.d_model});
  if (bias) bias_ = set.constant(name + ".proj.bias", {d_attention}, 0);
  options_.heads = {.n_heads = c.n_vectors, .n_kv_heads = 1, .d_k = d_attention, .d_v = c.d_model};
  options_.score = additive(set, name + ".score", options_.heads);
  options_.site = site();
  options_.layer = c.layer;
}

Var AdditivePooling::weigh(Pass& pass, const Var& keys, const Var& x, const Segments& rows,
                           Probe* probe) const {
  AttentionOptions options = options_;
  options.probe = probe;
  const RandomKey key = pass.next_key();
  if (const double p = pass.rate(dropout_); p > 0)
    options.dropout = {.key = key, .threshold = kernels::Dropout::threshold_of(p)};
  const Var zeros(Tensor::zeros({rows.size(), options.heads.n_heads * options.heads.d_k}, x.dtype()));
  return attention(zeros, keys, x, Segments(std::vector<int64_t>(static_cast<size_t>(rows.size()), 1)), rows,
                   options);
}

Var AdditivePooling::pool(Pass& pass, const Var& x, const Segments& rows, Probe* probe) const {
  return weigh(pass, linear(x, weight_, bias_), x, rows, probe);
}

AdditivePooling::WithPenalty AdditivePooling::with_penalty(Pass& pass, const Var& x, const Segments& rows,
                                                           Probe* probe) const {
  const Var keys = linear(x, weight_, bias_);
  const ParameterPtr contexts = options_.score->pairing(options_.heads).v;
  return {.vectors = weigh(pass, keys, x, rows, probe),
          .penalty = overlap_penalty(linear(activate(keys, Activation::kTanh), contexts), rows)};
}

}  // namespace qkv
