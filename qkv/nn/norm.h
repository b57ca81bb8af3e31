#pragma once

#include "qkv/autograd/ops/norm.h"
#include "qkv/nn/parameter_set.h"

namespace qkv {

/// Layer normalisation with parameters <name>.weight (ones) and <name>.bias (zeros), each [d].
class LayerNorm {
 public:
  LayerNorm(ParameterSet& set, const std::string& name, int64_t d, double eps = 1e-5)
      : gamma_(set.constant(name + ".weight", {d}, 1)),
        beta_(set.constant(name + ".bias", {d}, 0)),
        eps_(eps) {}
  Var operator()(const Var& x) const { return layer_norm(x, gamma_, beta_, eps_); }

 private:
  ParameterPtr gamma_, beta_;
  double eps_;
};

/// RMS normalisation with parameter <name>.weight (ones) [d].
class RmsNorm {
 public:
  RmsNorm(ParameterSet& set, const std::string& name, int64_t d, double eps = 1e-6)
      : gamma_(set.constant(name + ".weight", {d}, 1)), eps_(eps) {}
  Var operator()(const Var& x) const { return rms_norm(x, gamma_, eps_); }

 private:
  ParameterPtr gamma_;
  double eps_;
};

}  // namespace qkv
