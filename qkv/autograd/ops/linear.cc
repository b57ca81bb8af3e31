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

bool trains(const ParameterPtr& weight, const ParameterPtr& bias) {
  return weight->trainable() || (bias && bias->trainable());
}

LinearStep linear_forward(const Tensor& x, const ParameterPtr& weight, const ParameterPtr& bias,
                          Activation activation, bool keep, const Tensor& residual) {
  QKV_CHECK(x.rank() == 2 && x.size(1) == weight->shape()[1], kShape, "linear: {} takes rows of {}, got {}",
            weight->name(), weight->shape()[1], x.shape().str());
  LinearStep step{.out = Tensor::empty({x.size(0), weight->shape()[0]}, x.dtype()), .kept = {}};
  MatmulOptions options;
  if (bias) options.bias = bias->value();
  options.activation = activation;
  options.residual = residual;
  if (keep && activation != Activation::kNone) {
    const bool from_output = activation == Activation::kRelu || activation == Activation::kTanh;
    step.kept = from_output ? step.out : Tensor::empty(step.out.shape(), step.out.dtype());
    if (!from_output) options.pre_activation = step.kept;
  }
  matmul(x, weight->packed_transposed(x.dtype()), step.out, options);
  return step;
}

void linear_backward(const Tensor& dy, const Var& x, const ParameterPtr& weight, const ParameterPtr& bias) {
  if (x.requires_grad()) {
    const Tensor dx = Tensor::empty(x.value().shape(), x.dtype());
    matmul(dy, weight->packed(dy.dtype()), dx);
    x.add_grad(dx);
  }
  weight->add_linear_grads(dy, x.value(), bias);
}

Var linear(const Var& x, const ParameterPtr& weight, const ParameterPtr& bias, Activation activation,
           const Var& residual) {
  const trace::Span span("linear", trace::Kind::kOp);
  span.note([&] { return weight->name(); });
  QKV_CHECK(!residual.defined() || activation == Activation::kNone, kUnsupported,
            "linear: {} has an activation, and cannot take a residual", weight->name());
  const bool differentiable = x.requires_grad() || residual.requires_grad() || trains(weight, bias);
  const LinearStep step =
      linear_forward(x.value(), weight, bias, activation, grad_enabled() && differentiable,
                     residual.defined() ? residual.value().contiguous() : Tensor{});
  std::vector<Var> inputs = {x};
  if (residual.defined()) inputs.push_back(residual);
  return Var::result(step.out, differentiable, std::move(inputs), [=, kept = step.kept](const Tensor& grad) {
    Tensor dy = grad.contiguous();
    if (residual.requires_grad()) residual.add_grad(dy);
    if (kept.defined()) dy = through_activation(dy, activation, kept);
    linear_backward(dy, x, weight, bias);
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
  return Var::result(
      out, x.requires_grad() || weight.parameter->trainable() || trains_bias, {x}, [=](const Tensor& grad) {
        const Tensor dy = grad.contiguous();
        if (x.requires_grad()) {
          const Tensor dx = Tensor::empty(x.value().shape(), x.dtype());
          matmul(dy, pack_matrix(w, dy.dtype()), dx);
          x.add_grad(dx);
        }
        const Tensor sum = trains_bias ? rows_of(bias.parameter->grad(), bias) : Tensor{};
        if (weight.parameter->trainable())
          add_transposed_product(dy, x.value(), rows_of(weight.parameter->grad(), weight), sum);
        else if (trains_bias)
          add_column_sum(dy, sum);
      });
}

}  // namespace qkv
