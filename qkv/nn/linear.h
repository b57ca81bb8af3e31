#pragma once

#include <string>
#include <utility>
#include <vector>

#include "qkv/autograd/ops/linear.h"
#include "qkv/autograd/ops/split.h"
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

/// Linear layers that read the same rows, as one product: [y_1 | y_2 | ...] = x [W_1; W_2; ...]^T + b, with
/// the parameters of a Linear each. Fewer, larger products; x is read once, and its gradient is one sum.
class StackedLinear {
 public:
  struct Part {
    std::string name;
    int64_t d_out = 0;
  };

  StackedLinear(ParameterSet& set, const std::vector<Part>& parts, int64_t d_in, double gain = 1) {
    std::vector<ParameterPtr> weights, biases;
    for (const Part& part : parts) {
      weights.push_back(set.xavier_uniform(part.name + ".weight", {part.d_out, d_in}, gain));
      biases.push_back(set.constant(part.name + ".bias", {part.d_out}, 0));
      widths_.push_back(part.d_out);
    }
    weight_ = set.for_products(weights);
    bias_ = Parameter::stack(biases);
  }

  /// x [n, d_in] -> [n, d_out] of each part, in order: columns of one matrix.
  std::vector<Var> operator()(const Var& x) const {
    const Var y = linear(x, weight_, bias_);
    return widths_.size() == 1 ? std::vector{y} : split_columns(y, widths_);
  }

 private:
  ParameterPtr weight_, bias_;
  std::vector<int64_t> widths_;
};

}  // namespace qkv
