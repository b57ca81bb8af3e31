#include <cmath>

#include "qkv/attention/pooling.h"
#include "qkv/attention/pooling/each_sequence.h"
#include "qkv/base/trace.h"

namespace qkv {
namespace {

// w [n, n_hops] = softmax of each column of s over the n rows; gram [n_hops, n_hops] = w^T w. Sums run over
// the rows in order.
template <class T, class A>
void weights_and_gram(int64_t n, int64_t n_hops, const T* s, A* w, A* gram) {
  std::vector<A> max(static_cast<size_t>(n_hops), -std::numeric_limits<A>::infinity()),
      sum(static_cast<size_t>(n_hops));
  const auto each = [&](auto&& body) {
    for (int64_t t = 0; t < n; ++t)
      for (int64_t r = 0; r < n_hops; ++r) body(t * n_hops + r, static_cast<size_t>(r));
  };
  each([&](int64_t i, size_t r) { max[r] = std::max(max[r], A(s[i])); });
  each([&](int64_t i, size_t r) { sum[r] += w[i] = std::exp(A(s[i]) - max[r]); });
  each([&](int64_t i, size_t r) { w[i] /= sum[r]; });
  for (int64_t t = 0; t < n; ++t)
    for (int64_t r = 0; r < n_hops; ++r)
      for (int64_t q = 0; q < n_hops; ++q) gram[r * n_hops + q] += w[t * n_hops + r] * w[t * n_hops + q];
}

}  // namespace

Var overlap_penalty(const Var& scores, const Segments& rows) {
  const trace::Span span("overlap_penalty", trace::Kind::kOp);
  const Tensor s = scores.value().contiguous();
  QKV_CHECK(s.rank() == 2 && s.size(0) == rows.n_tokens(), kShape,
            "overlap_penalty: scores are {}, the sequences have {} rows", s.shape().str(), rows.n_tokens());
  const int64_t n_hops = s.size(1), work = s.numel() * (n_hops + 8);  // 8: an exponential
  const DType sums = accumulator_dtype(s.dtype());
  const Tensor weights = Tensor::empty(s.shape(), sums),
               grams = Tensor::zeros({rows.size(), n_hops, n_hops}, sums),
               out = Tensor::zeros({rows.size(), 1}, s.dtype());
  kernels::visit_dtype(s.dtype(), [&]<class T>(T) {
    using A = accumulator_t<T>;
    each_sequence(rows, work, [&](int64_t b) {
      A* gram = grams.data<A>() + b * n_hops * n_hops;
      weights_and_gram(rows.length(b), n_hops, s.data<T>() + rows.begin(b) * n_hops,
                       weights.data<A>() + rows.begin(b) * n_hops, gram);
      A total = 0;
      for (int64_t i = 0; i < n_hops * n_hops; ++i) {
        const A e = gram[i] - (i % (n_hops + 1) == 0 ? A(1) : A(0));
        total += e * e;
      }
      out.data<T>()[b] = T(total);
    });
  });
  return Var::result(out, scores.requires_grad(), {scores}, [=](const Tensor& grad) {
    const Tensor dy = grad.contiguous(), ds = Tensor::empty(s.shape(), s.dtype());
    kernels::visit_dtype(s.dtype(), [&]<class T>(T) {
      using A = accumulator_t<T>;
      each_sequence(rows, work, [&](int64_t b) {
        const A* gram = grams.data<A>() + b * n_hops * n_hops;
        const auto e = [&](int64_t r, int64_t q) { return gram[r * n_hops + q] - (r == q ? A(1) : A(0)); };
        const A factor = 4 * A(dy.data<T>()[b]);
        std::vector<A> delta(static_cast<size_t>(n_hops));  // sum_t a_rt (E A)_rt = (E A A^T)_rr
        for (int64_t r = 0; r < n_hops; ++r)
          for (int64_t q = 0; q < n_hops; ++q)
            delta[static_cast<size_t>(r)] += e(r, q) * gram[q * n_hops + r];
        for (int64_t t = rows.begin(b); t < rows.begin(b) + rows.length(b); ++t) {
          const A* w = weights.data<A>() + t * n_hops;
          for (int64_t r = 0; r < n_hops; ++r) {
            A da = -delta[static_cast<size_t>(r)];
            for (int64_t q = 0; q < n_hops; ++q) da += e(r, q) * w[q];
            ds.data<T>()[t * n_hops + r] = T(factor * w[r] * da);
          }
        }
      });
    });
    scores.add_grad(ds);
  });
}

}  // namespace qkv
