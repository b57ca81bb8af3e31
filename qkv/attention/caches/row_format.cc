#include "qkv/attention/caches/row_format.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "qkv/base/checked.h"
#include "qkv/base/error.h"
#include "qkv/kernels/table.h"

namespace qkv {
namespace {

// Symmetric: n = round(x / scale), scale = max|x| / 127. What is not finite makes its head's row NaN: it
// stays wrong where it was wrong, and nowhere else.
template <class T>
void write_int8(const T* x, int64_t d, int8_t* to, std::byte* scale_at) {
  using A = accumulator_t<T>;
  double most = 0;
  for (int64_t i = 0; i < d; ++i) {
    const double size = std::abs(static_cast<double>(A(x[i])));
    most = std::isnan(most) || size <= most ? most : size;  // NaN stays
  }
  float scale = static_cast<float>(most / 127);
  if (!std::isfinite(scale)) scale = std::nanf("");
  std::memcpy(scale_at, &scale, sizeof(scale));
  for (int64_t i = 0; i < d; ++i) {
    const double n =
        scale > 0 ? std::nearbyint(static_cast<double>(A(x[i])) / static_cast<double>(scale)) : 0;
    to[i] = static_cast<int8_t>(std::clamp(n, -127.0, 127.0));
  }
}

}  // namespace

RowFormat::RowFormat(const CacheShape& s, Stored how) : shape(s), stored(how) {
  QKV_CHECK(s.n_kv_heads > 0 && s.width >= 0 && s.d_v >= 0, kValue,
            "kv cache: n_kv_heads ({}) must be positive, key width ({}) and d_v ({}) not negative",
            s.n_kv_heads, s.width, s.d_v);
  constexpr int64_t kMostNumbers = 1 << 24;  // so that no size of some rows overflows
  QKV_CHECK(
      std::max({s.n_kv_heads, s.width, s.d_v}) <= kMostNumbers &&
          std::max(s.k_width(), s.v_width()) <= kMostNumbers,
      kValue,
      "kv cache: {} heads of keys of {} and values of {} numbers; a row can have {} of each, of all heads",
      s.n_kv_heads, s.width, s.d_v, kMostNumbers);
  QKV_CHECK(stored != Stored::kBF16 || s.dtype != DType::kBF16, kUnsupported,
            "kv cache: rows of bf16 are stored as bf16 already; take Stored::kPlain");
  element = stored == Stored::kPlain ? size_of(s.dtype) : stored == Stored::kBF16 ? 2 : 1;
  v_at = s.k_width() * element;
  row_bytes = v_at + s.v_width() * element;
  if (stored != Stored::kInt8) return;
  k_scales_at = round_up(row_bytes, static_cast<int64_t>(sizeof(float)));
  v_scales_at = k_scales_at + s.n_kv_heads * static_cast<int64_t>(sizeof(float));
  row_bytes = v_scales_at + s.n_kv_heads * static_cast<int64_t>(sizeof(float));
}

void RowFormat::write(const void* k, const void* v, std::byte* row) const {
  if (stored == Stored::kPlain) {
    if (v_at > 0) std::memcpy(row, k, static_cast<size_t>(v_at));
    if (row_bytes > v_at) std::memcpy(row + v_at, v, static_cast<size_t>(row_bytes - v_at));
    return;
  }
  kernels::visit_dtype(shape.dtype, [&]<class T>(T) {
    using A = accumulator_t<T>;
    const auto* keys = static_cast<const T*>(k);
    const auto* values = static_cast<const T*>(v);
    if (stored == Stored::kBF16) {
      auto* to = reinterpret_cast<bfloat16*>(row);
      for (int64_t i = 0; i < shape.k_width(); ++i) to[i] = bfloat16(static_cast<float>(A(keys[i])));
      to += shape.k_width();
      for (int64_t i = 0; i < shape.v_width(); ++i) to[i] = bfloat16(static_cast<float>(A(values[i])));
      return;
    }
    auto* to = reinterpret_cast<int8_t*>(row);
    for (int64_t h = 0; h < shape.n_kv_heads; ++h) {
      const int64_t scale = h * static_cast<int64_t>(sizeof(float));
      write_int8(keys + h * shape.width, shape.width, to + h * shape.width, row + k_scales_at + scale);
      write_int8(values + h * shape.d_v, shape.d_v, to + v_at + h * shape.d_v, row + v_scales_at + scale);
    }
  });
}

void RowFormat::read(const std::byte* row, void* k, void* v) const {
  if (stored == Stored::kPlain) {
    if (v_at > 0) std::memcpy(k, row, static_cast<size_t>(v_at));
    if (row_bytes > v_at) std::memcpy(v, row + v_at, static_cast<size_t>(row_bytes - v_at));
    return;
  }
  kernels::visit_dtype(shape.dtype, [&]<class T>(T) {
    const auto& kernels = kernels::table().of<T>().attention;
    const auto part = [&](const std::byte* from, int64_t scales, int64_t d, void* to) {
      if (stored == Stored::kBF16)
        kernels.widen_rows(shape.n_kv_heads, d, reinterpret_cast<const bfloat16*>(from), d,
                           static_cast<T*>(to), d);
      else
        kernels.dequantise_rows(shape.n_kv_heads, d, reinterpret_cast<const int8_t*>(from), d,
                                reinterpret_cast<const float*>(row + scales), 1, static_cast<T*>(to), d);
    };
    part(row, k_scales_at, shape.width, k);
    part(row + v_at, v_scales_at, shape.d_v, v);
  });
}

KeyValueSpan RowFormat::span() const {
  return {.k_row_stride = row_bytes / element,
          .v_row_stride = row_bytes / element,
          .stored = stored,
          .k_scales = k_scales_at,
          .v_scales = v_scales_at - v_at};
}

}  // namespace qkv
