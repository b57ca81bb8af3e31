#include "qkv/autograd/ops/cross_entropy.h"

#include <algorithm>

#include "qkv/base/checked.h"
#include "qkv/base/parallel.h"
#include "qkv/base/trace.h"
#include "qkv/kernels/table.h"

namespace qkv {
namespace {

// Rows of a block: as many as have their logits in the L3, and 256 where that is fewer, for each block reads
// the packed weight twice and its gradient once, and writes that; but no more than kMostBytes of logits.
constexpr int64_t kL3Bytes = int64_t{8} << 20, kMostBytes = int64_t{64} << 20, kGoodRows = 256;
int64_t rows_of_block(int64_t row_bytes) {
  const int64_t rows = std::max(kL3Bytes / row_bytes, std::min(kGoodRows, kMostBytes / row_bytes));
  return std::clamp<int64_t>(rows / 32 * 32, 32, 1024);
}

// alpha / 4 (KL(P || Q) + KL(Q || P)) of two rows of logits, whose log of the sum of exponentials is known;
// where dz are given, scale times its gradient is added to them. p and q are scratch for the distributions.
template <class T>
double add_divergence(int64_t vocab, const accumulator_t<T>* zp, const accumulator_t<T>* zq, double lse_p,
                      double lse_q, double alpha, double scale, T* dzp, T* dzq, accumulator_t<T>* p,
                      accumulator_t<T>* q) {
  using A = accumulator_t<T>;
  const auto softmax = kernels::table().of<A>().rows.softmax;
  softmax(1, vocab, zp, p);
  softmax(1, vocab, zq, q);
  const A shift = static_cast<A>(lse_q - lse_p);
  const auto log_ratio = [&](int64_t c) { return zp[c] - zq[c] + shift; };  // log P / Q
  double kl_pq = 0, kl_qp = 0;
  for (int64_t c = 0; c < vocab; ++c) {
    kl_pq += static_cast<double>(p[c] * log_ratio(c));
    kl_qp -= static_cast<double>(q[c] * log_ratio(c));
  }
  if (dzp != nullptr) {
    const A w = static_cast<A>(scale * alpha / 4), a = static_cast<A>(kl_pq), b = static_cast<A>(kl_qp);
    for (int64_t c = 0; c < vocab; ++c) {
      dzp[c] = T(A(dzp[c]) + w * (p[c] * (log_ratio(c) - a) + p[c] - q[c]));
      dzq[c] = T(A(dzq[c]) + w * (q[c] * (-log_ratio(c) - b) + q[c] - p[c]));
    }
  }
  return alpha / 4 * (kl_pq + kl_qp);
}

// What one pass through the model leaves of a loss.
struct Side {
  Var hidden;
  Tensor dhidden;           // where it is wanted
  Tensor logits, dlogits;   // of a block of rows
  std::vector<double> nll;  // a row
};

// The loss of one side, or R-Drop's of two.
template <class T>
void run(std::vector<Side>& sides, const ParameterPtr& weight, const ParameterPtr& bias,
         const std::vector<int32_t>& targets, double smoothing, double alpha, double scale,
         bool differentiate, CrossEntropy& result) {
  using A = accumulator_t<T>;
  const int64_t n = result.n, vocab = weight->value().size(0);
  const int64_t block = rows_of_block(std::max<int64_t>(1, vocab) * static_cast<int64_t>(sizeof(A)));
  const double share = 1 / static_cast<double>(sides.size());
  for (Side& side : sides) {
    side.logits = Tensor::empty({std::min(block, n), vocab}, dtype_of<A>::value);
    if (differentiate) side.dlogits = Tensor::empty(side.logits.shape(), dtype_of<T>::value);
    side.nll.resize(static_cast<size_t>(n));
  }
  const auto kernel = kernels::table().of<T>().rows.cross_entropy;
  std::vector<double> loss(static_cast<size_t>(n));
  for (int64_t begin = 0; begin < n; begin += block) {
    const int64_t rows = std::min(block, n - begin);
    for (const Side& side : sides) {
      const Tensor h = side.hidden.value().rows(begin, begin + rows);
      matmul(h, weight->packed_transposed(h.dtype()), side.logits.rows(0, rows),
             {.bias = bias ? bias->value() : Tensor{}});
    }
    parallel_for(rows, 4, [&](int64_t r0, int64_t r1) {
      std::vector<A> p(sides.size() == 2 ? vocab : 0), q(p.size());
      for (int64_t r = r0; r < r1; ++r) {
        const int32_t target = targets[begin + r];
        const auto logits = [&](const Side& side) { return side.logits.data<A>() + r * vocab; };
        const auto dlogits = [&](const Side& side) {
          return differentiate ? side.dlogits.data<T>() + r * vocab : nullptr;
        };
        for (Side& side : sides) {
          A nll = 0;
          loss[begin + r] +=
              share * static_cast<double>(kernel(vocab, logits(side), target, static_cast<A>(smoothing),
                                                 static_cast<A>(scale * share), dlogits(side), &nll));
          side.nll[begin + r] = static_cast<double>(nll);
        }
        if (sides.size() == 2 && alpha > 0) {
          const Side &one = sides[0], &two = sides[1];
          const auto lse = [&](const Side& side) {
            return side.nll[begin + r] + static_cast<double>(logits(side)[target]);
          };
          loss[begin + r] += add_divergence<T>(vocab, logits(one), logits(two), lse(one), lse(two), alpha,
                                               scale, dlogits(one), dlogits(two), p.data(), q.data());
        }
      }
    });
    if (!differentiate) continue;
    for (const Side& side : sides) {
      const Tensor dz = side.dlogits.rows(0, rows), h = side.hidden.value().rows(begin, begin + rows);
      if (side.dhidden.defined())
        matmul(dz, weight->packed(h.dtype()), side.dhidden.rows(begin, begin + rows));
      weight->add_linear_grads(dz, h, bias);
    }
  }
  for (double row : loss) result.loss_sum += row;
  for (const Side& side : sides)
    for (double row : side.nll) result.nll_sum += share * row;
}

CrossEntropy compute(const std::vector<Var>& hidden, const ParameterPtr& weight, const ParameterPtr& bias,
                     const std::vector<int32_t>& targets, double smoothing, double alpha, double scale) {
  const trace::Span span("cross_entropy", trace::Kind::kOp);
  const int64_t n = hidden[0].size(0), vocab = weight->value().size(0);
  QKV_CHECK(static_cast<int64_t>(targets.size()) == n, kShape, "cross_entropy: {} rows but {} targets", n,
            targets.size());
  for (int32_t target : targets)
    QKV_CHECK(target >= 0 && target < vocab, kValue, "cross_entropy: target {} is outside the {} classes",
              target, vocab);
  bool requires_grad = weight->trainable() || (bias && bias->trainable());
  for (const Var& h : hidden) requires_grad |= h.requires_grad();
  const bool differentiate = grad_enabled() && requires_grad;

  CrossEntropy result{.loss = {}, .n = n};
  std::vector<Side> sides;
  for (const Var& h : hidden) {
    sides.push_back({.hidden = h, .dhidden = {}, .logits = {}, .dlogits = {}, .nll = {}});
    if (differentiate && h.requires_grad())
      sides.back().dhidden = Tensor::empty(h.value().shape(), h.dtype());
  }
  kernels::visit_dtype(hidden[0].dtype(), [&]<class T>(T) {
    run<T>(sides, weight, bias, targets, smoothing, alpha, scale, differentiate, result);
  });
  std::vector<std::pair<Var, Tensor>> waiting;
  for (const Side& side : sides)
    if (side.dhidden.defined()) waiting.emplace_back(side.hidden, side.dhidden);
  const Tensor value = Tensor::full({1}, accumulator_dtype(hidden[0].dtype()), result.loss_sum * scale);
  result.loss = Var::result(value, requires_grad, hidden, [waiting](const Tensor&) {
    for (const auto& [h, dh] : waiting) h.add_grad(dh);
  });
  return result;
}

}  // namespace

CrossEntropy cross_entropy(const Var& hidden, const ParameterPtr& weight, const ParameterPtr& bias,
                           const std::vector<int32_t>& targets, double smoothing, double scale) {
  return compute({hidden}, weight, bias, targets, smoothing, 0, scale);
}

CrossEntropy r_drop(const Var& first, const Var& second, const ParameterPtr& weight, const ParameterPtr& bias,
                    const std::vector<int32_t>& targets, double smoothing, double alpha, double scale) {
  QKV_CHECK(first.value().shape() == second.value().shape() && first.dtype() == second.dtype(), kShape,
            "r_drop: {} {} and {} {} are not two passes of the same rows", first.value().shape().str(),
            name(first.dtype()), second.value().shape().str(), name(second.dtype()));
  QKV_CHECK(alpha >= 0, kValue, "r_drop: alpha is {}, needs to be at least 0", alpha);
  return compute({first, second}, weight, bias, targets, smoothing, alpha, scale);
}

}  // namespace qkv
