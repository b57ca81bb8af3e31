#include "qkv/attention/heads/head_columns.h"

#include <algorithm>
#include <vector>

#include "qkv/base/parallel.h"
#include "qkv/base/trace.h"
#include "qkv/kernels/table.h"
#include "qkv/tensor/rows.h"

namespace qkv {
namespace {

constexpr int64_t kRowGrain = 16;

// Columns of one head, in a matrix of `heads` of them `width` wide; heads == 1: the same for every head.
struct Part {
  const Tensor& x;
  int64_t heads = 0, width = 0, begin = 0;
  template <class T>
  T* at(int64_t row, int64_t h) const {
    return x.data<T>() + row * (x.size(0) > 1 ? x.stride(0) : x.size(1)) + (heads == 1 ? 0 : h) * width +
           begin;
  }
};

// to = from, n columns of each head.
void copy_heads(const Part& from, const Part& to, int64_t n_heads, int64_t n) {
  kernels::visit_dtype(to.x.dtype(), [&]<class T>(T) {
    parallel_for(to.x.size(0), kRowGrain, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row)
        for (int64_t h = 0; h < n_heads; ++h) std::copy_n(from.at<T>(row, h), n, to.at<T>(row, h));
    });
  });
}

// to [rows, n] = sum over the heads of from.
void sum_heads(const Part& from, const Tensor& to) {
  const int64_t n = to.size(1);
  kernels::visit_dtype(to.dtype(), [&]<class T>(T) {
    using A = accumulator_t<T>;
    parallel_for(to.size(0), kRowGrain, [&](int64_t begin, int64_t end) {
      std::vector<A> sum(static_cast<size_t>(n));
      for (int64_t row = begin; row < end; ++row) {
        std::fill(sum.begin(), sum.end(), A(0));
        for (int64_t h = 0; h < from.heads; ++h)
          for (int64_t d = 0; d < n; ++d) sum[static_cast<size_t>(d)] += A(from.at<T>(row, h)[d]);
        for (int64_t d = 0; d < n; ++d) to.data<T>()[row * n + d] = T(sum[static_cast<size_t>(d)]);
      }
    });
  });
}

}  // namespace

Var head_columns(const Var& x, int64_t n_heads, int64_t begin, int64_t end) {
  const trace::Span span("head_columns", trace::Kind::kOp);
  const Tensor in = with_adjacent_columns(x.value());
  const int64_t d = in.size(1) / n_heads, n = end - begin;
  QKV_CHECK(in.size(1) == n_heads * d && 0 <= begin && begin <= end && end <= d, kShape,
            "head_columns: columns {} to {} of {} heads in {}", begin, end, n_heads, in.shape().str());
  const Tensor out = Tensor::empty({in.size(0), n_heads * n}, in.dtype());
  copy_heads({in, n_heads, d, begin}, {out, n_heads, n, 0}, n_heads, n);
  return Var::result(out, x.requires_grad(), {x}, [=](const Tensor& grad) {
    const Tensor dy = grad.contiguous(), dx = Tensor::zeros(x.value().shape(), x.dtype());
    copy_heads({dy, n_heads, n, 0}, {dx, n_heads, d, begin}, n_heads, n);
    x.add_grad(dx);
  });
}

Var join_heads(const Var& a, const Var& b, int64_t n_heads, int64_t d_b) {
  const trace::Span span("join_heads", trace::Kind::kOp);
  const Tensor left = with_adjacent_columns(a.value()), right = with_adjacent_columns(b.value());
  const int64_t rows = left.size(0), d_a = left.size(1) / n_heads, d = d_a + d_b;
  const bool shared = n_heads > 1 && right.size(1) == d_b;
  QKV_CHECK(left.size(1) == n_heads * d_a && (shared || right.size(1) == n_heads * d_b) &&
                right.size(0) == rows && right.dtype() == left.dtype(),
            kShape, "join_heads: {} {} and {} {} are not {} heads, the second of {} columns each",
            left.shape().str(), name(left.dtype()), right.shape().str(), name(right.dtype()), n_heads, d_b);
  const Tensor out = Tensor::empty({rows, n_heads * d}, left.dtype());
  copy_heads({left, n_heads, d_a, 0}, {out, n_heads, d, 0}, n_heads, d_a);
  copy_heads({right, shared ? 1 : n_heads, d_b, 0}, {out, n_heads, d, d_a}, n_heads, d_b);
  return Var::result(out, a.requires_grad() || b.requires_grad(), {a, b}, [=](const Tensor& grad) {
    const Tensor dy = grad.contiguous();
    const Tensor da = Tensor::empty({rows, n_heads * d_a}, dy.dtype()),
                 db = Tensor::empty({rows, shared ? d_b : n_heads * d_b}, dy.dtype());
    copy_heads({dy, n_heads, d, 0}, {da, n_heads, d_a, 0}, n_heads, d_a);
    if (shared)
      sum_heads({dy, n_heads, d, d_a}, db);
    else
      copy_heads({dy, n_heads, d, d_a}, {db, n_heads, d_b, 0}, n_heads, d_b);
    a.add_grad(da);
    b.add_grad(db);
  });
}

}  // namespace qkv
