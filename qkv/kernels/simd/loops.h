#pragma once
// Walking a row by vectors: whole ones, then one masked one. The body is a generic lambda that loads and
// stores through `at`, so that an algorithm is written once for both. And loops that are unrolled.

#include <cstdint>
#include <utility>

namespace qkv::kernels::simd {

template <class V>
struct Whole {
  template <class P>
  V load(const P* p) const {
    return V::load(p);
  }
  template <class P>
  void store(P* p, V x) const {
    x.store(p);
  }
  V keep(V x) const { return x; }            // zero in the lanes beyond the end
  V or_else(V x, float) const { return x; }  // a number in the lanes beyond the end
};

template <class V>
struct Part {
  int64_t n;
  template <class P>
  V load(const P* p) const {
    return V::load(p, n);
  }
  template <class P>
  void store(P* p, V x) const {
    x.store(p, n);
  }
  // Not `keep(mask, x)` by name: the member hides the function that is found beside V.
  V keep(V x) const { return select(V::first(n), x, V::zero()); }
  V or_else(V x, float other) const { return select(V::first(n), x, V::set(other)); }
};

/// How vectors are stored as T where a family may know a faster way (avx512_bf16/narrow.h): by Vec itself.
struct NarrowByVec {
  template <class Vec, class T>
  static void store(T* p, Vec x) {
    x.store(p);
  }
  template <class Vec, class T>
  static void store(T* p, Vec x, int64_t n) {
    x.store(p, n);
  }
};

/// body(k, i, at) for i = 0, V::kLanes, ...: k = 0 .. K - 1 in turn within a run of K whole vectors and 0 for
/// what is left. An accumulator for each k keeps K additions in flight; which element meets which depends on
/// n alone.
template <class V, int K, class Body>
inline void each(int64_t n, Body&& body) {
  constexpr int64_t L = V::kLanes;
  int64_t i = 0;
  for (; i + K * L <= n; i += K * L) {
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) body(k, i + k * L, Whole<V>{});
  }
  for (; i + L <= n; i += L) body(0, i, Whole<V>{});
  if (i < n) body(0, i, Part<V>{n - i});
}

/// f(0), ..., f(N - 1), each number a constant: for arrays that must stay in registers.
template <int N, class F>
[[gnu::always_inline]] inline void unrolled(F&& f) {
  [&]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
    (f(std::integral_constant<int, I>{}), ...);
  }
  (std::make_integer_sequence<int, N>{});
}

/// The sum (or maximum) of four accumulators, pairs first.
template <class V>
inline V total(const V (&a)[4]) {
  return (a[0] + a[1]) + (a[2] + a[3]);
}
template <class V>
inline V largest(const V (&a)[4]) {
  return max(max(a[0], a[1]), max(a[2], a[3]));
}

}  // namespace qkv::kernels::simd
