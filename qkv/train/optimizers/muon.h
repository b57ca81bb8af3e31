#pragma once

#include "qkv/train/optimizers/adamw.h"

namespace qkv {

struct MuonOptions {
  double momentum = 0.95;
  bool nesterov = true;
  double weight_decay = 0;
  int64_t newton_steps = 5;
  double adam_rate = 0.015;
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-10;

  template <class F>
  void each(F&& f) {
    f(momentum, "momentum", Range::kBelowOne, "how much of the last step's direction stays");
    f(nesterov, "nesterov", Range::kFlag, "look one step of the momentum ahead");
    f(weight_decay, "weight_decay", Range::kNotNegative, "pull of matrices towards zero");
    f(newton_steps, "newton_steps", Range::kCount, "of Newton and Schulz");
    f(adam_rate, "adam_rate", Range::kNotNegative, "rate of what AdamW steps, as a share of the matrices'");
    f(beta1, "beta1", Range::kBelowOne, "how much of the mean gradient stays at a step");
    f(beta2, "beta2", Range::kBelowOne, "how much of the mean squared gradient stays at a step");
    f(eps, "eps", Range::kPositive, "added to the divisor");
  }
};

/// Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024),
/// kellerjordan.github.io/posts/muon. A matrix steps along its momentum with all singular values made (about)
/// equal:
///   m = momentum m + g,  O = orthogonal(nesterov ? g + momentum m : m)
///   w = w - rate (sqrt(max(1, rows / columns)) O + weight_decay w)
/// What is no matrix (biases, norms, stacks of rank 3) and tables (embeddings, output layers) take AdamW's
/// step at rate adam_rate * rate, as the paper has it: 3e-4 beside 0.02. Weight decay on what decays().
///
/// State: 4 bytes a weight of the matrices, 8 of the rest. Cost: newton_steps (5) times 2 min(r, c)^2 (2
/// max(r, c) + min(r, c)) operations a matrix r x c; for a batch of T tokens that is 5 min(r, c) / T of what
/// its products cost, roughly.
class Muon : public Optimizer {
 public:
  Muon(std::vector<ParameterPtr> parameters, const MuonOptions& options, double clip_norm = 0);

 protected:
  void update(size_t i, const Update& u) override;

 private:
  struct Memory {
    Tensor momentum;       // of matrices
    Tensor first, second;  // of the rest
  };
  MuonOptions options_;
  std::vector<Memory> memory_;
};

/// g = U S V^T -> U S' V^T with all of S' in about 0.7 to 1.2, in `iterations` of the paper's quintic
/// Newton-Schulz step on X = g / ||g||:
///   A = X X^T,  X = 3.4445 X - (4.7750 A - 2.0315 A^2) X
/// g [r, c] f32, in f32 products on the shorter side. Zeros give zeros.
Tensor orthogonal(const Tensor& g, int64_t iterations = 5);

}  // namespace qkv
