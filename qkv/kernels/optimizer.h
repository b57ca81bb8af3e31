#pragma once
// Optimizer steps over flat arrays of masters.

#include <cstdint>

namespace qkv::kernels {

/// Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019), arXiv:1711.05101, algorithm 2, with
/// the bias corrections folded into two numbers. g' = grad_scale * g (clipping and averaging in the same
/// pass);
///   m = beta1 m + (1 - beta1) g',  v = beta2 v + (1 - beta2) g'^2
///   w = w - lr * (m / bias1 / (sqrt(v / bias2) + eps) + decay * w)
/// bias1 = 1 - beta1^t, bias2 = 1 - beta2^t, t counted from 1. decay = 0 is Adam (Kingma and Ba 2015,
/// arXiv:1412.6980).
struct AdamW {
  float lr = 0, beta1 = 0.9f, beta2 = 0.999f, eps = 1e-8f, decay = 0, bias1 = 1, bias2 = 1, grad_scale = 1;
};

/// Stochastic gradient descent with momentum (Polyak 1964) or Nesterov's, in the form of Sutskever et al.,
/// "On the importance of initialization and momentum in deep learning" (2013), that torch.optim.SGD has:
///   g' = grad_scale * g + decay * w
///   m = momentum m + g',  w = w - lr * (nesterov ? g' + momentum m : m)
/// With momentum 0 there is no m: w = w - lr * g'.
struct Sgd {
  float lr = 0, momentum = 0, decay = 0, grad_scale = 1;
  bool nesterov = false;
};

/// Chen et al., "Symbolic Discovery of Optimization Algorithms" (2023), arXiv:2302.06675, program 1.
/// g' = grad_scale * g;
///   w = w - lr * (sign(beta1 m + (1 - beta1) g') + decay * w),  m = beta2 m + (1 - beta2) g'
/// sign(0) = 0.
struct Lion {
  float lr = 0, beta1 = 0.9f, beta2 = 0.99f, decay = 0, grad_scale = 1;
};

struct OptimizerKernels {
  /// One pass over n elements of weights, moments and gradients; w, m and v are updated in place.
  void (*adamw)(int64_t n, const AdamW& options, const float* g, float* w, float* m,
                float* v) noexcept = nullptr;
  /// m is null where momentum is 0.
  void (*sgd)(int64_t n, const Sgd& options, const float* g, float* w, float* m) noexcept = nullptr;
  void (*lion)(int64_t n, const Lion& options, const float* g, float* w, float* m) noexcept = nullptr;
  /// Sum of squares in double, order fixed by n.
  double (*sum_squares)(int64_t n, const float* x) noexcept = nullptr;
  /// y += factor * x: averaging checkpoints, accumulating gradients.
  void (*axpy)(int64_t n, float factor, const float* x, float* y) noexcept = nullptr;
  /// y += share * (x - y): a moving average.
  void (*approach)(int64_t n, float share, const float* x, float* y) noexcept = nullptr;
};

}  // namespace qkv::kernels
