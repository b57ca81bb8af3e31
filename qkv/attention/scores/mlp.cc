// score = v_h . tanh(W_h [q; k] + b_h). The map of [q; k] is the sum of a map of q and a map of k, so each is
// made once a token and the pairing is that of the additive score.

#include <cmath>

#include "qkv/attention/scores.h"
#include "qkv/attention/scores/head_linear.h"

namespace qkv {
namespace {

class Mlp final : public Score {
 public:
  Mlp(ParameterPtr query_weight, ParameterPtr key_weight, ParameterPtr bias, ParameterPtr v)
      : query_weight_(std::move(query_weight)),
        key_weight_(std::move(key_weight)),
        bias_(std::move(bias)),
        v_(std::move(v)) {}
  std::string_view name() const override { return "mlp"; }
  Pairing pairing(const HeadSizes&) const override {
    return {.kind = Pairing::Kind::kTanhSum, .width = v_->value().size(1), .v = v_};
  }
  Var prepare_queries(const Var& q, const HeadSizes&) const override { return head_linear(q, query_weight_); }
  Var prepare_keys(const Var& k, const HeadSizes&) const override {
    return head_linear(k, key_weight_, bias_);
  }
  std::vector<ParameterPtr> parameters() const override { return {query_weight_, key_weight_, bias_, v_}; }

 private:
  ParameterPtr query_weight_, key_weight_, bias_, v_;
};

}  // namespace

ScorePtr mlp(ParameterSet& set, const std::string& prefix, const HeadSizes& heads, int64_t d_hidden) {
  const int64_t hidden = d_hidden ? d_hidden : heads.d_k;
  QKV_CHECK(hidden > 0, kValue, "mlp score: {} hidden units", hidden);
  // 2 d_k inputs of variance 1: each hidden unit starts with variance 1.
  const double deviation = 1 / std::sqrt(2.0 * static_cast<double>(heads.d_k));
  return std::make_shared<Mlp>(
      set.normal(prefix + ".query_weight", {heads.n_heads, heads.d_k, hidden}, deviation),
      set.normal(prefix + ".key_weight", {heads.kv_heads(), heads.d_k, hidden}, deviation),
      set.constant(prefix + ".bias", {heads.kv_heads(), hidden}, 0),
      set.normal(prefix + ".v", {heads.n_heads, hidden}, 1 / std::sqrt(static_cast<double>(hidden))));
}

}  // namespace qkv
