// The definition of every entry of RowKernels, for every T: one plain loop after another, sums in order.

#include "qkv/kernels/rows.h"

#include <cmath>
#include <limits>

#include "qkv/kernels/ref/activation.h"
#include "qkv/kernels/table.h"

namespace qkv::kernels {
namespace {

template <class T>
struct Rows {
  using A = accumulator_t<T>;

  static void layer_norm(int64_t rows, int64_t d, const T* x, const A* gamma, const A* beta, A eps, T* y,
                         A* mean, A* rstd) noexcept {
    for (int64_t r = 0; r < rows; ++r, x += d, y += d) {
      A sum = 0;
      for (int64_t i = 0; i < d; ++i) sum += A(x[i]);
      const A m = sum / A(d);
      A squares = 0;
      for (int64_t i = 0; i < d; ++i) squares += (A(x[i]) - m) * (A(x[i]) - m);
      const A s = 1 / std::sqrt(squares / A(d) + eps);
      for (int64_t i = 0; i < d; ++i) y[i] = T((A(x[i]) - m) * s * gamma[i] + beta[i]);
      mean[r] = m;
      rstd[r] = s;
    }
  }

  // With g = dy gamma and xhat = (x - mean) rstd:  dx = rstd (g - mean(g) - xhat mean(g xhat)).
  static void layer_norm_backward(int64_t rows, int64_t d, const T* dy, const T* x, const A* gamma,
                                  const A* mean, const A* rstd, T* dx, A* dgamma, A* dbeta) noexcept {
    for (int64_t r = 0; r < rows; ++r, x += d, dy += d, dx += d) {
      A sum_g = 0, sum_gx = 0;
      for (int64_t i = 0; i < d; ++i) {
        const A xhat = (A(x[i]) - mean[r]) * rstd[r], g = A(dy[i]) * gamma[i];
        sum_g += g;
        sum_gx += g * xhat;
      }
      for (int64_t i = 0; i < d; ++i) {
        const A xhat = (A(x[i]) - mean[r]) * rstd[r], g = A(dy[i]) * gamma[i];
        dgamma[i] += A(dy[i]) * xhat;
        dbeta[i] += A(dy[i]);
        dx[i] = T(rstd[r] * (g - sum_g / A(d) - xhat * (sum_gx / A(d))));
      }
    }
  }

  static void rms_norm(int64_t rows, int64_t d, const T* x, const A* gamma, A eps, T* y, A* rstd) noexcept {
    for (int64_t r = 0; r < rows; ++r, x += d, y += d) {
      A squares = 0;
      for (int64_t i = 0; i < d; ++i) squares += A(x[i]) * A(x[i]);
      const A s = 1 / std::sqrt(squares / A(d) + eps);
      for (int64_t i = 0; i < d; ++i) y[i] = T(A(x[i]) * s * gamma[i]);
      rstd[r] = s;
    }
  }

  static void rms_norm_backward(int64_t rows, int64_t d, const T* dy, const T* x, const A* gamma,
                                const A* rstd, T* dx, A* dgamma) noexcept {
    for (int64_t r = 0; r < rows; ++r, x += d, dy += d, dx += d) {
      A sum_gx = 0;
      for (int64_t i = 0; i < d; ++i) sum_gx += A(dy[i]) * gamma[i] * (A(x[i]) * rstd[r]);
      for (int64_t i = 0; i < d; ++i) {
        const A xhat = A(x[i]) * rstd[r], g = A(dy[i]) * gamma[i];
        dgamma[i] += A(dy[i]) * xhat;
        dx[i] = T(rstd[r] * (g - xhat * (sum_gx / A(d))));
      }
    }
  }

  static void softmax(int64_t rows, int64_t d, const T* x, T* y) noexcept {
    constexpr A kNone = -std::numeric_limits<A>::infinity();
    for (int64_t r = 0; r < rows; ++r, x += d, y += d) {
      A max = kNone;
      for (int64_t i = 0; i < d; ++i) max = A(x[i]) > max ? A(x[i]) : max;
      if (max == kNone) max = 0;  // nothing but -inf: then every exp is 0, not exp(-inf + inf) = NaN
      A sum = 0;
      for (int64_t i = 0; i < d; ++i) sum += std::exp(A(x[i]) - max);
      const A factor = sum == 0 ? 0 : 1 / sum;
      for (int64_t i = 0; i < d; ++i) y[i] = T(std::exp(A(x[i]) - max) * factor);
    }
  }

  static void softmax_backward(int64_t rows, int64_t d, const T* dy, const T* y, T* dx) noexcept {
    for (int64_t r = 0; r < rows; ++r, dy += d, y += d, dx += d) {
      A sum = 0;
      for (int64_t i = 0; i < d; ++i) sum += A(dy[i]) * A(y[i]);
      for (int64_t i = 0; i < d; ++i) dx[i] = T(A(y[i]) * (A(dy[i]) - sum));
    }
  }

