#pragma once
// Element types of tensors.

#include <cstdint>
#include <string_view>

#include "qkv/base/bfloat16.h"

namespace qkv {

enum class DType : uint8_t {
  kF64,   // reference and gradient checks
  kF32,   // masters, optimizer state, and all arithmetic's accumulators
  kBF16,  // activations and weights where the CPU has a bf16 unit
  kI32,   // ids
};

int64_t size_of(DType dtype);                  // bytes of one element
std::string_view name(DType dtype);            // "f32", ... as on the command line
DType dtype_from_name(std::string_view name);  // Error kValue if unknown

template <class T>
struct dtype_of;
template <>
struct dtype_of<double> {
  static constexpr DType value = DType::kF64;
};
template <>
struct dtype_of<float> {
  static constexpr DType value = DType::kF32;
};
template <>
struct dtype_of<bfloat16> {
  static constexpr DType value = DType::kBF16;
};
template <>
struct dtype_of<int32_t> {
  static constexpr DType value = DType::kI32;
};

/// The type sums over T are kept in: double for double, float for the rest.
template <class T>
struct accumulator_of {
  using type = float;
};
template <>
struct accumulator_of<double> {
  using type = double;
};
template <class T>
using accumulator_t = typename accumulator_of<T>::type;

}  // namespace qkv
