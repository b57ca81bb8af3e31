#pragma once

#include "qkv/train/optimizer.h"

namespace qkv {

struct AdafactorOptions {
  double beta2_decay = 0.8, eps1 = 1e-30, eps2 = 1e-3, clip_update = 1;
  bool relative_step = false;
  double beta1 = 0, weight_decay = 0;

  template <class F>
  void each(F&& f) {
    f(beta2_decay, "beta2_decay", Range::kPositive, "beta2 of step t is 1 - t^-beta2_decay");
    f(eps1, "eps1", Range::kPositive, "added to squared gradients");
    f(eps2, "eps2", Range::kPositive, "least scale of a tensor, with relative_step");
    f(clip_update, "clip_update", Range::kPositive, "largest root mean square of an update");
    f(relative_step, "relative_step", Range::kFlag, "the rate is a share of the tensor's scale");
    f(beta1, "beta1", Range::kBelowOne, "how much of the last update stays at a step");
    f(weight_decay, "weight_decay", Range::kNotNegative, "pull of matrices towards zero");
  }
};

/// Shazeer and Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost" (2018),
/// arXiv:1804.04235, algorithms 4 and 5. With b = 1 - t^-beta2_decay, a matrix keeps the means of its squared
/// gradients by row and by column alone, and what stands for the whole is their outer product:
///   R_i = b R_i + (1 - b) (mean_j g_ij^2 + eps1),  C_j = b C_j + (1 - b) (mean_i g_ij^2 + eps1)
///   v_ij = R_i C_j / mean(R)
/// anything else keeps v = b v + (1 - b) (g^2 + eps1) itself. Then
///   u = g / sqrt(v),  u = u / max(1, RMS(u) / clip_update),  w = w - a (u + weight_decay w)
/// a is the rate; with relative_step rate max(eps2, RMS(w)), which at --schedule inverse_sqrt --lr 0.01
/// --warmup 10000 is the paper's (but for its rise). With beta1 above 0, u's running mean takes its place, at
/// 4 bytes a weight. Tensors of rank 3 and more are matrices whose rows are the last axis.
///
/// State: (rows + columns) floats a matrix, 4 bytes a weight for the rest; one tensor of scratch. Decay on
/// what decays().
class Adafactor : public Optimizer {
 public:
  Adafactor(std::vector<ParameterPtr> parameters, const AdafactorOptions& options, double clip_norm = 0);

 protected:
  void update(size_t i, const Update& u) override;

 private:
  struct Memory {
    Tensor rows, columns;  // of matrices
    Tensor second;         // of the rest
    Tensor first;          // with beta1
  };
  Tensor direction(const Memory& memory, const Tensor& g, double beta2, double grad_scale) const;

  AdafactorOptions options_;
  std::vector<Memory> memory_;
};

}  // namespace qkv
