#pragma once
// A row of a cache: the keys of all key/value heads, their values, and what it takes to read them back.

#include <cstddef>
#include <cstdint>

#include "qkv/attention/key_value_span.h"
#include "qkv/base/dtype.h"

namespace qkv {

/// What a cache's rows hold: a prepared key and a value of each key/value head, in the model's dtype.
struct CacheShape {
  int64_t n_kv_heads = 1;
  int64_t width = 0;  // of a prepared key
  int64_t d_v = 0;
  DType dtype = DType::kF32;

  int64_t k_width() const { return n_kv_heads * width; }
  int64_t v_width() const { return n_kv_heads * d_v; }
};

/// The bytes of a row: keys, values and, for kInt8, a float for each head's key and each head's value.
struct RowFormat {
  RowFormat() = default;
  /// Errors: kValue: no head, a negative width, more than 2^24 numbers of keys or of values; kUnsupported:
  /// bf16 of a dtype that is not wider.
  RowFormat(const CacheShape& shape, Stored stored);

  CacheShape shape;
  Stored stored = Stored::kPlain;
  int64_t element = 4, row_bytes = 0;
  int64_t v_at = 0, k_scales_at = 0, v_scales_at = 0;  // bytes from the row's begin

  /// k [k_width] and v [v_width] of shape.dtype.
  void write(const void* k, const void* v, std::byte* row) const;
  /// The other way, as far as the stored bits know.
  void read(const std::byte* row, void* k, void* v) const;
  /// All of a span but its length and where its rows are.
  KeyValueSpan span() const;
};

}  // namespace qkv
