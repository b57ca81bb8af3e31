#include "qkv/kernels/optimizer.h"

#include <cmath>

#include "qkv/kernels/table.h"

namespace qkv::kernels {
namespace {

void adamw(int64_t n, const AdamW& o, const float* g, float* w, float* m, float* v) noexcept {
  for (int64_t i = 0; i < n; ++i) {
    const float gi = o.grad_scale * g[i];
    m[i] = o.beta1 * m[i] + (1 - o.beta1) * gi;
    v[i] = o.beta2 * v[i] + (1 - o.beta2) * gi * gi;
    w[i] -= o.lr * (m[i] / o.bias1 / (std::sqrt(v[i] / o.bias2) + o.eps) + o.decay * w[i]);
  }
}

void sgd(int64_t n, const Sgd& o, const float* g, float* w, float* m) noexcept {
  for (int64_t i = 0; i < n; ++i) {
    const float gi = o.grad_scale * g[i] + o.decay * w[i];
    float direction = gi;
    if (m != nullptr) {
      m[i] = o.momentum * m[i] + gi;
      direction = o.nesterov ? gi + o.momentum * m[i] : m[i];
    }
    w[i] -= o.lr * direction;
  }
}

void lion(int64_t n, const Lion& o, const float* g, float* w, float* m) noexcept {
  for (int64_t i = 0; i < n; ++i) {
    const float gi = o.grad_scale * g[i];
    const float c = o.beta1 * m[i] + (1 - o.beta1) * gi;
    const float sign = static_cast<float>((c > 0) - (c < 0));
    w[i] -= o.lr * (sign + o.decay * w[i]);
    m[i] = o.beta2 * m[i] + (1 - o.beta2) * gi;
  }
}

double sum_squares(int64_t n, const float* x) noexcept {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += double{x[i]} * double{x[i]};
  return sum;
}

void axpy(int64_t n, float factor, const float* x, float* y) noexcept {
  for (int64_t i = 0; i < n; ++i) y[i] += factor * x[i];
}

void approach(int64_t n, float share, const float* x, float* y) noexcept {
  for (int64_t i = 0; i < n; ++i) y[i] += share * (x[i] - y[i]);
}

}  // namespace

void extend_optimizer_ref(Table& table) {
  table.optimizer = {.adamw = adamw,
                     .sgd = sgd,
                     .lion = lion,
                     .sum_squares = sum_squares,
                     .axpy = axpy,
                     .approach = approach};
}

}  // namespace qkv::kernels
