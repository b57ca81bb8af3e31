#pragma once
// How attention finds one sequence's keys and values in a cache.

#include <cstdint>

namespace qkv {

constexpr int64_t kPageRows = 64;  // of a page: one tile of the attention paths

/// How a cache keeps the numbers of a row.
enum class Stored : uint8_t {
  kPlain,  // in the model's dtype
  kBF16,   // rounded: 2 bytes. Relative error up to 2^-9
  kInt8,  // x = scale * n with n in -127 .. 127 and a scale for each row and key/value head: 1 byte. Error up
          // to scale / 2 = max|x| / 254
};

/// One sequence's keys and values in a cache. Rows are strided; of n_kv_heads * width and n_kv_heads * d_v
/// elements.
struct KeyValueSpan {
  const void* k = nullptr;  // prepared: what score->prepare_keys made of the keys, once, when they came
  const void* v = nullptr;
  int64_t kv_len = 0;
  int64_t k_row_stride = 0, v_row_stride = 0;  // in elements as they are stored
  /// Instead of k and v: key j is row j % kPageRows of page j / kPageRows.
  const void* const* k_pages = nullptr;
  const void* const* v_pages = nullptr;
  Stored stored = Stored::kPlain;
  int64_t k_scales = 0, v_scales = 0;  // of kInt8: bytes from a row to its n_kv_heads scales, floats

  bool plain() const { return !k_pages && stored == Stored::kPlain; }
  bool operator==(const KeyValueSpan&) const = default;
};

}  // namespace qkv
