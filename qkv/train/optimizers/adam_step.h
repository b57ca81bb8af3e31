#pragma once
// Adam's fused pass over one tensor, for the optimizers that are or contain it.

#include <cmath>

#include "qkv/kernels/table.h"
#include "qkv/train/optimizers/arithmetic.h"

namespace qkv {

/// The kernel's numbers for step t, without decay.
inline kernels::AdamW adam_kernel(double beta1, double beta2, double eps, double rate, double grad_scale,
                                  int64_t t) {
  const auto corrected = [t](double beta) {
    return static_cast<float>(1 - std::pow(beta, static_cast<double>(t)));
  };
  return {.lr = static_cast<float>(rate),
          .beta1 = static_cast<float>(beta1),
          .beta2 = static_cast<float>(beta2),
          .eps = static_cast<float>(eps),
          .decay = 0,
          .bias1 = corrected(beta1),
          .bias2 = corrected(beta2),
          .grad_scale = static_cast<float>(grad_scale)};
}

inline void adam_step(const kernels::AdamW& k, const Tensor& g, const Tensor& w, const Tensor& m,
                      const Tensor& v) {
  each_piece(w, [&](int64_t begin, int64_t end) {
    kernels::table().optimizer.adamw(end - begin, k, g.data<float>() + begin, w.data<float>() + begin,
                                     m.data<float>() + begin, v.data<float>() + begin);
  });
}

/// Adam's direction m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps) as a tensor of its own: one step of
/// rate -1 from zero.
inline Tensor adam_direction(kernels::AdamW k, const Tensor& g, const Tensor& m, const Tensor& v) {
  const Tensor direction = Tensor::zeros(g.shape(), DType::kF32);
  k.lr = -1;
  adam_step(k, g, direction, m, v);
  return direction;
}

}  // namespace qkv
