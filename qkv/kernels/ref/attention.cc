// The definition of what attention does to a tile of scores, for every T: plain loops, sums in order.

#include "qkv/kernels/attention.h"

#include <cmath>
#include <limits>

#include "qkv/kernels/table.h"

namespace qkv::kernels {
namespace {

bool has(const uint64_t* words, int64_t r, int64_t c) { return !words || (words[r] >> c & 1) != 0; }

template <class T>
struct Attention {
  using A = accumulator_t<T>;
  static constexpr A kMasked = -std::numeric_limits<A>::infinity();

  // Scaled, or -inf where it is not visible.
  template <class Tile>
  static A score(const Tile& t, int64_t r, int64_t c) {
    return has(t.visible, r, c) ? t.scale * t.s[r * t.stride + c] : kMasked;
  }

  static void softmax_tile(const SoftmaxTile<T>& t) noexcept {
    for (int64_t r = 0; r < t.rows; ++r) {
      T* p = t.p + r * t.p_stride;
      A max = t.max[r];
      for (int64_t c = 0; c < t.cols; ++c) max = score(t, r, c) > max ? score(t, r, c) : max;
      // -inf - -inf is NaN: a row that has seen no key is measured from 0 instead, where exp(-inf) is 0.
      const A base = max == kMasked ? 0 : max;
      A sum = 0;
      for (int64_t c = 0; c < t.cols; ++c) {
        const A x = std::exp(score(t, r, c) - base);
        sum += x;
        p[c] = T(has(t.keep, r, c) ? x : A(0));
      }
      t.correction[r] = max == t.max[r] ? A(1) : std::exp(t.max[r] - base);
      t.sum[r] = t.sum[r] * t.correction[r] + sum;
      t.max[r] = max;
    }
  }

  static void softmax_tile_backward(const SoftmaxTileBackward<T>& t) noexcept {
    for (int64_t r = 0; r < t.rows; ++r) {
      for (int64_t c = 0; c < t.cols; ++c) {
        const A x = score(t, r, c), w = x == kMasked ? A(0) : std::exp(x - t.max[r]) * t.share[r];
        const bool k = has(t.keep, r, c);
        t.p[r * t.p_stride + c] = T(k ? w : A(0));
        const A dw = k ? t.keep_scale * t.dp[r * t.stride + c] : A(0);
        store_ds(t, r, c, w == 0 ? A(0) : w * (dw - t.delta[r]));
      }
    }
  }

  template <class Tile>
  static void store_ds(const Tile& t, int64_t r, int64_t c, A ds) {
    if (t.exact_ds)
      t.exact_ds[r * t.stride + c] = ds;
    else
      t.ds[r * t.p_stride + c] = T(ds);
  }

  static A sigmoid(const SigmoidTile<T>& t, int64_t r, int64_t c) {
    return has(t.visible, r, c) ? 1 / (1 + std::exp(-(t.scale * t.s[r * t.stride + c] + t.shift))) : A(0);
  }

  static void sigmoid_tile(const SigmoidTile<T>& t) noexcept {
    for (int64_t r = 0; r < t.rows; ++r)
      for (int64_t c = 0; c < t.cols; ++c)
        t.p[r * t.p_stride + c] = T(has(t.keep, r, c) ? sigmoid(t, r, c) : A(0));
  }

  static void sigmoid_tile_backward(const SigmoidTile<T>& t) noexcept {
    for (int64_t r = 0; r < t.rows; ++r)
      for (int64_t c = 0; c < t.cols; ++c) {
        const A w = sigmoid(t, r, c);
        const bool k = has(t.keep, r, c) && w != 0;
        t.p[r * t.p_stride + c] = T(k ? w : A(0));
        store_ds(t, r, c, k ? w * (1 - w) * (t.keep_scale * t.dp[r * t.stride + c]) : A(0));
      }
  }

  static void add_diagonals(int64_t rows, int64_t cols, const A* bias, A* s, int64_t stride) noexcept {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < cols; ++c) s[r * stride + c] += bias[c - r];
  }

  static void sum_diagonals(int64_t rows, int64_t cols, const A* ds, int64_t stride, A* sums) noexcept {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < cols; ++c) sums[c - r] += ds[r * stride + c];
  }

