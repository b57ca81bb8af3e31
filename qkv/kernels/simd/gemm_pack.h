#pragma once
// Packing B, for every family but ref. B becomes panels of kLanes columns; a panel is [steps, kLanes] words
// of 32 bits without gaps, where a word is one float, or the bfloat16 of two consecutive k (the lower k in
// the lower half; a missing one is zero): what FMA, vdpbf16ps and AMX ("VNNI order") all want to load.
// Columns beyond n are zero, and so are the steps that fill up a panel's number of steps to a multiple of
// kPadSteps (AMX multiplies 32 k at a time). Ranges of columns do not touch each other's panels, so threads
// may pack them side by side.
//
// W is a family's vector of words (GemmWords in avx2/ and avx512/gemm_words.h); T is float or bfloat16.

#include <algorithm>
#include <bit>
#include <cstdint>

#include "qkv/base/bfloat16.h"
#include "qkv/kernels/gemm.h"
#include "qkv/kernels/simd/gemm_blocking.h"
#include "qkv/kernels/simd/loops.h"

namespace qkv::kernels::simd {

template <class T, class W, int64_t kPadSteps = 1>
struct Pack {
  static constexpr int64_t kLanes = W::kLanes, kStepK = 4 / sizeof(T);  // k of one word

  static int64_t steps_of(int64_t k) { return round_up((k + kStepK - 1) / kStepK, kPadSteps); }
  static int64_t packed_bytes(int64_t k, int64_t n) noexcept { return steps_of(k) * round_up(n, kLanes) * 4; }

  static const float* masters(const PackB<T>& args) { return static_cast<const float*>(args.src); }
  static const bfloat16* rounded(const PackB<T>& args) { return static_cast<const bfloat16*>(args.src); }

  /// kLanes elements of the source from `at` on as bfloat16.
  static auto halves(const PackB<T>& args, int64_t at) {
    return args.src_is_t ? W::halves(rounded(args) + at) : W::halves(masters(args) + at);
  }
  /// The words of kLanes columns of one step, where the source's rows run along n.
  static W from_rows(const PackB<T>& args, int64_t at) {
    if constexpr (kStepK == 1)
      return W::load(masters(args) + at);
    else
      return W::pairs(halves(args, at), halves(args, at + args.row_stride));
  }
  /// kLanes steps of one column, where the source's columns run along k.
  static W from_column(const PackB<T>& args, int64_t at) {
    if constexpr (kStepK == 1)
      return W::load(masters(args) + at);
    else
      return W::joined(halves(args, at), halves(args, at + kLanes));
  }

  /// Element (r, c) of B as bits; zero outside it.
  static uint32_t bits(const PackB<T>& args, int64_t r, int64_t c) {
    if (r >= args.k || c >= args.n) return 0;
    const int64_t at = r * args.row_stride + c * args.col_stride;
    if constexpr (kStepK == 1)
      return std::bit_cast<uint32_t>(masters(args)[at]);
    else
      return (args.src_is_t ? rounded(args)[at] : bfloat16(masters(args)[at])).bits;
  }
  static void plain(const PackB<T>& args, int64_t c0, int64_t step0, int64_t step1,
                    uint32_t* panel) noexcept {
    for (int64_t step = step0; step < step1; ++step)
      for (int64_t j = 0; j < kLanes; ++j) {
        uint32_t word = bits(args, step * kStepK, c0 + j);
        if constexpr (kStepK == 2) word |= bits(args, step * kStepK + 1, c0 + j) << 16;
        panel[step * kLanes + j] = word;
      }
  }

  static void pack_b(const PackB<T>& args) noexcept {
    const int64_t steps = steps_of(args.k), whole = args.k / kStepK;
    const bool along_n = args.col_stride == 1, along_k = args.row_stride == 1;
    // Rows of the source that run along n are read a few at a time over the whole width, so that they stream.
    const int64_t strip = along_n ? 16 : round_up(std::max<int64_t>(steps, 1), kLanes);
    for (int64_t s0 = 0; s0 < steps; s0 += strip) {
      const int64_t s1 = std::min(steps, s0 + strip), full = std::min(s1, whole);
      for (int64_t c0 = args.n_begin; c0 < args.n_end; c0 += kLanes) {
        uint32_t* panel = static_cast<uint32_t*>(args.dst) + c0 * steps;
        int64_t s = s0;
        if (c0 + kLanes <= args.n && along_n) {
          for (; s < full; ++s) from_rows(args, s * kStepK * args.row_stride + c0).store(panel + s * kLanes);
        } else if (along_k) {
          // The keys of a short sentence do not fill a panel: the missing columns are zero.
          const int64_t columns = std::min(kLanes, args.n - c0);
          for (; s + kLanes <= full; s += kLanes) {
            W w[kLanes];
            unrolled<kLanes>([&](auto j) {
              w[j] = j < columns ? from_column(args, (c0 + j) * args.col_stride + s * kStepK) : W::zero();
            });
            W::transpose(w);
            unrolled<kLanes>([&](auto j) { w[j].store(panel + (s + j) * kLanes); });
          }
        }
        plain(args, c0, s, s1, panel);
      }
    }
  }
};

}  // namespace qkv::kernels::simd
