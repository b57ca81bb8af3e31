// w = max(s - tau, 0), tau such that the weights add up to 1: Martins and Astudillo 2016, algorithm 1.

#include <algorithm>
#include <cmath>
#include <vector>

#include "qkv/attention/normalizers/normalizer_for.h"
#include "qkv/attention/normalizers/sparse_row.h"

namespace qkv {
namespace {

class Sparsemax final : public NormalizerFor<Sparsemax> {
 public:
  std::string_view name() const override { return "sparsemax"; }

  template <class A>
  A row(int64_t /*head*/, int64_t n, A* s) const {
    A max = 0;
    const std::vector<A> near = scores_near_the_largest(n, s, A(1), max);
    if (near.empty()) return 0;
    A sum = 0, tau = 0;
    for (size_t k = 0; k < near.size(); ++k) {
      sum += near[k];
      const A candidate = (sum - 1) / static_cast<A>(k + 1);
      if (near[k] <= candidate) break;
      tau = candidate;
    }
    for (int64_t j = 0; j < n; ++j) s[j] = std::max(s[j] - max - tau, A(0));
    return 0;
  }

  // The weights that are not 0 share the gradient's mean: section 2.5.
  template <class A>
  void row_backward(int64_t /*head*/, int64_t n, const A* w, A* g, A* /*gradient*/) const {
    A sum = 0, support = 0;
    for (int64_t j = 0; j < n; ++j)
      if (w[j] != 0) sum += g[j], support += 1;
    for (int64_t j = 0; j < n; ++j) g[j] = w[j] != 0 ? g[j] - sum / support : A(0);
  }
};

}  // namespace

NormalizerPtr sparsemax() { return std::make_shared<Sparsemax>(); }

}  // namespace qkv
