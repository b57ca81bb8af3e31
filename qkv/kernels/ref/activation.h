#pragma once
// The activations of gemm.h and their derivatives, one value at a time, as they are defined.

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

/// f'(x), of relu and tanh from f(x): dy / dx of y = f(x).
template <class A>
A derivative(Activation f, A x) {
  constexpr A kSqrtHalf = A(0.70710678118654752440), kRsqrt2Pi = A(0.39894228040143267794),
              kSqrt2OverPi = A(0.79788456080286535588), kCube = A(0.044715);
  switch (f) {
    case Activation::kNone:
      return 1;
    case Activation::kRelu:
      return x > 0 ? 1 : 0;
    case Activation::kGelu:
      return A(0.5) * (1 + std::erf(x * kSqrtHalf)) + x * kRsqrt2Pi * std::exp(A(-0.5) * x * x);
    case Activation::kGeluTanh: {  // Hendrycks and Gimpel 2016
      const A t = std::tanh(kSqrt2OverPi * (x + kCube * x * x * x));
      return A(0.5) * (1 + t) + A(0.5) * x * (1 - t * t) * kSqrt2OverPi * (1 + 3 * kCube * x * x);
    }
    case Activation::kSilu: {
      const A s = 1 / (1 + std::exp(-x));
      return s * (1 + x * (1 - s));
    }
    case Activation::kTanh:
      return 1 - x * x;
    case Activation::kEluPlusOne:
      return x > 0 ? A(1) : std::exp(x);
  }
  return 1;
}

}  // namespace qkv::kernels::ref
