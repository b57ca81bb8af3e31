#pragma once
// The activations of gemm.h, one value at a time, as they are defined.

#include <cmath>

#include "qkv/kernels/gemm.h"

namespace qkv::kernels::ref {

template <class A>
A activate(Activation f, A x) {
  constexpr A kSqrtHalf = A(0.70710678118654752440), kSqrt2OverPi = A(0.79788456080286535588);
  switch (f) {
    case Activation::kNone:
      return x;
    case Activation::kRelu:
      return x < 0 ? A(0) : x;  // a NaN stays a NaN
    // erfc, not 1 + erf: for x << 0 the sum would cancel.
    case Activation::kGelu:
      return A(0.5) * x * std::erfc(-x * kSqrtHalf);
    case Activation::kGeluTanh:
      return A(0.5) * x * (1 + std::tanh(kSqrt2OverPi * (x + A(0.044715) * x * x * x)));
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
    case Activation::kTanh:
      return std::tanh(x);
    case Activation::kEluPlusOne:
      return x > 0 ? x + 1 : std::exp(x);
  }
  return x;
}

}  // namespace qkv::kernels::ref
