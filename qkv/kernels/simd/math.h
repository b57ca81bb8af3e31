#pragma once
// Elementary functions over a vector of floats. V is Vec of vec_avx2.h or vec_avx512.h; the names fma, min,
// ... are found beside it. Both families evaluate the same operations, so they give the same bits
// (rows_properties_test.cc checks that).
//
// The coefficients are near-minimax fits of the relative error (Lawson's iteratively reweighted least squares
// on 100 Chebyshev nodes, in 40 digits). The errors stated are of the float result, measured over all floats
// of the range named, against double; rows_properties_test.cc measures them again on a dense sample.

#include <limits>

#include "qkv/kernels/gemm.h"

namespace qkv::kernels::simd {

template <class V>
inline V polynomial(V /*x*/, float c) {
  return V::set(c);
}
/// c + x (rest[0] + x (rest[1] + ...)), by Horner's rule.
template <class V, class... Rest>
inline V polynomial(V x, float c, Rest... rest) {
  return fma(x, polynomial(x, rest...), V::set(c));
}

/// e^x for x <= 88 (above, 2^128 may overflow early). At most 1.04 ulp; results below the smallest subnormal
/// are 0, e^-inf = 0, NaN stays.
///   x = n log 2 + r, |r| <= log(2) / 2;  e^x = 2^n e^r.  n log 2 is subtracted in two parts, the first of
///   few bits.
template <class V>
inline V exp_below_88(V x) {
  x = max(V::set(-104.0f), x);  // e^-104 rounds to 0; also keeps n finite for -inf
  const V n = round(x * V::set(1.44269504f));
  V r = fnma(n, V::set(0.693359375f), x);
  r = fnma(n, V::set(-2.12194440e-4f), r);
  const V tail =
      polynomial(r, 0.500000009565f, 0.166665182888f, 0.0416662043636f, 0.00836895510974f, 0.00139505859216f);
  const V p = fma(r * r, tail, r) + V::set(1.0f);
  return scale_by_power(p, n);
}

/// e^x for every x: infinity above log(FLT_MAX). At most 1.04 ulp.
template <class V>
inline V exp(V x) {
  return exp_below_88(min(V::set(89.0f), x));
}

/// Natural logarithm of x >= 0, at most 1 ulp: log 0 = -inf, log inf = inf, NaN below 0. Subnormal x count as
/// 0.
///   x = m 2^e, m in [0.75, 1.5), f = m - 1:  log x = e log 2 + f - f^2 / 2 + f^3 p(f).
template <class V>
inline V log(V x) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  V e;
  const V f = split(x, e) - V::set(1.0f);
  const V p =
      polynomial(f, 0.333333398677f, -0.25000165312f, 0.199996042772f, -0.166552942356f, 0.142762519102f,
                 -0.127278307725f, 0.117005971447f, -0.0911579012343f, 0.0376691871699f);
  const V f2 = f * f;
  V y = fma(f2 * f, p, e * V::set(-2.12194440e-4f));
  y = fnma(V::set(0.5f), f2, y) + f;
  y = fma(e, V::set(0.693359375f), y);
  y = select(x < V::set(std::numeric_limits<float>::min()), V::set(-kInf), y);
  y = select(x < V::zero(), V::set(std::numeric_limits<float>::quiet_NaN()), y);
  y = select(x == V::set(kInf), x, y);
  return select(x == x, y, x);
}

/// tanh x = x P(x^2) / Q(x^2), of degrees 4 and 4, |x| clamped to 9.02, where tanh rounds to 1. At most 4
/// ulp; odd, within [-1, 1].
template <class V>
inline V tanh(V x) {
  const V one = V::set(1.0f), limit = V::set(9.02f), zero = V::zero();
  const V c = min(limit, max(zero - limit, x));
  const V z = c * c;
  const V p = polynomial(z, 0.999999978867f, 0.133796726918f, 0.00349398144546f, 2.05826353382e-5f,
                         1.33179595781e-8f);
  const V q = polynomial(z, 1.0f, 0.46712987897f, 0.0258708694861f, 0.000328300714623f, 7.76155114808e-7f);
  return min(one, max(zero - one, c * p / q));
}

