#pragma once

#include "qkv/train/optimizer.h"

namespace qkv {

struct LambOptions {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-6, weight_decay = 0.01;

  template <class F>
  void each(F&& f) {
    f(beta1, "beta1", Range::kBelowOne, "how much of the mean gradient stays at a step");
    f(beta2, "beta2", Range::kBelowOne, "how much of the mean squared gradient stays at a step");
    f(eps, "eps", Range::kPositive, "added to the divisor");
    f(weight_decay, "weight_decay", Range::kNotNegative, "pull of matrices towards zero");
  }
};

/// You et al., "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes" (2020),
/// arXiv:1904.00962, algorithm 2, for each tensor with AdamW's m, v and bias corrections:
///   r = m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay w
///   w = w - rate (||w|| / ||r||) r,  the quotient 1 where one of the norms is 0
/// (phi of the paper is the identity.) Every tensor moves by the same share of its length, which is what lets
/// batches grow. Decay on what decays(). State: m and v, 8 bytes a weight, and one tensor of scratch.
class Lamb : public Optimizer {
 public:
  Lamb(std::vector<ParameterPtr> parameters, const LambOptions& options, double clip_norm = 0);

 protected:
  void update(size_t i, const Update& u) override;

 private:
  struct Moments {
    Tensor first, second;
  };
  LambOptions options_;
  std::vector<Moments> moments_;
};

}  // namespace qkv
