#pragma once
// Arithmetic on numbers that come from outside: every sum, product and round-up on them goes through here
// and throws Error kFormat instead of wrapping.

#include <cstdint>
#include <limits>
#include <type_traits>

#include "qkv/base/error.h"

namespace qkv {

/// a * b, or Error naming `what`.
template <class T>
T checked_mul(T a, T b, const char* what) {
  T out;
  if (__builtin_mul_overflow(a, b, &out))
    throw_error(ErrorCode::kFormat, "{}: {} x {} overflows", what, a, b);
  return out;
}

/// a + b, or Error naming `what`.
template <class T>
T checked_add(T a, T b, const char* what) {
  T out;
  if (__builtin_add_overflow(a, b, &out))
    throw_error(ErrorCode::kFormat, "{}: {} + {} overflows", what, a, b);
  return out;
}

/// `value` as To, or Error naming `what` where it does not fit.
template <class To, class From>
To checked_narrow(From value, const char* what) {
  static_assert(std::is_integral_v<To> && std::is_integral_v<From>);
  To out = static_cast<To>(value);
  if (static_cast<From>(out) != value || ((out < To{}) != (value < From{})))
    throw_error(ErrorCode::kFormat, "{}: {} is out of range", what, value);
  return out;
}

/// The smallest multiple of `step` that is >= value; both non-negative, step positive. For our own sizes.
constexpr int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }
constexpr int64_t ceil_div(int64_t value, int64_t step) { return (value + step - 1) / step; }

}  // namespace qkv
