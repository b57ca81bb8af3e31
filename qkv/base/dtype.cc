#include "qkv/base/dtype.h"

#include "qkv/base/error.h"
#include "qkv/base/quote.h"

namespace qkv {

int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return 8;
    case DType::kF32:
      return 4;
    case DType::kBF16:
      return 2;
    case DType::kI32:
      return 4;
  }
  return 0;
}

std::string_view name(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return "f64";
    case DType::kF32:
      return "f32";
    case DType::kBF16:
      return "bf16";
    case DType::kI32:
      return "i32";
  }
  return "?";
}

DType dtype_from_name(std::string_view text) {
  for (DType dtype : {DType::kF64, DType::kF32, DType::kBF16, DType::kI32})
    if (name(dtype) == text) return dtype;
  throw_error(ErrorCode::kValue, "dtype: {} is not one of f64, f32, bf16, i32", quote(text));
}

}  // namespace qkv
