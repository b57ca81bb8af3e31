#include "qkv/autograd/ops/norm.h"

#include "qkv/base/checked.h"
#include "qkv/base/parallel.h"
#include "qkv/base/trace.h"
#include "qkv/kernels/table.h"

namespace qkv {
namespace {

// Rows per partial sum of a parameter's gradient. Fixed, and the partial sums are added in order, so that the
// bits do not depend on the number of threads.
constexpr int64_t kRowBlock = 256;
constexpr int64_t kRowGrain = 16;

void check_rows(const Var& x, const ParameterPtr& gamma, const char* op) {
  QKV_CHECK(x.value().rank() == 2 && x.value().is_contiguous() && x.size(1) == gamma->value().numel(), kShape,
            "{}: needs rows of {}, got {}", op, gamma->value().numel(), x.value().shape().str());
}

// body(block's first row, rows, partial sums...) over blocks of rows; then adds the partial sums [blocks, d]
// to `totals`.
template <class A, class Body>
void sum_in_blocks(int64_t rows, int64_t d, std::initializer_list<A*> totals, Body&& body) {
  const int64_t blocks = ceil_div(rows, kRowBlock), n = static_cast<int64_t>(totals.size());
  const Tensor partial = Tensor::zeros({blocks, n, d}, dtype_of<A>::value);
  A* sums = partial.data<A>();
  parallel_items(blocks, [&](int64_t b) {
    body(b * kRowBlock, std::min(kRowBlock, rows - b * kRowBlock), sums + b * n * d);
  });
  int64_t i = 0;
  for (A* total : totals) {
    if (total != nullptr)
      for (int64_t b = 0; b < blocks; ++b)
        for (int64_t c = 0; c < d; ++c) total[c] += sums[(b * n + i) * d + c];
    ++i;
  }
}

}  // namespace

Var layer_norm(const Var& x, const ParameterPtr& gamma, const ParameterPtr& beta, double eps) {
  const trace::Span span("layer_norm", trace::Kind::kOp);
  check_rows(x, gamma, "layer_norm");
  const Tensor in = x.value();
  const int64_t n = in.size(0), d = in.size(1);
  const Tensor out = Tensor::empty(in.shape(), in.dtype());
  const Tensor stats = Tensor::empty({2, n}, accumulator_dtype(in.dtype()));  // mean, rstd
  kernels::visit_dtype(in.dtype(), [&]<class T>(T) {
    using A = accumulator_t<T>;
    const auto norm = kernels::table().of<T>().rows.layer_norm;
    A* mean = stats.data<A>();
    A* rstd = mean + n;
    parallel_for(n, kRowGrain, [&](int64_t r0, int64_t r1) {
      norm(r1 - r0, d, in.data<T>() + r0 * d, gamma->value().data<A>(), beta->value().data<A>(),
           static_cast<A>(eps), out.data<T>() + r0 * d, mean + r0, rstd + r0);
    });
  });
  const bool trainable = gamma->trainable() || beta->trainable();
  return Var::result(out, x.requires_grad() || trainable, {x}, [=](const Tensor& grad) {
    const Tensor dy = grad.contiguous(), dx = Tensor::empty(in.shape(), in.dtype());
    kernels::visit_dtype(in.dtype(), [&]<class T>(T) {
      using A = accumulator_t<T>;
      const auto back = kernels::table().of<T>().rows.layer_norm_backward;
      const A* mean = stats.data<A>();
      A* dgamma = gamma->trainable() ? gamma->grad().data<A>() : nullptr;
      A* dbeta = beta->trainable() ? beta->grad().data<A>() : nullptr;
      sum_in_blocks<A>(n, d, {dgamma, dbeta}, [&](int64_t r0, int64_t rows, A* sums) {
        back(rows, d, dy.data<T>() + r0 * d, in.data<T>() + r0 * d, gamma->value().data<A>(), mean + r0,
             mean + n + r0, dx.data<T>() + r0 * d, sums, sums + d);
      });
    });
    x.add_grad(dx);
  });
}

Var rms_norm(const Var& x, const ParameterPtr& gamma, double eps) {
  const trace::Span span("rms_norm", trace::Kind::kOp);
  check_rows(x, gamma, "rms_norm");
  const Tensor in = x.value();
  const int64_t n = in.size(0), d = in.size(1);
  const Tensor out = Tensor::empty(in.shape(), in.dtype());
  const Tensor rstd = Tensor::empty({n}, accumulator_dtype(in.dtype()));
  kernels::visit_dtype(in.dtype(), [&]<class T>(T) {
    using A = accumulator_t<T>;
    const auto norm = kernels::table().of<T>().rows.rms_norm;
    parallel_for(n, kRowGrain, [&](int64_t r0, int64_t r1) {
      norm(r1 - r0, d, in.data<T>() + r0 * d, gamma->value().data<A>(), static_cast<A>(eps),
           out.data<T>() + r0 * d, rstd.data<A>() + r0);
    });
  });
  return Var::result(out, x.requires_grad() || gamma->trainable(), {x}, [=](const Tensor& grad) {
    const Tensor dy = grad.contiguous(), dx = Tensor::empty(in.shape(), in.dtype());
    kernels::visit_dtype(in.dtype(), [&]<class T>(T) {
      using A = accumulator_t<T>;
      const auto back = kernels::table().of<T>().rows.rms_norm_backward;
      A* dgamma = gamma->trainable() ? gamma->grad().data<A>() : nullptr;
      sum_in_blocks<A>(n, d, {dgamma}, [&](int64_t r0, int64_t rows, A* sums) {
        back(rows, d, dy.data<T>() + r0 * d, in.data<T>() + r0 * d, gamma->value().data<A>(),
             rstd.data<A>() + r0, dx.data<T>() + r0 * d, sums);
      });
    });
    x.add_grad(dx);
  });
}

Var softmax(const Var& x) {
  const trace::Span span("softmax", trace::Kind::kOp);
  const Tensor in = x.value().contiguous();
  QKV_CHECK(in.rank() == 2, kShape, "softmax: needs a matrix, got {}", in.shape().str());
  const int64_t n = in.size(0), d = in.size(1);
  const Tensor out = Tensor::empty(in.shape(), in.dtype());
  kernels::visit_dtype(in.dtype(), [&]<class T>(T) {
    parallel_for(n, kRowGrain, [&](int64_t r0, int64_t r1) {
      kernels::table().of<T>().rows.softmax(r1 - r0, d, in.data<T>() + r0 * d, out.data<T>() + r0 * d);
    });
  });
  return Var::result(out, x.requires_grad(), {x}, [=](const Tensor& grad) {
    const Tensor dy = grad.contiguous(), dx = Tensor::empty(in.shape(), in.dtype());
    kernels::visit_dtype(in.dtype(), [&]<class T>(T) {
      parallel_for(n, kRowGrain, [&](int64_t r0, int64_t r1) {
        kernels::table().of<T>().rows.softmax_backward(r1 - r0, d, dy.data<T>() + r0 * d,
                                                       out.data<T>() + r0 * d, dx.data<T>() + r0 * d);
      });
    });
    x.add_grad(dx);
  });
}

}  // namespace qkv
