#pragma once

#include "qkv/train/optimizers/adamw.h"

namespace qkv {

/// The second beta and eps are those of the Transformer (Vaswani et al. 2017, section 5.3); Kingma and Ba
/// suggest 0.999 and 1e-8.
struct AdamOptions {
  double beta1 = 0.9, beta2 = 0.98, eps = 1e-9;

  template <class F>
  void each(F&& f) {
    f(beta1, "beta1", Range::kBelowOne, "how much of the mean gradient stays at a step");
    f(beta2, "beta2", Range::kBelowOne, "how much of the mean squared gradient stays at a step");
    f(eps, "eps", Range::kPositive, "added to the divisor");
  }
};

/// Kingma and Ba, "Adam" (2015), arXiv:1412.6980, algorithm 1: AdamW without decay.
class Adam : public AdamW {
 public:
  Adam(std::vector<ParameterPtr> parameters, const AdamOptions& o, double clip_norm = 0)
      : AdamW(std::move(parameters), {.beta1 = o.beta1, .beta2 = o.beta2, .eps = o.eps, .weight_decay = 0},
              clip_norm) {}
};

}  // namespace qkv
