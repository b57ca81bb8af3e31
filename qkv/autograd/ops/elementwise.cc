#include "qkv/autograd/ops/elementwise.h"

#include "qkv/base/parallel.h"
#include "qkv/base/trace.h"
#include "qkv/kernels/table.h"
#include "qkv/tensor/matmul.h"

namespace qkv {
namespace {

constexpr int64_t kGrain = 8192;  // elements a thread; a multiple of 128, as dropout's places want

void check_same(const Var& a, const Var& b, const char* op) {
  QKV_CHECK(a.value().shape() == b.value().shape() && a.dtype() == b.dtype(), kShape,
            "{}: {} {} and {} {} differ", op, a.value().shape().str(), name(a.dtype()),
            b.value().shape().str(), name(b.dtype()));
}

// out = body over pieces, for a fresh tensor like `like`.
template <class Body>
Tensor map(const Tensor& like, Body&& body) {
  const Tensor out = Tensor::empty(like.shape(), like.dtype());
  kernels::visit_dtype(like.dtype(), [&]<class T>(T) {
    const auto& rows = kernels::table().of<T>().rows;
    parallel_for(like.numel(), kGrain,
                 [&](int64_t begin, int64_t end) { body(rows, begin, end - begin, out.data<T>() + begin); });
  });
  return out;
}

// residual (or nothing) + dropout(x).
Tensor apply_dropout(const Tensor& x, const Tensor& residual, const kernels::Dropout& dropout) {
  return map(x, [&]<class T>(const kernels::RowKernels<T>& rows, int64_t begin, int64_t n, T* out) {
    rows.dropout_add(n, begin, x.data<T>() + begin, residual.defined() ? residual.data<T>() + begin : nullptr,
                     dropout, out);
  });
}

}  // namespace

Var add(const Var& a, const Var& b) {
  const trace::Span span("add", trace::Kind::kOp);
  check_same(a, b, "add");
  const Tensor x = a.value().contiguous(), y = b.value().contiguous();
  const Tensor out =
      map(x, [&]<class T>(const kernels::RowKernels<T>& rows, int64_t begin, int64_t n, T* to) {
        rows.add(n, x.data<T>() + begin, y.data<T>() + begin, to);
      });
  return Var::result(out, a.requires_grad() || b.requires_grad(), {a, b}, [=](const Tensor& dy) {
    a.add_grad(dy);
    b.add_grad(dy);
  });
}

Var add_bias(const Var& x, const ParameterPtr& bias) {
  const trace::Span span("add_bias", trace::Kind::kOp);
  const int64_t n = x.size(0), d = bias->value().numel();
  QKV_CHECK(x.value().rank() == 2 && x.size(1) == d, kShape, "add_bias: {} has {} numbers, x is {}",
            bias->name(), d, x.value().shape().str());
  const Tensor in = x.value().contiguous(), out = Tensor::empty(in.shape(), in.dtype());
  kernels::visit_dtype(in.dtype(), [&]<class T>(T) {
    using A = accumulator_t<T>;
    const A* b = bias->value().data<A>();
    parallel_for(n, 64, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin * d; i < end * d; ++i) out.data<T>()[i] = T(A(in.data<T>()[i]) + b[i % d]);
    });
  });
  return Var::result(out, x.requires_grad() || bias->trainable(), {x}, [=](const Tensor& dy) {
    x.add_grad(dy);
    if (bias->trainable()) add_column_sum(dy.contiguous(), bias->grad().reshape({d}));
  });
}

Var value_of(const ParameterPtr& parameter, DType dtype) {
  const trace::Span span("value_of", trace::Kind::kOp);
  return Var::result(parameter->value().to(dtype), parameter->trainable(), {}, [=](const Tensor& dy) {
    const Tensor sum = parameter->grad(), more = dy.contiguous().to(sum.dtype());
    kernels::visit_dtype(sum.dtype(), [&]<class T>(T) {
      for (int64_t i = 0; i < sum.numel(); ++i)
        sum.data<T>()[i] = T(accumulator_t<T>(sum.data<T>()[i]) + accumulator_t<T>(more.data<T>()[i]));
    });
  });
}

