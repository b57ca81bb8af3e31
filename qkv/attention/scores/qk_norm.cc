// Queries and keys are normalised, head by head, before another score: what it is given has a known length.

#include <utility>

#include "qkv/attention/scores.h"
#include "qkv/attention/scores/head_norm.h"

namespace qkv {
namespace {

class QkNorm final : public Score {
 public:
  QkNorm(ParameterPtr query_gamma, ParameterPtr key_gamma, double eps, ScorePtr score)
      : query_gamma_(std::move(query_gamma)),
        key_gamma_(std::move(key_gamma)),
        eps_(eps),
        score_(std::move(score)) {}
  std::string_view name() const override { return "qk_norm"; }
  Pairing pairing(const HeadSizes& heads) const override { return score_->pairing(heads); }
  Var prepare_queries(const Var& q, const HeadSizes& heads) const override {
    return score_->prepare_queries(head_rms_norm(q, query_gamma_, eps_), heads);
  }
  Var prepare_keys(const Var& k, const HeadSizes& heads) const override {
    return score_->prepare_keys(head_rms_norm(k, key_gamma_, eps_), heads);
  }
  std::vector<ParameterPtr> parameters() const override {
    std::vector<ParameterPtr> all = score_->parameters();
    all.insert(all.end(), {query_gamma_, key_gamma_});
    return all;
  }

 private:
  ParameterPtr query_gamma_, key_gamma_;  // [d_k]
  double eps_;
  ScorePtr score_;
};

}  // namespace

ScorePtr qk_norm(ParameterSet& set, const std::string& prefix, const HeadSizes& heads, ScorePtr score,
                 double eps) {
  QKV_CHECK(eps > 0, kValue, "qk_norm: eps is {}, needs to be positive", eps);
  return std::make_shared<QkNorm>(set.constant(prefix + ".q_norm.weight", {heads.d_k}, 1),
                                  set.constant(prefix + ".k_norm.weight", {heads.d_k}, 1), eps,
                                  score ? std::move(score) : scaled_dot());
}

}  // namespace qkv
