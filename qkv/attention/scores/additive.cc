// score = v_h . tanh(q + k), where q and k come out of the layer's projections: Bahdanau's v_a^T tanh(W_a s +
// U_a h).

#include <cmath>

#include "qkv/attention/scores.h"

namespace qkv {
namespace {

class Additive final : public Score {
 public:
  explicit Additive(ParameterPtr v) : v_(std::move(v)) {}
  std::string_view name() const override { return "additive"; }
  Pairing pairing(const HeadSizes& heads) const override {
    return {.kind = Pairing::Kind::kTanhSum, .width = heads.d_k, .v = v_};
  }
  std::vector<ParameterPtr> parameters() const override { return {v_}; }

 private:
  ParameterPtr v_;  // [n_heads, d_k]
};

}  // namespace

ScorePtr additive(ParameterSet& set, const std::string& prefix, const HeadSizes& heads) {
  return std::make_shared<Additive>(
      set.normal(prefix + ".v", {heads.n_heads, heads.d_k}, 1 / std::sqrt(static_cast<double>(heads.d_k))));
}

}  // namespace qkv
