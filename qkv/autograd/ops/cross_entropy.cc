#include "qkv/autograd/ops/cross_entropy.h"

#include <algorithm>

#include "qkv/base/checked.h"
#include "qkv/base/parallel.h"
#include "qkv/kernels/table.h"

namespace qkv {
namespace {

// Memory for one block's logits. 8 MiB keeps 256 rows of an 8,192-word vocabulary, enough rows for an
// efficient product, in the L3.
constexpr int64_t kBlockBytes = int64_t{8} << 20;

template <class T>
void run(const Var& hidden, const ParameterPtr& weight, const ParameterPtr& bias,
         const std::vector<int32_t>& targets, double smoothing, double scale, bool differentiate,
         Tensor& dhidden, CrossEntropy& result) {
  using A = accumulator_t<T>;
  const int64_t n = hidden.size(0), vocab = weight->value().size(0);
  const int64_t block = std::clamp<int64_t>(
      kBlockBytes / std::max<int64_t>(1, vocab * static_cast<int64_t>(sizeof(A))) / 32 * 32, 32, 1024);
  const Tensor logits = Tensor::empty({std::min(block, n), vocab}, dtype_of<A>::value);
  const Tensor dlogits = differentiate ? Tensor::empty(logits.shape(), dtype_of<T>::value) : Tensor{};
  const auto kernel = kernels::table().of<T>().rows.cross_entropy;
  std::vector<A> loss(n), nll(n);
  for (int64_t begin = 0; begin < n; begin += block) {
    const int64_t rows = std::min(block, n - begin);
    const Tensor h = hidden.value().rows(begin, begin + rows);
    const Tensor z = logits.rows(0, rows);
    matmul(h, weight->packed_transposed(h.dtype()), z, {.bias = bias ? bias->value() : Tensor{}});
    parallel_for(rows, 4, [&](int64_t r0, int64_t r1) {
      for (int64_t r = r0; r < r1; ++r)
        loss[begin + r] = kernel(vocab, z.data<A>() + r * vocab, targets[begin + r],
                                 static_cast<A>(smoothing), static_cast<A>(scale),
                                 differentiate ? dlogits.data<T>() + r * vocab : nullptr, &nll[begin + r]);
    });
    if (differentiate) {
      const Tensor dz = dlogits.rows(0, rows);
      if (hidden.requires_grad()) matmul(dz, weight->packed(h.dtype()), dhidden.rows(begin, begin + rows));
      if (weight->trainable()) add_transposed_product(dz, h, weight->grad());
      if (bias && bias->trainable()) add_column_sum(dz, bias->grad());
    }
  }
  for (int64_t r = 0; r < n; ++r) {
    result.loss_sum += static_cast<double>(loss[r]);
    result.nll_sum += static_cast<double>(nll[r]);
  }
}

}  // namespace

CrossEntropy cross_entropy(const Var& hidden, const ParameterPtr& weight, const ParameterPtr& bias,
                           const std::vector<int32_t>& targets, double smoothing, double scale) {
  const int64_t n = hidden.size(0), vocab = weight->value().size(0);
  QKV_CHECK(static_cast<int64_t>(targets.size()) == n, kShape, "cross_entropy: {} rows but {} targets", n,
            targets.size());
  for (int32_t target : targets)
    QKV_CHECK(target >= 0 && target < vocab, kValue, "cross_entropy: target {} is outside the {} classes",
              target, vocab);
  const bool trainable = weight->trainable() || (bias && bias->trainable());
  const bool differentiate = grad_enabled() && (hidden.requires_grad() || trainable);

  CrossEntropy result{.loss = {}, .n = n};
  Tensor dhidden;
  if (differentiate && hidden.requires_grad())
    dhidden = Tensor::empty(hidden.value().shape(), hidden.dtype());
  kernels::visit_dtype(hidden.dtype(), [&]<class T>(T) {
    run<T>(hidden, weight, bias, targets, smoothing, scale, differentiate, dhidden, result);
  });
  const Tensor value = Tensor::full({1}, accumulator_dtype(hidden.dtype()), result.loss_sum * scale);
  result.loss = Var::result(value, hidden.requires_grad() || trainable, {hidden}, [=](const Tensor&) {
    if (dhidden.defined()) hidden.add_grad(dhidden);
  });
  return result;
}

}  // namespace qkv
