#pragma once
// What a path is asked to compute, in raw pointers of one element type. attention.cc makes it from tensors,
// or from the spans of a cache: the paths do not know the difference.

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "qkv/attention/key_value_span.h"
#include "qkv/attention/normalizers.h"
#include "qkv/attention/rule.h"
#include "qkv/attention/score.h"
#include "qkv/kernels/table.h"

namespace qkv::paths {

template <class T>
struct Sequence {
  int64_t index = 0;  // what rules call `batch`
  int64_t q_begin = 0, q_len = 0, past = 0;
  const T *k = nullptr, *v = nullptr;  // row 0, head 0
  int64_t kv_len = 0, k_stride = 0, v_stride = 0;
  int64_t kv_begin = 0;                  // the first of its rows in dk and dv
  const KeyValueSpan* cached = nullptr;  // instead of k and v: rows in another form (cached_rows.h)
};

/// attention/relative.h in raw pointers; rows null: there are none.
template <class T>
struct Relative {
  const T* rows = nullptr;  // row m of head h at rows + m * row_stride + h * head_stride: width or d_v long
  int64_t n_rows = 0, row_stride = 0, head_stride = 0, zero = 0;
  const T* q = nullptr;  // like the problem's q; of keys alone
  int64_t q_stride = 0;
  int64_t row_of(int64_t distance) const { return std::clamp<int64_t>(zero + distance, 0, n_rows - 1); }
};

template <class T>
struct Problem {
  using A = accumulator_t<T>;

  const kernels::KernelsFor<T>* kernels = nullptr;
  HeadSizes heads;
  Pairing::Kind kind = Pairing::Kind::kDot;
  int64_t width = 0;  // of a prepared query or key
  A scale = 1;
  const A* tanh_v = nullptr;  // [n_heads, width], for kTanhSum
  std::vector<const Mask*> masks;
  std::vector<const Edit*> edits;
  Relative<T> relative_keys, relative_values;
  const Normalizer* normalizer = nullptr;
  const A* sink = nullptr;                              // [n_heads], of a softmax that has one
  const kernels::AttentionKernels<A>* exact = nullptr;  // of A, for edits
  const kernels::GemmKernels<A>* exact_gemm = nullptr;  // of A, for mixing
  // Talking heads: [n_heads, n_heads] by (from, to), of scores and of weights; null: not mixed.
  const A *mix_scores = nullptr, *mix_weights = nullptr;
  kernels::Dropout dropout;
  const T* q = nullptr;  // [n_q, n_heads * width], rows q_stride apart
  int64_t n_q = 0, q_stride = 0;
  std::vector<Sequence<T>> sequences;

  int64_t d_v() const { return heads.value_width(); }
  const T* query(const Sequence<T>& s, int64_t h, int64_t i) const {
    return q + (s.q_begin + i) * q_stride + h * width;
  }
  const T* relative_query(const Sequence<T>& s, int64_t h, int64_t i) const {
    return relative_keys.q + (s.q_begin + i) * relative_keys.q_stride + h * width;
  }
  const T* key(const Sequence<T>& s, int64_t kv_head, int64_t j) const {
    return s.k + j * s.k_stride + kv_head * width;
  }
  const T* value(const Sequence<T>& s, int64_t kv_head, int64_t j) const {
    return s.v + j * s.v_stride + kv_head * d_v();
  }
  A dropout_scale() const { return dropout.threshold ? static_cast<A>(dropout.scale()) : A(1); }
  bool talks() const { return mix_scores || mix_weights; }
  bool needs_rows() const { return talks() || normalizer->blockwise() == Normalizer::Blockwise::kNone; }
  bool passes_gradients() const {
    return std::all_of(edits.begin(), edits.end(), [](const Edit* e) { return e->passes_gradients(); });
  }
};

/// The keys that no mask rules out for queries i0 .. i0 + rows - 1. Nothing visible comes back as {0, 0}.
inline KeyRange visible_keys(std::span<const Mask* const> masks, int64_t batch, int64_t i0, int64_t rows,
                             int64_t kv_len) {
  KeyRange all{0, kv_len};
  for (const Mask* mask : masks) {
    const KeyRange one = mask->visible_keys(batch, i0, rows, kv_len);
    all = {std::max(all.begin, one.begin), std::min(all.end, one.end)};
  }
  return all.begin < all.end ? all : KeyRange{};
}

/// What all masks together show of a tile.
class TileMask {
 public:
  /// kSome: words() says which pairs.
  Sight look(std::span<const Mask* const> masks, const TilePlace& tile) {
    some_ = false;
    for (const Mask* mask : masks) {
      const Sight sight = mask->sight(tile);
      if (sight == Sight::kNone) return sight;
      if (sight == Sight::kAll) continue;
      mask->visible(tile, some_ ? one_ : words_);
      if (some_)
        for (int64_t r = 0; r < tile.rows; ++r) words_[r] &= one_[r];
      some_ = true;
    }
    if (!some_) return Sight::kAll;
    uint64_t any = 0;
    for (int64_t r = 0; r < tile.rows; ++r) any |= words_[r];
    return (any & low_bits(tile.cols)) != 0 ? Sight::kSome : Sight::kNone;
  }
  /// Null where everything is visible.
  const uint64_t* words() const { return some_ ? words_ : nullptr; }
  bool shows(int64_t r, int64_t c) const { return !some_ || (words_[r] >> c & 1) != 0; }

