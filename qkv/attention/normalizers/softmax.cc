// Softmax, alone or with a sink: one more score, of no key, that takes its share of the weight.

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "qkv/attention/normalizers/normalizer_for.h"

namespace qkv {
namespace {

class Softmax final : public NormalizerFor<Softmax> {
 public:
  explicit Softmax(ParameterPtr sink) : sink_(std::move(sink)) {}
  std::string_view name() const override { return sink_ ? "softmax_with_sink" : "softmax"; }
  Blockwise blockwise() const override { return Blockwise::kSoftmax; }
  ParameterPtr parameter() const override { return sink_; }

  template <class A>
  A row(int64_t head, int64_t n, A* s) const {
    constexpr A kNone = -std::numeric_limits<A>::infinity();
    A max = sink_ ? sink_->value().data<A>()[head] : kNone;
    A sum = sink_ ? A(1) : A(0);
    const A before = max;
    for (int64_t j = 0; j < n; ++j) max = std::max(max, s[j]);
    if (sink_ && max > before) sum = std::exp(before - max);
    for (int64_t j = 0; j < n; ++j)
      if (s[j] != kNone) sum += std::exp(s[j] - max);
    // A hidden key has weight 0 even where the sum is NaN.
    for (int64_t j = 0; j < n; ++j) s[j] = s[j] == kNone ? A(0) : std::exp(s[j] - max) / sum;
    return sum;
  }

  // ds_j = w_j (dw_j - sum_j' w_j' dw_j'), and the sink is a key whose value is 0.
  template <class A>
  void row_backward(int64_t /*head*/, int64_t n, const A* w, A* g, A* gradient) const {
    A dot = 0, looked = 0;
    for (int64_t j = 0; j < n; ++j)
      if (w[j] != 0) dot += w[j] * g[j], looked += w[j];
    for (int64_t j = 0; j < n; ++j) g[j] = w[j] != 0 ? w[j] * (g[j] - dot) : A(0);
    if (sink_) *gradient -= (1 - looked) * dot;
  }

 private:
  ParameterPtr sink_;  // [n_heads, 1] or null
};

}  // namespace

NormalizerPtr softmax_normalizer() {
  static const auto one = std::make_shared<Softmax>(nullptr);
  return one;
}

NormalizerPtr softmax_with_sink(ParameterSet& set, const std::string& prefix, const HeadSizes& heads) {
  return std::make_shared<Softmax>(set.constant(prefix + ".sink", {heads.n_heads, 1}, 0));
}

}  // namespace qkv
