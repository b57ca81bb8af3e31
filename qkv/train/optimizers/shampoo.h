#pragma once

#include "qkv/train/optimizer.h"

namespace qkv {

struct ShampooOptions {
  double beta1 = 0.9, beta2 = 0.99, eps = 1e-8, root_damping = 1e-4, weight_decay = 0;
  int64_t root_every = 10, root_max_side = 512;

  template <class F>
  void each(F&& f) {
    f(beta1, "beta1", Range::kBelowOne, "how much of the mean gradient stays at a step");
    f(beta2, "beta2", Range::kBelowOne, "how much of the mean squared gradient stays at a step");
    f(eps, "eps", Range::kPositive, "added to the divisor");
    f(weight_decay, "weight_decay", Range::kNotNegative, "pull of matrices towards zero");
    f(root_damping, "root_damping", Range::kPositive,
      "added to the preconditioners, as a share of their norm");
    f(root_every, "root_every", Range::kCount, "steps between new roots of the preconditioners");
    f(root_max_side, "root_max_side", Range::kCount, "longest side of a matrix that is preconditioned");
  }
};

/// Gupta, Koren and Singer, "Shampoo: Preconditioned Stochastic Tensor Optimization" (2018),
/// arXiv:1802.09568, algorithm 1, with the running means, late roots and graft of Anil et al., "Scalable
/// Second Order Optimization for Deep Learning" (2020), arXiv:2002.09018. For a matrix G:
///   L = beta2 L + (1 - beta2) G G^T,  R = beta2 R + (1 - beta2) G^T G
///   every `root_every` steps, and at the first:  P = (L + root_damping |L| I)^(-1/4),  Q = (R + damping |R|
///   I)^(-1/4) D = P M Q,  w = w - rate (D |A| / |D| + weight_decay w)
/// M is AdamW's mean gradient and A its step (beta1, beta2, eps, corrected), so that AdamW's rates fit; |.|
/// is the Frobenius norm. P and Q take part through their directions alone, so that L and R need no
/// correction. A side longer than root_max_side keeps the identity, and a side of 1 does; what has no side
/// left takes AdamW's step itself. Tensors of rank 3 and more are matrices whose rows are the last axis.
///
/// Why not SOAP: it steps in the eigenvectors of L and R, which turn by any angle at equal eigenvalues, so a
/// last digit of f32 decides; a damped root moves no more than L does. All in f32: in f64
/// products a root would move by no more than by the last digits of L.
///
/// State: m and v, 8 bytes a weight, and 8 (r^2 + c^2) bytes a matrix r x c. Cost: 4 r c (r + c) operations a
/// step, and 160 (r^3 + c^3) a refresh: 2 s for a side of 1024 on one core,
/// 0.25 s for 512.
class Shampoo : public Optimizer {
 public:
  Shampoo(std::vector<ParameterPtr> parameters, const ShampooOptions& options, double clip_norm = 0);

 protected:
  void update(size_t i, const Update& u) override;

 private:
  struct Side {
    Tensor mean, root;  // L and P, or R and Q; undefined: the identity
  };
  struct Memory {
    Tensor first, second;
    Side left, right;
  };
  void refresh(const Side& side) const;

  ShampooOptions options_;
  std::vector<Memory> memory_;
};

/// (a + damping |a| I)^(-1/4) of a symmetric a [n, n] with no eigenvalue below 0, f32 or f64, by 20 steps of
/// the coupled Newton iteration (Guo and Higham 2006, "A Schur-Newton method for the matrix pth root and its
/// inverse"):
///   X = z^(1/4) I, M = z a, z = 5 / (2 |a|);  T = (5 I - M) / 4,  X = X T,  M = T^4 M
/// enough for any damping of 1e-6 or more (each multiplies the least eigenvalue of M by 2.4 at first). The
/// last digit of a, 6e-8 of |a| in f32, moves an eigenvalue of damping |a| by 6e-8 / damping of itself, and
/// its root by a quarter of that: so with f32 damping is 1e-4. Zeros give the identity.
Tensor inverse_fourth_root(const Tensor& a, double damping);

}  // namespace qkv
