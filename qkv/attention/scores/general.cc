// score = q^T W_h k: queries are mapped by W_h once, then meet keys in dot products.

#include "qkv/attention/scores.h"
#include "qkv/attention/scores/head_linear.h"

namespace qkv {
namespace {

class General final : public Score {
 public:
  explicit General(ParameterPtr weight) : weight_(std::move(weight)) {}
  std::string_view name() const override { return "general"; }
  Pairing pairing(const HeadSizes& heads) const override {
    return {.kind = Pairing::Kind::kDot, .width = heads.d_k};
  }
  Var prepare_queries(const Var& q, const HeadSizes&) const override { return head_linear(q, weight_); }
  std::vector<ParameterPtr> parameters() const override { return {weight_}; }

 private:
  ParameterPtr weight_;  // [n_heads, d_k, d_k]
};

}  // namespace

ScorePtr general(ParameterSet& set, const std::string& prefix, const HeadSizes& heads) {
  // d_k^2 products of variance 1 / d_k^2: scores start with variance 1.
  return std::make_shared<General>(set.normal(prefix + ".weight", {heads.n_heads, heads.d_k, heads.d_k},
                                              1 / static_cast<double>(heads.d_k)));
}

}  // namespace qkv
