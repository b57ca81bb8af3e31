#pragma once

#include "qkv/train/optimizer.h"

namespace qkv {

struct SgdOptions {
  double momentum = 0.9;
  bool nesterov = false;
  double weight_decay = 0;

  template <class F>
  void each(F&& f) {
    f(momentum, "momentum", Range::kBelowOne, "how much of the last step's direction stays");
    f(nesterov, "nesterov", Range::kFlag, "look one step of the momentum ahead");
    f(weight_decay, "weight_decay", Range::kNotNegative, "pull of matrices towards zero");
  }
};

/// Stochastic gradient descent with momentum (Polyak 1964) or Nesterov's, as Sutskever et al., "On the
/// importance of initialization and momentum in deep learning" (ICML 2013) and torch.optim.SGD have it:
///   g' = g + weight_decay w,  m = momentum m + g'
///   w = w - rate (nesterov ? g' + momentum m : m)
/// weight_decay is an L2 penalty here, part of the gradient, on what decays(). One fused pass. State: m, 4
/// bytes a weight; none with momentum 0. Error kValue: nesterov without momentum.
class Sgd : public Optimizer {
 public:
  Sgd(std::vector<ParameterPtr> parameters, const SgdOptions& options, double clip_norm = 0);

 protected:
  void update(size_t i, const Update& u) override;

 private:
  SgdOptions options_;
  std::vector<Tensor> momenta_;
};

}  // namespace qkv