 private:
  uint64_t words_[64], one_[64];
  bool some_ = false;
};

/// Gradients of numbers that each head has of its own: a partial sum for each sequence, zeros at first.
template <class A>
struct HeadSums {
  A* sums = nullptr;  // [n_sequences, n_heads, size], or null: nothing to train
  int64_t n_heads = 0, size = 0;
  A* of(int64_t sequence, int64_t head) const {
    return sums ? sums + (sequence * n_heads + head) * size : nullptr;
  }
};

/// What forward fills. `rows` may be null where nobody will ask for weights or gradients.
template <class T>
struct Result {
  T* out = nullptr;                            // [n_q, n_heads * d_v], contiguous
  kernels::RowSoftmax<accumulator_t<T>> rows;  // [n_heads, n_q]; of other normalizers 0 and 1
};

/// What backward reads and fills. All contiguous; dq like q prepared, dk and dv like k prepared and v.
template <class T>
struct Gradients {
  const T *out = nullptr, *dout = nullptr;        // [n_q, n_heads * d_v]
  kernels::RowSoftmax<accumulator_t<T>> rows;     // [n_heads, n_q]
  T *dq = nullptr, *dk = nullptr, *dv = nullptr;  // dq, dk null for kUniform
  // Of relative_keys.q, like q (null: it is q itself, dq has it), and of the rows of relative keys and
  // values: [n_sequences, n_heads, n_rows * width or d_v].
  T* d_relative_q = nullptr;
  HeadSums<accumulator_t<T>> d_relative_keys, d_relative_values;
  HeadSums<accumulator_t<T>> d_tanh_v, d_normalizer, d_mix_scores, d_mix_weights;
  std::vector<HeadSums<accumulator_t<T>>> d_edits;  // one for each of the problem's edits
};

// paths/reference.cc
template <class T>
void reference_forward(const Problem<T>& problem, const Result<T>& result);
template <class T>
void reference_backward(const Problem<T>& problem, const Gradients<T>& gradients);
// paths/decode.cc
constexpr int64_t kDecodeRows = 8;  // query rows to a key/value head up to which it is the faster one
template <class T>
void decode_forward(const Problem<T>& problem, const Result<T>& result);
// paths/blocked.cc, paths/blocked_backward.cc
template <class T>
void blocked_forward(const Problem<T>& problem, const Result<T>& result);
template <class T>
void blocked_backward(const Problem<T>& problem, const Gradients<T>& gradients);
// paths/row_blocks.cc
template <class T>
void row_blocks_forward(const Problem<T>& problem, const Result<T>& result);
template <class T>
void row_blocks_backward(const Problem<T>& problem, const Gradients<T>& gradients);

/// Exact weights of query rows i .. i + rows - 1 (of the sequence; rows <= 64) of one head: attn_weights[r]
/// is row r's place for kv_len numbers. From q, k and the rows' softmax, in paths/weights.cc; and from
/// whole rows, where they are needed, in paths/row_blocks.cc.
template <class T>
void row_blocks_weights(const Problem<T>& problem, const Sequence<T>& sequence, int64_t head, int64_t i,
                        int64_t rows, float* const* attn_weights);
template <class T>
void attention_weights(const Problem<T>& problem, const Sequence<T>& sequence, int64_t head, int64_t i,
                       int64_t rows, kernels::RowSoftmax<accumulator_t<T>> softmax,
                       float* const* attn_weights);

}  // namespace qkv::paths
