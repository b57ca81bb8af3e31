#pragma once
// Packing B, for every family but ref. B becomes panels of kLanes columns; a panel is [steps, kLanes] words
// of 32 bits without gaps, where a word is one float, or the bfloat16 of two consecutive k (the lower k in
// the lower half; a missing one is zero): what FMA, vdpbf16ps and AMX ("VNNI order") all want to load.
// Columns beyond n are zero, and so are the steps that fill up a panel's number of steps to a multiple of
// kPadSteps (AMX multiplies 32 k at a time). Ranges of columns do not touch each other's panels, so threads
// may pack them side by side.
//
// P describes the words of one family and type:
//   P::T, P::kLanes, P::kStepK (k of one word), P::kPadSteps, P::Words (kLanes words)
//   P::from_rows(src, src_is_t, row_stride, at)      the words of kLanes columns of one step: source rows run
//   along n P::from_column(src, src_is_t, at)                 kLanes steps of one column: source columns run
//   along k P::transpose(Words[kLanes]), P::store(uint32_t*, Words), P::word(src, src_is_t, at0, at1 or -1)

#include <algorithm>
#include <cstdint>

#include "qkv/kernels/gemm.h"
#include "qkv/kernels/simd/gemm_blocking.h"

namespace qkv::kernels {

template <class P>
struct Pack {
  using T = typename P::T;
  static constexpr int64_t kLanes = P::kLanes, kStepK = P::kStepK;

  static int64_t steps_of(int64_t k) { return round_up((k + kStepK - 1) / kStepK, P::kPadSteps); }
  static int64_t packed_bytes(int64_t k, int64_t n) noexcept { return steps_of(k) * round_up(n, kLanes) * 4; }

  static void plain(const PackB<T>& args, int64_t c0, int64_t step0, int64_t step1,
                    uint32_t* panel) noexcept {
    for (int64_t step = step0; step < step1; ++step)
      for (int64_t j = 0; j < kLanes; ++j) {
        const int64_t c = c0 + j, r = step * kStepK;
        const int64_t at = r * args.row_stride + c * args.col_stride;
        const bool two = kStepK == 2 && r + 1 < args.k;
        panel[step * kLanes + j] = c < args.n && r < args.k
                                       ? P::word(args.src, args.src_is_t, at, two ? at + args.row_stride : -1)
                                       : 0u;
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
          for (; s < full; ++s)
            P::store(panel + s * kLanes, P::from_rows(args.src, args.src_is_t, args.row_stride,
                                                      s * kStepK * args.row_stride + c0));
        } else if (c0 + kLanes <= args.n && along_k) {
          for (; s + kLanes <= full; s += kLanes) {
            typename P::Words w[kLanes];
            for (int64_t j = 0; j < kLanes; ++j)
              w[j] = P::from_column(args.src, args.src_is_t, (c0 + j) * args.col_stride + s * kStepK);
            P::transpose(w);
            for (int64_t j = 0; j < kLanes; ++j) P::store(panel + (s + j) * kLanes, w[j]);
          }
        }
        plain(args, c0, s, s1, panel);
      }
    }
  }
};

}  // namespace qkv::kernels
