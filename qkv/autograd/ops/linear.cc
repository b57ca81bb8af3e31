#include "qkv/autograd/ops/linear.h"

#include "qkv/base/parallel.h"
#include "qkv/base/trace.h"
#include "qkv/kernels/table.h"

namespace qkv {
namespace {

// dy * f'(.), from the value before f, or after it where that is what was kept.
Tensor through_activation(const Tensor& dy, Activation f, const Tensor& kept) {
  const Tensor dx = Tensor::empty(dy.shape(), dy.dtype());
  kernels::visit_dtype(dy.dtype(), [&]<class T>(T) {
    const auto back = kernels::table().of<T>().rows.activation_backward;
    parallel_for(dy.numel(), 4096, [&](int64_t begin, int64_t end) {
      back(end - begin, f, dy.data<T>() + begin, kept.data<T>() + begin, dx.data<T>() + begin);
    });
  });
  return dx;
}

Tensor rows_of(const Tensor& stack, const ParameterRows& rows) {
  QKV_CHECK(stack.rank() >= 1 && 0 <= rows.begin && rows.begin <= rows.end && rows.end <= stack.size(0),
            kShape, "linear: {} is {}, rows {} .. {} are asked for", rows.parameter->name(),
            stack.shape().str(), rows.begin, rows.end);
  return stack.slice(0, rows.begin, rows.end);
}

}  // namespace

Var linear(const Var& x, const ParameterPtr& weight, const ParameterPtr& bias, Activation activation) {
  const trace::Span span("linear", trace::Kind::kOp);
  span.note([&] { return weight->name(); });
  const Tensor& in = x.value();
  QKV_CHECK(in.rank() == 2 && in.size(1) == weight->shape()[1], kShape, "linear: {} takes rows of {}, got {}",
            weight->name(), weight->shape()[1], in.shape().str());
  const Tensor out = Tensor::empty({in.size(0), weight->shape()[0]}, in.dtype());
  const bool trainable = weight->trainable() || (bias && bias->trainable());
  const bool keep = grad_enabled() && (x.requires_grad() || trainable);
  const bool from_output = activation == Activation::kRelu || activation == Activation::kTanh;
  Tensor kept = out;
  MatmulOptions options{.bias = bias ? bias->value() : Tensor{},
                        .activation = activation,
                        .pre_activation = {},
                        .accumulate = false};
  if (keep && activation != Activation::kNone && !from_output)
    options.pre_activation = kept = Tensor::empty(out.shape(), out.dtype());
  matmul(in, weight->packed_transposed(in.dtype()), out, options);
  if (activation == Activation::kNone) kept = {};

  return Var::result(out, x.requires_grad() || trainable, {x}, [=](const Tensor& grad) {
    Tensor dy = grad.contiguous();
    if (activation != Activation::kNone) dy = through_activation(dy, activation, kept);
    if (x.requires_grad()) {
      const Tensor dx = Tensor::empty(x.value().shape(), x.dtype());
      matmul(dy, weight->packed(dy.dtype()), dx);
      x.add_grad(dx);
    }
    if (weight->trainable()) weight->add_weight_grad(dy, x.value());
    if (bias && bias->trainable()) add_column_sum(dy, bias->grad());
  });
}

Var linear(const Var& x, const ParameterRows& weight, const ParameterRows& bias) {
  const trace::Span span("linear", trace::Kind::kOp);
  span.note([&] { return weight.parameter->name(); });
  const Tensor w = rows_of(weight.parameter->value(), weight);
  QKV_CHECK(x.value().rank() == 2 && w.rank() == 2 && x.size(1) == w.size(1), kShape,
            "linear: {} is {}, x is {}", weight.parameter->name(), weight.parameter->value().shape().str(),
            x.value().shape().str());
  const Tensor out = Tensor::empty({x.size(0), w.size(0)}, x.dtype());
  MatmulOptions options;
  if (bias.parameter) options.bias = rows_of(bias.parameter->value(), bias);
  matmul(x.value(), pack_matrix(w.transpose(0, 1), x.dtype()), out, options);
  const bool trains_bias = bias.parameter && bias.parameter->trainable();
  return Var::result(out, x.requires_grad() || weight.parameter->trainable() || trains_bias, {x},
                     [=](const Tensor& grad) {
                       const Tensor dy = grad.contiguous();
                       if (x.requires_grad()) {
                         const Tensor dx = Tensor::empty(x.value().shape(), x.dtype());
                         matmul(dy, pack_matrix(w, dy.dtype()), dx);
                         x.add_grad(dx);
                       }
                       if (weight.parameter->trainable())
                         add_transposed_product(dy, x.value(), rows_of(weight.parameter->grad(), weight));
                       if (trains_bias) add_column_sum(dy, rows_of(bias.parameter->grad(), bias));
                     });
}

}  // namespace qkv
