#pragma once
// Int8Kernels (kernels/gemm_int8.h) over vectors: packing, the products' epilogue, and how a row becomes
// integers. The loops and the tile of sums in registers are those of gemm_blocking.h and gemm_register.h; a
// step of k is a word of four.
//
//   I        a vector of int32 with the face of Vec where sums are concerned: load and store through float*
//   V, W     the family's Vec and GemmWords

#include <cstdint>
#include <limits>

#include "qkv/kernels/gemm_int8.h"
#include "qkv/kernels/simd/gemm_peak.h"
#include "qkv/kernels/simd/gemm_register.h"
#include "qkv/kernels/simd/math.h"

namespace qkv::kernels::simd {

/// B [k, n] in panels of kLanes columns: words of four k, one word for each column, then the next four k;
/// zeros where k or n end. After them each column's sum, in int32.
template <class W, int64_t kPadSteps = 1>
struct PackInt8Words {
  static constexpr int64_t kLanes = W::kLanes;

  static int64_t steps_of(int64_t k) { return round_up((k + 3) / 4, kPadSteps); }
  static int64_t word_bytes(int64_t k, int64_t n) { return steps_of(k) * round_up(n, kLanes) * 4; }
  static int64_t packed_bytes(int64_t k, int64_t n) noexcept {
    return word_bytes(k, n) + round_up(n, kLanes) * 4;
  }
  static const int32_t* column_sums(const void* b, int64_t k, int64_t n) {
    return reinterpret_cast<const int32_t*>(static_cast<const uint8_t*>(b) + word_bytes(k, n));
  }

