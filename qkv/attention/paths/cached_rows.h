#pragma once
// The keys and values of a tile, wherever they lie: in a matrix, in a page of a cache, or there in fewer
// bits, which are widened on the way.

#include "qkv/attention/paths/problem.h"
#include "qkv/attention/paths/scratch.h"
#include "qkv/tensor/tensor.h"

namespace qkv::paths {

// Queries and keys of a tile. Key tiles begin at multiples of it whatever the queries, so that a row's sums
// run in the same order in a prompt and in a decode step; and 64 keys are one word of dropout bits. 64 x 64
// f32 scores and bf16 weights and a 64 x 64 f32 output are 40 KiB: they share a 48 KiB L1.
constexpr int64_t kTile = 64;

static_assert(kTile == kPageRows, "a tile lies within one page");

/// [cols, d], rows ld apart.
template <class T>
struct TileRows {
  const T* x = nullptr;
  int64_t ld = 0;
};

/// `cols` rows of one key/value head in a cache, from row j0 on, a multiple of kTile. x and pages, stride and
/// scales are those of the span's keys or values.
template <class T>
TileRows<T> cached_rows(const Problem<T>& p, const KeyValueSpan& span, const void* x,
                        const void* const* pages, int64_t stride, int64_t scales, int64_t kv_head, int64_t d,
                        int64_t j0, int64_t cols, Scratch& scratch) {
  const int64_t element = span.stored == Stored::kPlain  ? static_cast<int64_t>(sizeof(T))
                          : span.stored == Stored::kBF16 ? 2
                                                         : 1;
  const std::byte* row = pages ? static_cast<const std::byte*>(pages[j0 / kPageRows])
                               : static_cast<const std::byte*>(x) + j0 * stride * element;
  const void* at = row + kv_head * d * element;
  if (span.stored == Stored::kPlain) return {static_cast<const T*>(at), stride};
  T* read = scratch.take<T>(cols * d);
  const auto& kernels = p.kernels->attention;
  if (span.stored == Stored::kBF16)
    kernels.widen_rows(cols, d, static_cast<const bfloat16*>(at), stride, read, d);
  else
    kernels.dequantise_rows(cols, d, static_cast<const int8_t*>(at), stride,
                            reinterpret_cast<const float*>(row + scales) + kv_head,
                            stride / static_cast<int64_t>(sizeof(float)), read, d);
  return {read, d};
}

template <class T>
TileRows<T> key_rows(const Problem<T>& p, const Sequence<T>& s, int64_t kv_head, int64_t j0, int64_t cols,
                     Scratch& scratch) {
  if (!s.cached) return {p.key(s, kv_head, j0), s.k_stride};
  const KeyValueSpan& c = *s.cached;
  return cached_rows(p, c, c.k, c.k_pages, c.k_row_stride, c.k_scales, kv_head, p.width, j0, cols, scratch);
}

template <class T>
TileRows<T> value_rows(const Problem<T>& p, const Sequence<T>& s, int64_t kv_head, int64_t j0, int64_t cols,
                       Scratch& scratch) {
  if (!s.cached) return {p.value(s, kv_head, j0), s.v_stride};
  const KeyValueSpan& c = *s.cached;
  return cached_rows(p, c, c.v, c.v_pages, c.v_row_stride, c.v_scales, kv_head, p.d_v(), j0, cols, scratch);
}

/// Reads all of a sequence's cache into one block, to which s then points. The block is the caller's to keep.
template <class T>
Tensor read_cached(const Problem<T>& p, Sequence<T>& s) {
  const int64_t heads = p.heads.kv_heads(), width = heads * (p.width + p.d_v());
  const Tensor block = Tensor::empty({s.kv_len, width}, dtype_of<T>::value);
  T* const to = block.data<T>();
  for (int64_t j0 = 0; j0 < s.kv_len; j0 += kTile)
    for (int64_t h = 0; h < heads; ++h) {
      Scratch& scratch = Scratch::fresh();
      const int64_t cols = std::min(kTile, s.kv_len - j0);
      const TileRows<T> k = key_rows(p, s, h, j0, cols, scratch), v = value_rows(p, s, h, j0, cols, scratch);
      for (int64_t j = 0; j < cols; ++j) {
        T* row = to + (j0 + j) * width;
        std::copy_n(k.x + j * k.ld, p.width, row + h * p.width);
        std::copy_n(v.x + j * v.ld, p.d_v(), row + heads * p.width + h * p.d_v());
      }
    }
  s.k = to, s.v = to + heads * p.width;
  s.k_stride = s.v_stride = width;
  s.cached = nullptr;
  return block;
}

}  // namespace qkv::paths
