#pragma once
// The one engine under all mixers, in raw pointers of one element type (docs/math/mixers.md):
//
//   S_t = diag(a_t) S_{t-1} + k_t v_t^T      o_t = f_t q_t S_t
//
// for each sequence and key/value head; a query head reads the state of its key/value head. f_t is `scale`,
// or 1 / (q_t z_t) where the mixer is normalised, z_t = a_t z_{t-1} + k_t.

#include <limits>
#include <vector>

#include "qkv/attention/heads.h"
#include "qkv/base/segments.h"
#include "qkv/kernels/table.h"

namespace qkv::recurrence {

/// Tokens whose pairs are scored by products. 64 x 64 scores and a 64 x 64 state share the first-level cache;
/// and below 64 the products with the state, two of a chunk's four, would dominate.
constexpr int64_t kChunk = 64;
/// With a decay for each feature, pairs nearer than this are scored one by one.
constexpr int64_t kBlock = 16;

template <class T>
struct Problem {
  using A = accumulator_t<T>;

  const kernels::KernelsFor<T>* kernels = nullptr;
  const kernels::KernelsFor<A>* exact = nullptr;
  HeadSizes heads;
  int64_t width = 0;  // of a prepared query or key
  bool causal = true, normalised = false;
  A scale = 1;
  const T *q = nullptr, *k = nullptr, *v = nullptr;
  int64_t q_stride = 0, k_stride = 0, v_stride = 0;
  /// a of row r and kv head h: decay_width numbers (1 or width) at decay + r decay_stride + h decay_width;
  /// null: no decay. decay_stride 0: the same for all tokens.
  const A* decay = nullptr;
  int64_t decay_stride = 0, decay_width = 1;
  const Segments *queries = nullptr, *keys = nullptr;
  /// Empty: all begin with nothing and end is not kept. Else each sequence's state, read and replaced.
  std::vector<A*> states;

  int64_t d_v() const { return heads.value_width(); }
  /// A state of one kv head: S [width, d_v], then z [width].
  int64_t state_size() const { return width * (d_v() + 1); }
  bool by_feature() const { return decay != nullptr && decay_width > 1; }
  A* state(int64_t b, int64_t kv_head) const {
    return states.empty() ? nullptr : states[static_cast<size_t>(b)] + kv_head * state_size();
  }
  const A* decays(int64_t row, int64_t kv_head) const {
    return decay ? decay + row * decay_stride + kv_head * decay_width : nullptr;
  }
  const T* query(int64_t row, int64_t h) const { return q + row * q_stride + h * width; }
  const T* key(int64_t row, int64_t kv_head) const { return k + row * k_stride + kv_head * width; }
  const T* value(int64_t row, int64_t kv_head) const { return v + row * v_stride + kv_head * d_v(); }
};

/// factor is f above, [n_heads, n_q]; null where nobody wants it.
template <class T>
struct Result {
  T* out = nullptr;  // [n_q, n_heads * d_v], contiguous
  accumulator_t<T>* factor = nullptr;
};

/// All contiguous, in the shapes of q, k, v and the decays.
template <class T>
struct Gradients {
  const T *out = nullptr, *dout = nullptr;
  const accumulator_t<T>* factor = nullptr;
  T *dq = nullptr, *dk = nullptr, *dv = nullptr;
  T* d_log_decay = nullptr;  // null: not wanted
};

/// 1 / den, or 0 where a query has seen nothing whose weight is a normal number.
template <class A>
A reciprocal_or_zero(A den) {
  return den < std::numeric_limits<A>::min() ? A(0) : A(1) / den;  // NaN stays NaN
}

// All of these do one sequence and key/value head, and return the floating-point operations done: no sum
// crosses two of them, so how they are spread over threads changes no bit.

// chunked.cc, chunked_backward.cc: what training and prompts run. Backward begins without a state.
template <class T>
int64_t chunked_forward(const Problem<T>& problem, int64_t b, int64_t kv_head, const Result<T>& result);
template <class T>
int64_t chunked_backward(const Problem<T>& problem, int64_t b, int64_t kv_head,
                         const Gradients<T>& gradients);
// step.cc: the recurrence as it stands above, a token at a time; the problem is causal and has states.
template <class T>
int64_t recurrent_forward(const Problem<T>& problem, int64_t b, int64_t kv_head, const Result<T>& result);

}  // namespace qkv::recurrence