/// erf x = x P(x^2) / Q(x^2), of degrees 6 and 4, |x| clamped to 3.95. At most 5.7 ulp (3.4e-7); odd, within
/// [-1, 1].
template <class V>
inline V erf(V x) {
  const V one = V::set(1.0f), limit = V::set(3.95f), zero = V::zero();
  const V c = min(limit, max(zero - limit, x));
  const V z = c * c;
  const V p = polynomial(z, 1.12837910327f, 0.202587823404f, 0.0509239442313f, 0.00380803209229f,
                         0.000143812324403f, -1.950882498e-6f, 1.96032190684e-8f);
  const V q = polynomial(z, 1.0f, 0.512870292946f, 0.116096570062f, 0.0145761688435f, 0.000979886932762f);
  return min(one, max(zero - one, c * p / q));
}

// The activations of gemm.h, each with its derivative: value(x) and slope(x). All but Tanh's slope take the
// value before the activation. Relu keeps NaN, as do the others.

struct Identity {
  template <class V>
  static V value(V x) {
    return x;
  }
  template <class V>
  static V slope(V) {
    return V::set(1.0f);
  }
};

struct Relu {
  template <class V>
  static V value(V x) {
    return max(V::zero(), x);
  }
  template <class V>
  static V slope(V x) {
    return keep(V::zero() < x, V::set(1.0f));
  }
};

/// Absolute error of the value at most 2.5e-7 max(1, |x|), of the slope 5e-7: 1 + erf cancels where x is
/// negative.
struct Gelu {
  template <class V>
  static V value(V x) {
    const V half = V::set(0.5f) * x;
    return fma(half, erf(x * V::set(0.707106781f)), half);
  }
  template <class V>
  static V slope(V x) {
    const V phi = fma(V::set(0.5f), erf(x * V::set(0.707106781f)), V::set(0.5f));
    return fma(x * V::set(0.398942280f), exp_below_88(V::set(-0.5f) * x * x), phi);
  }
};

/// x (1 + tanh u) / 2 = x sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3). The slope needs 1 - tanh(u)^2,
/// which as written cancels to 2e-5 where x^3 multiplies it; with e = exp(-2 u) and s = 1 / (1 + e) it is 4 e
/// s^2.
struct GeluTanh {
  template <class V>
  static V minus_two_u(V x) {
    return V::set(-1.595769122f) * x * fma(V::set(0.044715f), x * x, V::set(1.0f));
  }
  template <class V>
  static V value(V x) {
    return x / (V::set(1.0f) + exp(minus_two_u(x)));
  }
  template <class V>
  static V slope(V x) {
    const V one = V::set(1.0f);
    const V e =
        exp_below_88(min(V::set(80.0f), minus_two_u(x)));  // e stays finite: e s^2 is 0, not infinity * 0
    const V s = one / (one + e);
    const V two_u_slope = V::set(1.595769122f) * fma(V::set(3 * 0.044715f), x * x, one);
    return s * fma(x * two_u_slope, e * s, one);
  }
};

/// x s, s = sigmoid(x); slope s + x s (1 - s), where 1 - s = e s with e = exp(-x), as above.
struct Silu {
  template <class V>
  static V value(V x) {
    return x / (V::set(1.0f) + exp(V::zero() - x));
  }
  template <class V>
  static V slope(V x) {
    const V one = V::set(1.0f), e = exp_below_88(min(V::set(80.0f), V::zero() - x));
    const V s = one / (one + e);
    return s * fma(x, e * s, one);
  }
};

struct Tanh {
  template <class V>
  static V value(V x) {
    return tanh(x);
  }
  template <class V>
  static V slope(V y) {
    return fnma(y, y, V::set(1.0f));
  }  // y = tanh x
};

struct EluPlusOne {
  template <class V>
  static V value(V x) {
    return exp_below_88(min(V::zero(), x)) + max(V::zero(), x);  // one of them is 1 or 0 exactly
  }
  template <class V>
  static V slope(V x) {
    return exp_below_88(min(V::zero(), x));  // e^0 = 1 exactly
  }
};

/// body(Relu{}) where f is kRelu, and so on.
template <class Body>
[[gnu::always_inline]] inline void with_activation(Activation f, Body&& body) {
  switch (f) {
    case Activation::kNone:
      return body(Identity{});
    case Activation::kRelu:
      return body(Relu{});
    case Activation::kGelu:
      return body(Gelu{});
    case Activation::kGeluTanh:
      return body(GeluTanh{});
    case Activation::kSilu:
      return body(Silu{});
    case Activation::kTanh:
      return body(Tanh{});
    case Activation::kEluPlusOne:
      return body(EluPlusOne{});
  }
}

}  // namespace qkv::kernels::simd
