#include "qkv/autograd/ops/rows.h"

#include <algorithm>

#include "qkv/base/parallel.h"
#include "qkv/base/trace.h"
#include "qkv/kernels/table.h"

namespace qkv {

Var take_rows(const std::vector<Var>& sources, const std::vector<int64_t>& from) {
  const trace::Span span("take_rows", trace::Kind::kOp);
  QKV_CHECK(!sources.empty(), kShape, "take_rows: needs a source");
  const int64_t d = sources[0].size(1), n = static_cast<int64_t>(from.size());
  const DType dtype = sources[0].dtype();
  std::vector<int64_t> first{0};  // the number of each source's first row, and of the row after all
  for (const Var& source : sources) {
    QKV_CHECK(source.value().rank() == 2 && source.size(1) == d, kShape,
              "take_rows: sources {} and {} are not of one width", sources[0].value().shape().str(),
              source.value().shape().str());
    QKV_CHECK(source.dtype() == dtype, kDtype, "take_rows: sources of {} and of {}", name(dtype),
              name(source.dtype()));
    first.push_back(first.back() + source.size(0));
  }
  for (int64_t row : from)
    QKV_CHECK(row >= -1 && row < first.back(), kValue, "take_rows: row {} is outside the {} that there are",
              row, first.back());

  const Tensor out = Tensor::empty({n, d}, dtype);
  kernels::visit_dtype(dtype, [&]<class T>(T) {
    std::vector<const T*> rows(static_cast<size_t>(n));
    std::vector<Tensor> kept;
    for (const Var& source : sources) kept.push_back(source.value().contiguous());
    for (size_t r = 0; r < from.size(); ++r) {
      if (from[r] < 0) continue;
      const size_t s =
          static_cast<size_t>(std::upper_bound(first.begin(), first.end(), from[r]) - first.begin() - 1);
      rows[r] = kept[s].data<T>() + (from[r] - first[s]) * d;
    }
    parallel_for(n, 64, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const T* row = rows[static_cast<size_t>(r)];
        if (row)
          std::copy(row, row + d, out.data<T>() + r * d);
        else
          std::fill(out.data<T>() + r * d, out.data<T>() + (r + 1) * d, T(accumulator_t<T>(0)));
      }
    });
  });

  const bool differentiable =
      std::any_of(sources.begin(), sources.end(), [](const Var& x) { return x.requires_grad(); });
  return Var::result(out, differentiable, sources, [=](const Tensor& grad) {
    const Tensor dy = grad.contiguous();
    kernels::visit_dtype(dtype, [&]<class T>(T) {
      using A = accumulator_t<T>;
      for (size_t s = 0; s < sources.size(); ++s) {
        if (!sources[s].requires_grad()) continue;
        const Tensor dx = Tensor::zeros({sources[s].size(0), d}, dtype_of<A>::value);
        // Threads split the columns: each sum runs over r in order.
        parallel_for(d, 32, [&](int64_t begin, int64_t end) {
          for (int64_t r = 0; r < n; ++r) {
            const int64_t row = from[static_cast<size_t>(r)] - first[s];
            if (row < 0 || row >= first[s + 1] - first[s]) continue;
            for (int64_t c = begin; c < end; ++c) dx.data<A>()[row * d + c] += A(dy.data<T>()[r * d + c]);
          }
        });
        sources[s].add_grad(dx.to(dtype));
      }
    });
  });
}

}  // namespace qkv
