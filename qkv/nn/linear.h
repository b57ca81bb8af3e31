#pragma once

#include <numeric>
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
      : parameters_{set.for_products(set.xavier_uniform(name + ".weight", {d_out, d_in}, gain)),
                    set.constant(name + ".bias", {d_out}, 0)} {}

  /// x [n, d_in] -> [n, d_out]
  Var operator()(const Var& x, Activation activation = Activation::kNone) const {
    return linear(x, parameters_.weight, parameters_.bias, activation);
  }
  /// residual + x W^T + b; without a residual where it is undefined.
  Var onto(const Var& residual, const Var& x) const {
    return linear(x, parameters_.weight, parameters_.bias, Activation::kNone, residual);
  }

  const LinearParameters& parameters() const { return parameters_; }

 private:
  LinearParameters parameters_;
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
    return split(linear(x, weight_, bias_), 0, widths_.size());
  }

  /// Of parts `first` to `last` - 1 alone; packs their weights at every call.
  std::vector<Var> some(const Var& x, size_t first, size_t last) const {
    if (!weight_->has_value()) {  // packed as a whole for running
      const std::vector<Var> all = (*this)(x);
      return {all.begin() + static_cast<int64_t>(first), all.begin() + static_cast<int64_t>(last)};
    }
    const auto begin = std::accumulate(widths_.begin(), widths_.begin() + static_cast<int64_t>(first),
                                       int64_t{0}),
               end =
                   std::accumulate(widths_.begin(), widths_.begin() + static_cast<int64_t>(last), int64_t{0});
    return split(linear(x, ParameterRows{weight_, begin, end}, ParameterRows{bias_, begin, end}), first,
                 last);
  }

 private:
  std::vector<Var> split(const Var& y, size_t first, size_t last) const {
    if (last - first == 1) return {y};
    return split_columns(
        y, {widths_.begin() + static_cast<int64_t>(first), widths_.begin() + static_cast<int64_t>(last)});
  }

  ParameterPtr weight_, bias_;
  std::vector<int64_t> widths_;
};

}  // namespace qkv
