#include "qkv/attention/scores/head_linear.h"

#include "qkv/base/trace.h"

namespace qkv {
namespace {

Tensor matrix_of(const Tensor& stack, int64_t h) {
  return stack.slice(0, h, h + 1).reshape({stack.size(1), stack.size(2)});
}
Tensor columns_of(const Tensor& x, int64_t h, int64_t d) { return x.columns(h * d, (h + 1) * d); }

}  // namespace

Var head_linear(const Var& x, const ParameterPtr& weight, const ParameterPtr& bias) {
  const trace::Span span("head_linear", trace::Kind::kOp);
  const int64_t n_heads = weight->value().size(0), d_in = weight->value().size(1),
                d_out = weight->value().size(2);
  QKV_CHECK(x.size(1) == n_heads * d_in, kShape, "{}: takes {} heads x {} columns, got {}", weight->name(),
            n_heads, d_in, x.size(1));
  const Tensor y = Tensor::empty({x.size(0), n_heads * d_out}, x.dtype());
  for (int64_t h = 0; h < n_heads; ++h) {
    MatmulOptions options;
    if (bias) options.bias = bias->value().slice(0, h, h + 1).reshape({d_out});
    matmul(columns_of(x.value(), h, d_in), pack_matrix(matrix_of(weight->value(), h), x.dtype()),
           columns_of(y, h, d_out), options);
  }
  const bool differentiable = x.requires_grad() || weight->trainable() || (bias && bias->trainable());
  return Var::result(y, differentiable, {x}, [=](const Tensor& any_dy) {
    const Tensor dy = any_dy.contiguous();
    const Tensor dx = x.requires_grad() ? Tensor::empty(x.value().shape(), x.dtype()) : Tensor();
    for (int64_t h = 0; h < n_heads; ++h) {
      const Tensor x_h = columns_of(x.value(), h, d_in), dy_h = columns_of(dy, h, d_out);
      if (weight->trainable()) add_transposed_product(x_h, dy_h, matrix_of(weight->grad(), h));
      if (bias && bias->trainable()) add_column_sum(dy_h, bias->grad().slice(0, h, h + 1).reshape({d_out}));
      if (dx.defined())
        matmul(dy_h, pack_matrix(matrix_of(weight->value(), h).transpose(0, 1), x.dtype()),
               columns_of(dx, h, d_in));
    }
    if (dx.defined()) x.add_grad(dx);
  });
}

}  // namespace qkv