  // -log softmax_c = log(sum) - (x_c - max): everything is relative to the maximum, so large logits lose
  // nothing.
  static A cross_entropy(int64_t n, const A* logits, int64_t target, A smoothing, A scale, T* dlogits,
                         A* nll) noexcept {
    A max = -std::numeric_limits<A>::infinity();
    for (int64_t c = 0; c < n; ++c) max = logits[c] > max ? logits[c] : max;
    A sum = 0, sum_shifted = 0;
    for (int64_t c = 0; c < n; ++c) {
      sum += std::exp(logits[c] - max);
      sum_shifted += logits[c] - max;
    }
    const A log_sum = std::log(sum);
    *nll = log_sum - (logits[target] - max);
    if (dlogits) {
      const A each = smoothing / A(n);
      for (int64_t c = 0; c < n; ++c) {
        const A q = c == target ? (1 - smoothing) + each : each;
        dlogits[c] = T(scale * (std::exp(logits[c] - max) / sum - q));
      }
    }
    if (smoothing == 0) return *nll;  // 0 * infinity is NaN: a class that is masked out costs nothing here
    return (1 - smoothing) * *nll + smoothing * (log_sum - sum_shifted / A(n));
  }

  static void gather(int64_t rows, int64_t d, const A* table, const int32_t* ids, A scale, const A* plus,
                     const int32_t* plus_rows, T* y) noexcept {
    for (int64_t r = 0; r < rows; ++r, y += d) {
      const A* from = table + int64_t{ids[r]} * d;
      const A* more = plus ? plus + int64_t{plus_rows[r]} * d : nullptr;
      for (int64_t i = 0; i < d; ++i) y[i] = T(scale * from[i] + (more ? more[i] : 0));
    }
  }

  static void scatter_add(int64_t rows, int64_t d, int64_t d_begin, int64_t d_end, const T* dy,
                          const int32_t* ids, A scale, A* dtable) noexcept {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t i = d_begin; i < d_end; ++i) dtable[int64_t{ids[r]} * d + i] += scale * A(dy[r * d + i]);
  }

  // The product is rounded before the sum (no fma), in every family, so that all give the same bits.
  static void dropout_add(int64_t n, int64_t first, const T* x, const T* residual, const Dropout& dropout,
                          T* y) noexcept {
    const A scale = A(dropout.scale());
    for (int64_t i = 0; i < n; ++i) {
      const uint64_t place = static_cast<uint64_t>(first + i), g = place / 128, e = place % 128;
      const uint32_t word = random_block(dropout.key, 16 * g + (e % 32) / 2)[e / 32];
      const uint32_t bits = e % 2 ? word >> 16 : word & 0xffff;
      const A kept = bits >= dropout.threshold ? A(x[i]) * scale : 0;
      y[i] = T(residual ? A(residual[i]) + kept : kept);
    }
  }

  static void add(int64_t n, const T* a, const T* b, T* y) noexcept {
    for (int64_t i = 0; i < n; ++i) y[i] = T(A(a[i]) + A(b[i]));
  }
  static void scale(int64_t n, A factor, const T* x, T* y) noexcept {
    for (int64_t i = 0; i < n; ++i) y[i] = T(factor * A(x[i]));
  }
  static void multiply(int64_t n, const T* a, const T* b, T* y) noexcept {
    for (int64_t i = 0; i < n; ++i) y[i] = T(A(a[i]) * A(b[i]));
  }

  static void activation(int64_t n, Activation f, const T* x, T* y) noexcept {
    for (int64_t i = 0; i < n; ++i) y[i] = T(ref::activate(f, A(x[i])));
  }
  static void activation_backward(int64_t n, Activation f, const T* dy, const T* pre, T* dx) noexcept {
    for (int64_t i = 0; i < n; ++i) dx[i] = T(A(dy[i]) * ref::derivative(f, A(pre[i])));
  }

  static void column_sum(int64_t rows, int64_t cols, const T* x, int64_t ld, A* out) noexcept {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < cols; ++c) out[c] += A(x[r * ld + c]);
  }

  static void from_acc(int64_t n, const A* x, T* y) noexcept {
    for (int64_t i = 0; i < n; ++i) y[i] = T(x[i]);
  }
  static void to_acc(int64_t n, const T* x, A* y) noexcept {
    for (int64_t i = 0; i < n; ++i) y[i] = A(x[i]);
  }

  static void put(RowKernels<T>& k) {
    k = {.layer_norm = layer_norm,
         .layer_norm_backward = layer_norm_backward,
         .rms_norm = rms_norm,
         .rms_norm_backward = rms_norm_backward,
         .softmax = softmax,
         .softmax_backward = softmax_backward,
         .cross_entropy = cross_entropy,
         .gather = gather,
         .scatter_add = scatter_add,
         .dropout_add = dropout_add,
         .add = add,
         .scale = scale,
         .multiply = multiply,
         .activation = activation,
         .activation_backward = activation_backward,
         .column_sum = column_sum,
         .from_acc = from_acc,
         .to_acc = to_acc};
  }
};

}  // namespace

void extend_rows_ref(Table& table) {
  Rows<double>::put(table.f64.rows);
  Rows<float>::put(table.f32.rows);
  Rows<bfloat16>::put(table.bf16.rows);
}

}  // namespace qkv::kernels
