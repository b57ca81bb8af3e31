#pragma once
// How an attention layer's features are cut into heads.

#include <cstdint>

namespace qkv {

/// Query head h uses key/value head h / (n_heads / n_kv_heads): equal counts are multi-head attention,
/// n_kv_heads = 1 is multi-query, anything between is grouped-query (Ainslie et al. 2023, arXiv:2305.13245).
struct HeadSizes {
  int64_t n_heads = 1;
  int64_t n_kv_heads = 0;  // 0: n_heads. Divides n_heads
  int64_t d_k = 0;         // of one head's queries and keys
  int64_t d_v = 0;         // of one head's values; 0: d_k

  int64_t kv_heads() const { return n_kv_heads ? n_kv_heads : n_heads; }
  int64_t group() const { return n_heads / kv_heads(); }  // query heads that share a key/value head
  int64_t value_width() const { return d_v ? d_v : d_k; }
};

}  // namespace qkv
