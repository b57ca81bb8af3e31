#pragma once
// The moving average of weights.

#include <vector>

#include "qkv/train/optimizer.h"

namespace qkv {

/// After update t, each tensor of the average comes nearer to the weights:
///   average = d average + (1 - d) w,  d = min(decay, (1 + t) / (10 + t))
/// The rise of d lets the untrained start fade at once (TensorFlow's ExponentialMovingAverage; Polyak and
/// Juditsky 1992 for averaging as such). f32; one fused pass; 4 bytes a weight.
class WeightEma {
 public:
  /// Begins at the parameters' values. Error kValue: decay is not in [0, 1).
  WeightEma(std::vector<ParameterPtr> parameters, double decay);

  void step(int64_t t);
  /// Begins again at the parameters' values.
  void restart();
  /// Writes the average into the parameters.
  void put_into_parameters() const;
  /// Under the parameters' names; a checkpoint writes into them.
  const std::vector<NamedTensor>& tensors() const { return tensors_; }

 private:
  std::vector<ParameterPtr> parameters_;
  std::vector<NamedTensor> tensors_;
  double decay_;
};

}  // namespace qkv
