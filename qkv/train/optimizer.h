#pragma once
// AdamW over a set of parameters, with clipping by the global norm.

#include <vector>

#include "qkv/autograd/parameter.h"

namespace qkv {

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.98,
         eps = 1e-9;        // Vaswani et al. 2017, section 5.3; in [0, 1), [0, 1), above 0
  double weight_decay = 0;  // at least 0; decoupled; on matrices only, not on biases and norms
  double clip_norm = 0;     // at least 0; the gradient is scaled down to this global norm; 0: never
};

/// Kingma and Ba 2015 (weight_decay 0), Loshchilov and Hutter 2019. Moments are f32, beside f32 masters; one
/// fused pass over memory. State for checkpoints: moments(), step().
class AdamW {
 public:
  /// Error kValue: an option out of its range.
  AdamW(std::vector<ParameterPtr> parameters, const AdamWOptions& options);

  /// sqrt of the sum of squares of all gradients, in double, in a fixed order. Not finite: do not step.
  double grad_norm() const;
  /// One update at learning rate `rate` from gradients whose norm is `norm`; then gradients are zero.
  void step(double rate, double norm);
  void zero_grad();

  int64_t steps() const { return steps_; }
  void set_steps(int64_t steps) { steps_ = steps; }
  struct Moments {
    Tensor first, second;
  };
  const std::vector<ParameterPtr>& parameters() const { return parameters_; }
  const std::vector<Moments>& moments() const { return moments_; }

 private:
  std::vector<ParameterPtr> parameters_;
  std::vector<Moments> moments_;
  AdamWOptions options_;
  int64_t steps_ = 0;
};

}  // namespace qkv
