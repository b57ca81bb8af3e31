#include "qkv/autograd/ops/feed_forward.h"

#include "qkv/base/trace.h"

namespace qkv {

Var feed_forward(const Var& x, const LinearParameters& in, Activation activation, const LinearParameters& out,
                 const Var& residual) {
  const trace::Span span("feed_forward", trace::Kind::kOp);
  span.note([&] { return in.weight->name(); });
  const bool trains_in = x.requires_grad() || trains(in.weight, in.bias),
             differentiable = trains_in || residual.requires_grad() || trains(out.weight, out.bias),
             keep = grad_enabled() && differentiable;
  const LinearStep hidden = linear_forward(x.value(), in.weight, in.bias, activation, keep && trains_in);
  const Tensor y = linear_forward(hidden.out, out.weight, out.bias, Activation::kNone, false,
                                  residual.defined() ? residual.value().contiguous() : Tensor{})
                       .out;
  std::vector<Var> inputs = {x};
  if (residual.defined()) inputs.push_back(residual);
  return Var::result(y, differentiable, std::move(inputs), [=](const Tensor& grad) {
    const Tensor dy = grad.contiguous();
    if (residual.requires_grad()) residual.add_grad(dy);
    out.weight->add_linear_grads(dy, hidden.out, out.bias);
    if (!trains_in) return;
    const Tensor dhidden = Tensor::empty(hidden.out.shape(), dy.dtype());
    MatmulOptions options;
    if (hidden.kept.defined()) {
      options.activation = activation;
      options.derivative_at = hidden.kept;
    }
    matmul(dy, out.weight->packed(dy.dtype()), dhidden, options);
    linear_backward(dhidden, x, in.weight, in.bias);
  });
}

}  // namespace qkv
