#pragma once

#include "qkv/train/optimizer.h"

namespace qkv {

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.01;

  template <class F>
  void each(F&& f) {
    f(beta1, "beta1", Range::kBelowOne, "how much of the mean gradient stays at a step");
    f(beta2, "beta2", Range::kBelowOne, "how much of the mean squared gradient stays at a step");
    f(eps, "eps", Range::kPositive, "added to the divisor");
    f(weight_decay, "weight_decay", Range::kNotNegative, "pull of matrices towards zero");
  }
};

/// Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019), arXiv:1711.05101, algorithm 2:
///   m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2
///   w = w - rate (m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay w)
/// weight_decay only where the parameter decays(): on matrices, not on biases and norms. One fused pass
/// (kernels/optimizer.h). State: m and v, 8 bytes a weight.
class AdamW : public Optimizer {
 public:
  AdamW(std::vector<ParameterPtr> parameters, const AdamWOptions& options, double clip_norm = 0);

 protected:
  void update(size_t i, const Update& u) override;

 private:
  struct Moments {
    Tensor first, second;
  };
  AdamWOptions options_;
  std::vector<Moments> moments_;
};

}  // namespace qkv
