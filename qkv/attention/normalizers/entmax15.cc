// w = max(s / 2 - tau, 0)^2, tau such that the weights add up to 1: Peters et al. 2019, algorithm 2. With k
// scores in the support, of mean m and mean square q (of s / 2), (s - tau)^2 adds up to 1 at
// tau = m - sqrt((1 / k) - (q - m^2)).

#include <algorithm>
#include <cmath>
#include <vector>

#include "qkv/attention/normalizers/normalizer_for.h"
#include "qkv/attention/normalizers/sparse_row.h"

namespace qkv {
namespace {

class Entmax15 final : public NormalizerFor<Entmax15> {
 public:
  std::string_view name() const override { return "entmax15"; }

  template <class A>
  A row(int64_t /*head*/, int64_t n, A* s) const {
    A max = 0;
    const std::vector<A> near = scores_near_the_largest(n, s, A(2), max);
    if (near.empty()) return 0;
    A sum = 0, squares = 0, tau = -1;
    for (size_t i = 0; i < near.size(); ++i) {
      const A k = static_cast<A>(i + 1);
      const A x = near[i] / 2;
      sum += x, squares += x * x;
      const A mean = sum / k, left = 1 / k - (squares / k - mean * mean);
      const A candidate = mean - std::sqrt(std::max(left, A(0)));
      if (candidate > x) break;
      tau = candidate;
    }
    for (int64_t j = 0; j < n; ++j) {
      const A root = std::max((s[j] - max) / 2 - tau, A(0));
      s[j] = root * root;
    }
    return 0;
  }

  // ds = r (dw - sum r dw / sum r), r = sqrt(w): Peters et al., proposition 2.
  template <class A>
  void row_backward(int64_t /*head*/, int64_t n, const A* w, A* g, A* /*gradient*/) const {
    A sum = 0, roots = 0;
    for (int64_t j = 0; j < n; ++j)
      if (w[j] != 0) sum += std::sqrt(w[j]) * g[j], roots += std::sqrt(w[j]);
    for (int64_t j = 0; j < n; ++j) g[j] = w[j] != 0 ? std::sqrt(w[j]) * (g[j] - sum / roots) : A(0);
  }
};

}  // namespace

NormalizerPtr entmax15() { return std::make_shared<Entmax15>(); }

}  // namespace qkv
