#pragma once

#include "qkv/train/optimizer.h"

namespace qkv {

struct LionOptions {
  double beta1 = 0.9, beta2 = 0.99, weight_decay = 0;

  template <class F>
  void each(F&& f) {
    f(beta1, "beta1", Range::kBelowOne, "share of the memory in the step");
    f(beta2, "beta2", Range::kBelowOne, "how much of the memory stays at a step");
    f(weight_decay, "weight_decay", Range::kNotNegative, "pull of matrices towards zero");
  }
};

/// Chen et al., "Symbolic Discovery of Optimization Algorithms" (2023), arXiv:2302.06675, program 1:
///   w = w - rate (sign(beta1 m + (1 - beta1) g) + weight_decay w),  m = beta2 m + (1 - beta2) g
/// Every weight moves by the rate itself, so the paper wants a rate 3 to 10 times lower than AdamW's, and a
/// decay as many times higher. Decay on what decays(). One fused pass. State: m, 4 bytes a weight.
class Lion : public Optimizer {
 public:
  Lion(std::vector<ParameterPtr> parameters, const LionOptions& options, double clip_norm = 0);

 protected:
  void update(size_t i, const Update& u) override;

 private:
  LionOptions options_;
  std::vector<Tensor> momenta_;
};

}  // namespace qkv