  static void pack_b(const PackInt8& args) noexcept {
    const int64_t steps = steps_of(args.k), whole = args.k / 4;
    int32_t* sums = const_cast<int32_t*>(column_sums(args.dst, args.k, args.n));
    for (int64_t c0 = args.n_begin; c0 < args.n_end; c0 += kLanes) {
      uint8_t* panel = static_cast<uint8_t*>(args.dst) + c0 * steps * 4;
      const int64_t columns = std::min(kLanes, args.n - c0);
      const int8_t* src = args.src + c0 * args.lds;
      int64_t s = 0;
      for (; s + kLanes <= whole; s += kLanes) {
        W w[kLanes];
        unrolled<kLanes>(
            [&](auto j) { w[j] = j < columns ? W::load(src + j * args.lds + s * 4) : W::zero(); });
        W::transpose(w);
        unrolled<kLanes>([&](auto j) { w[j].store(panel + (s + j) * kLanes * 4); });
      }
      for (; s < steps; ++s)
        for (int64_t j = 0; j < kLanes; ++j)
          for (int64_t b = 0; b < 4; ++b)
            panel[(s * kLanes + j) * 4 + b] =
                j < columns && s * 4 + b < args.k ? static_cast<uint8_t>(src[j * args.lds + s * 4 + b]) : 0;
      for (int64_t j = 0; j < kLanes; ++j) {
        int32_t sum = 0;
        for (int64_t p = 0; j < columns && p < args.k; ++p) sum += src[j * args.lds + p];
        sums[c0 + j] = sum;
      }
    }
  }
};

/// Sums of (X + offset) W in L1, rows ld apart, to C.
template <class I, class V, class T>
void dequantise(const Int8Gemm<T>& g, int32_t offset, const int32_t* column_sums, const float* sums,
                int64_t ld, int64_t row0, int64_t rows, int64_t col0, int64_t cols) noexcept {
  with_activation(g.activation, [&]<class F>(F) {
    for (int64_t i = 0; i < rows; ++i, sums += ld) {
      const V scale = V::set(g.a_scales[row0 + i]);
      const I zero = I::set(static_cast<uint32_t>(g.a_zeros[row0 + i] + offset));
      const int64_t first = (row0 + i) * g.ldc + col0;
      T* c = g.c + first;
      const T* residual = g.residual ? g.residual + first : nullptr;
      each<V, 1>(cols, [&](int, int64_t j, auto at) {
        const I sum = I::load(sums + j) - zero * I::load(column_sums + col0 + j);
        V x = sum.to_float() * (scale * at.load(g.b_scales + col0 + j));
        if (g.bias) x = x + at.load(g.bias + col0 + j);
        x = F::value(x);
        if (residual) x = x + at.load(residual + j);
        at.store(c + j, x);
      });
    }
  });
}

template <class V, class T>
void quantise_rows(int64_t rows, int64_t k, const T* x, int64_t ldx, int8_t* q, int64_t ldq, float* scales,
                   int32_t* zeros) noexcept {
  for (int64_t r = 0; r < rows; ++r, x += ldx, q += ldq) {
    V above[4], below[4], nothing[4];  // nothing: 0 x, NaN where x is not finite
    unrolled<4>([&](auto n) { above[n] = below[n] = nothing[n] = V::zero(); });
    each<V, 4>(k, [&](int n, int64_t c, auto at) {
      const V one = at.load(x + c);
      above[n] = max(one, above[n]);
      below[n] = max(V::zero() - one, below[n]);
      nothing[n] = nothing[n] + one * V::zero();
    });
    const float high = reduce_max(largest(above)), low = -reduce_max(largest(below));
    const float most = high > -low ? high : -low, step = zeros ? high / 255 - low / 255 : most / 127;
    const bool finite = reduce_add(total(nothing)) == 0;
    const bool counts = finite && most >= kInt8Least;
    scales[r] = counts ? step : finite ? 0.0f : std::numeric_limits<float>::quiet_NaN();
    const V factor = V::set(counts ? 1 / step : 0);
    const V zero = counts && zeros ? round(V::set(-128) - V::set(low) * factor) : V::zero();
    if (zeros) zeros[r] = static_cast<int32_t>(first_lane(zero));
    const V bottom = V::set(zeros ? -128 : -127), top = V::set(127);
    each<V, 1>(k, [&](int, int64_t c, auto at) {
      const V one = min(max(round(at.load(x + c) * factor) + zero, bottom), top);
      at.store(q + c, counts ? one : V::zero());
    });
  }
}

/// The part of a Product whose sums are integers. Y: the type of C. kOffset: what stage() adds to X.
template <class I, class V, class YType, class Packing, int32_t kOffset = 0>
struct Int8Sums {
  using T = int8_t;
  using Y = YType;
  using Vec = I;
  using Float = V;
  using Packed = Packing;
  using Args = Int8Gemm<Y>;
  using Left = uint32_t;
  using Right = uint32_t;
  static float* sums_go_to(const Args&) { return nullptr; }
  static bool adds(const Args&) { return false; }
  static void finish(const Args& g, const float* sums, int64_t ld, int64_t row0, int64_t rows, int64_t col0,
                     int64_t cols) noexcept {
    dequantise<I, V>(g, kOffset, Packed::column_sums(g.b, g.k, g.n), sums, ld, row0, rows, col0, cols);
  }
  static I left(const uint32_t* a) { return I::set(*a); }
};

/// Bytes widened to 16 bits and multiplied by pairs, for CPUs without a dot product of bytes: exact, where
/// vpmaddubsw would saturate.
template <class I, class V, class W, class Y>
struct Int8Pairs : Int8Sums<I, V, Y, PackInt8Words<W>> {
  static constexpr int kSubs = 2;
  template <int s>
  static I right(const uint32_t* b) {
    return s == 0 ? I::load(b).even_bytes() : I::load(b).odd_bytes();
  }
  static I multiply_add(I a, I b, I sum) { return sum + multiply_pairs(a, b); }
  static void stage(uint32_t* dst, const int8_t* src, int64_t k) {
    const auto half = [&](int64_t p) { return p < k ? static_cast<uint16_t>(int16_t{src[p]}) : uint16_t{0}; };
    int64_t p = 0;
    for (; p + 2 * I::kLanes <= k; p += 2 * I::kLanes, dst += I::kLanes)
      I::even_and_odd_bytes(src + p).store(dst);
    for (; p < k; p += 4, dst += 2) {
      dst[0] = half(p) | uint32_t{half(p + 2)} << 16;
      dst[1] = half(p + 1) | uint32_t{half(p + 3)} << 16;
    }
  }
};

/// Product (gemm_register.h): T = int8_t, Args = Int8Gemm<Y>.
template <class Product>
auto int8_kernels() {
  using Y = typename Product::Y;
  using Packed = typename Product::Packed;
  return Int8Kernels<Y>{.block_m = RegisterKernel<Product>::kRows,
                        .block_n = 2 * Packed::kLanes,
                        .packed_bytes = Packed::packed_bytes,
                        .pack_b = Packed::pack_b,
                        .run = run_blocked<RegisterKernel<Product>>,
                        .quantise_rows = quantise_rows<typename Product::Float, Y>,
                        .peak = peak<Product>};
}

}  // namespace qkv::kernels::simd
