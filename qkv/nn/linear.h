#pragma once

#include "qkv/autograd/ops/linear.h"
#include "qkv/nn/parameter_set.h"

namespace qkv {

/// y = activation(x W^T + b), parameters <name>.weight [d_out, d_in] (Xavier) and <name>.bias [d_out]
/// (zeros).
class Linear {
 public:
  Linear(ParameterSet& set, const std::string& name, int64_t d_in, int64_t d_out, double gain = 1)
      : weight_(set.for_products(set.xavier_uniform(name + ".weight", {d_out, d_in}, gain))),
        bias_(set.constant(name + ".bias", {d_out}, 0)) {}

  /// x [n, d_in] -> [n, d_out]
  Var operator()(const Var& x, Activation activation = Activation::kNone) const {
    return linear(x, weight_, bias_, activation);
  }

 private:
  ParameterPtr weight_, bias_;
};

}  // namespace qkv