Var reshape(const Var& x, const Shape& shape) {
  const trace::Span span("reshape", trace::Kind::kOp);
  const Shape before = x.value().shape();
  return Var::result(x.value().contiguous().reshape(shape), x.requires_grad(), {x},
                     [=](const Tensor& dy) { x.add_grad(dy.contiguous().reshape(before)); });
}

Var scale(const Var& x, double factor) {
  const trace::Span span("scale", trace::Kind::kOp);
  const auto times = [factor](const Tensor& t) {
    return map(t, [&]<class T>(const kernels::RowKernels<T>& rows, int64_t begin, int64_t n, T* to) {
      rows.scale(n, static_cast<accumulator_t<T>>(factor), t.data<T>() + begin, to);
    });
  };
  return Var::result(times(x.value().contiguous()), x.requires_grad(), {x},
                     [=](const Tensor& dy) { x.add_grad(times(dy.contiguous())); });
}

Var multiply(const Var& a, const Var& b) {
  const trace::Span span("multiply", trace::Kind::kOp);
  check_same(a, b, "multiply");
  const auto product = [](const Tensor& x, const Tensor& y) {
    return map(x, [&]<class T>(const kernels::RowKernels<T>& rows, int64_t begin, int64_t n, T* to) {
      rows.multiply(n, x.data<T>() + begin, y.data<T>() + begin, to);
    });
  };
  const Tensor x = a.value().contiguous(), y = b.value().contiguous();
  return Var::result(product(x, y), a.requires_grad() || b.requires_grad(), {a, b}, [=](const Tensor& grad) {
    const Tensor dy = grad.contiguous();
    if (a.requires_grad()) a.add_grad(product(dy, y));
    if (b.requires_grad()) b.add_grad(product(dy, x));
  });
}

Var activate(const Var& x, kernels::Activation f) {
  const trace::Span span("activation", trace::Kind::kOp);
  const Tensor in = x.value().contiguous();
  const Tensor out = map(in, [&]<class T>(const kernels::RowKernels<T>& rows, int64_t begin, int64_t n,
                                          T* to) { rows.activation(n, f, in.data<T>() + begin, to); });
  const Tensor kept = f == kernels::Activation::kTanh ? out : in;
  return Var::result(out, x.requires_grad(), {x}, [=](const Tensor& grad) {
    const Tensor dy = grad.contiguous();
    x.add_grad(map(dy, [&]<class T>(const kernels::RowKernels<T>& rows, int64_t begin, int64_t n, T* to) {
      rows.activation_backward(n, f, dy.data<T>() + begin, kept.data<T>() + begin, to);
    }));
  });
}

Var columns(const Var& x, int64_t begin, int64_t end) {
  const trace::Span span("columns", trace::Kind::kOp);
  return Var::result(x.value().columns(begin, end), x.requires_grad(), {x}, [=](const Tensor& dy) {
    const Tensor dx = Tensor::zeros(x.value().shape(), x.dtype());
    dx.columns(begin, end).copy_from(dy);
    x.add_grad(dx);
  });
}

Var dropout(const Var& x, double p, const RandomKey& key) {
  if (p == 0) return x;
  const trace::Span span("dropout", trace::Kind::kOp);
  const kernels::Dropout d{.key = key, .threshold = kernels::Dropout::threshold_of(p)};
  return Var::result(apply_dropout(x.value().contiguous(), {}, d), x.requires_grad(), {x},
                     [=](const Tensor& dy) { x.add_grad(apply_dropout(dy.contiguous(), {}, d)); });
}

Var add_dropout(const Var& residual, const Var& x, double p, const RandomKey& key) {
  if (p == 0) return add(residual, x);
  const trace::Span span("add_dropout", trace::Kind::kOp);
  check_same(residual, x, "add_dropout");
  const kernels::Dropout d{.key = key, .threshold = kernels::Dropout::threshold_of(p)};
  return Var::result(apply_dropout(x.value().contiguous(), residual.value().contiguous(), d),
                     residual.requires_grad() || x.requires_grad(), {residual, x}, [=](const Tensor& dy) {
                       residual.add_grad(dy);
                       if (x.requires_grad()) x.add_grad(apply_dropout(dy.contiguous(), {}, d));
                     });
}

}  // namespace qkv