  static void soft_cap(int64_t rows, int64_t cols, A cap, A* s, int64_t stride) noexcept {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < cols; ++c) s[r * stride + c] = cap * std::tanh(s[r * stride + c] / cap);
  }

  static void soft_cap_backward(int64_t rows, int64_t cols, A cap, const A* s, A* ds,
                                int64_t stride) noexcept {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < cols; ++c) {
        const A share = s[r * stride + c] / cap;
        if (ds[r * stride + c] != 0) ds[r * stride + c] *= 1 - share * share;
      }
  }

  static void merge_rows(int64_t rows, int64_t d, const GatheredRows<A>& from,
                         const GatheredRows<A>& into) noexcept {
    for (int64_t r = 0; r < rows; ++r) {
      const A max = into.max[r] < from.max[r] ? from.max[r] : into.max[r];
      const A a = max == into.max[r] ? A(1) : std::exp(into.max[r] - max);
      const A b = max == from.max[r] ? A(1) : std::exp(from.max[r] - max);
      into.sum[r] = a * into.sum[r] + b * from.sum[r];
      for (int64_t i = r * d; i < (r + 1) * d; ++i) into.o[i] = a * into.o[i] + b * from.o[i];
      into.max[r] = max;
    }
  }

  static void scale_rows(int64_t rows, int64_t d, const A* factor, A* x, int64_t ld) noexcept {
    for (int64_t r = 0; r < rows; ++r)
      if (factor[r] != 1)
        for (int64_t i = 0; i < d; ++i) x[r * ld + i] *= factor[r];
  }

  static void store_rows(int64_t rows, int64_t d, const A* factor, const A* x, int64_t ldx, T* y,
                         int64_t ldy) noexcept {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t i = 0; i < d; ++i) y[r * ldy + i] = T(x[r * ldx + i] * factor[r]);
  }

  static void dequantise_rows(int64_t rows, int64_t d, const int8_t* x, int64_t ldx, const float* scale,
                              int64_t lds, T* y, int64_t ldy) noexcept {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t i = 0; i < d; ++i) y[r * ldy + i] = T(A(scale[r * lds]) * A(x[r * ldx + i]));
  }

  static void widen_rows(int64_t rows, int64_t d, const bfloat16* x, int64_t ldx, T* y,
                         int64_t ldy) noexcept {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t i = 0; i < d; ++i) y[r * ldy + i] = T(A(float(x[r * ldx + i])));
  }

  static void row_dots(int64_t rows, int64_t d, const T* x, int64_t ldx, const T* y, int64_t ldy,
                       A* out) noexcept {
    for (int64_t r = 0; r < rows; ++r) {
      A sum = 0;
      for (int64_t i = 0; i < d; ++i) sum += A(x[r * ldx + i]) * A(y[r * ldy + i]);
      out[r] = sum;
    }
  }

  static bool all_finite(int64_t rows, int64_t cols, const T* x, int64_t ld) noexcept {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < cols; ++c)
        if (!std::isfinite(A(x[r * ld + c]))) return false;
    return true;
  }

  static void dropout_keep(int64_t n, uint64_t first, uint64_t step, const Dropout& dropout,
                           uint64_t* keep) noexcept {
    for (int64_t i = 0; i < n; ++i) {
      const uint64_t group = first + static_cast<uint64_t>(i) * step;
      keep[2 * i] = keep[2 * i + 1] = 0;
      for (uint64_t block = 0; block < 16; ++block) {
        const auto words = random_block(dropout.key, 16 * group + block);
        for (uint64_t w = 0; w < 4; ++w)
          for (uint64_t half = 0; half < 2; ++half) {
            const uint64_t e = 32 * w + 2 * block + half;
            if ((words[w] >> (16 * half) & 0xffff) >= dropout.threshold)
              keep[2 * i + e / 64] |= uint64_t{1} << (e % 64);
          }
      }
    }
  }

  static void additive_tile(int64_t rows, int64_t cols, int64_t d, const T* q, int64_t ldq, const T* k,
                            int64_t ldk, const A* v, A* s, int64_t stride) noexcept {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < cols; ++c) {
        A sum = 0;
        for (int64_t i = 0; i < d; ++i) sum += v[i] * std::tanh(A(q[r * ldq + i]) + A(k[c * ldk + i]));
        s[r * stride + c] = sum;
      }
  }

  static void additive_tile_backward(int64_t rows, int64_t cols, int64_t d, const T* q, int64_t ldq,
                                     const T* k, int64_t ldk, const A* v, const T* ds, int64_t stride, A* dq,
                                     int64_t lddq, A* dk, int64_t lddk, A* dv) noexcept {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < cols; ++c) {
        const A g = A(ds[r * stride + c]);
        if (g == 0) continue;
        for (int64_t i = 0; i < d; ++i) {
          const A t = std::tanh(A(q[r * ldq + i]) + A(k[c * ldk + i]));
          const A dx = g * v[i] * (1 - t * t);
          dv[i] += g * t;
          dq[r * lddq + i] += dx;
          dk[c * lddk + i] += dx;
        }
      }
  }

  static AttentionKernels<T> all() {
    return {.softmax_tile = softmax_tile,
            .softmax_tile_backward = softmax_tile_backward,
            .sigmoid_tile = sigmoid_tile,
            .sigmoid_tile_backward = sigmoid_tile_backward,
            .add_diagonals = add_diagonals,
            .sum_diagonals = sum_diagonals,
            .soft_cap = soft_cap,
            .soft_cap_backward = soft_cap_backward,
            .merge_rows = merge_rows,
            .scale_rows = scale_rows,
            .store_rows = store_rows,
            .dequantise_rows = dequantise_rows,
            .widen_rows = widen_rows,
            .row_dots = row_dots,
            .all_finite = all_finite,
            .dropout_keep = dropout_keep,
            .additive_tile = additive_tile,
            .additive_tile_backward = additive_tile_backward};
  }
};

}  // namespace

void extend_attention_ref(Table& table) {
  table.f64.attention = Attention<double>::all();
  table.f32.attention = Attention<float>::all();
  table.bf16.attention = Attention<bfloat16>::all();
}

}  // namespace qkv::kernels
