#pragma once
// Philox4x32-10 (base/philox.h) for the 16 blocks that decide 128 places of dropout (rows.h).
//
// A block's four words live in the lower halves of 64-bit lanes, where the multiplier wants and leaves them;
// the upper halves are never read, so a round is two products, two shifts and two three-way exclusive ors.
// Blocks of even and of odd number are kept apart and meet only at the end, when an odd one fills the upper
// halves of the lane of the even one before it: the 32 bits then lie in order of place.

#include <cstdint>

#include "qkv/base/philox.h"

namespace qkv::kernels::simd {

/// The parts of the key schedule that a whole call shares.
struct PhiloxKeys {
  uint32_t k0[10], k1[10];
  uint32_t stream, step;

  explicit PhiloxKeys(const RandomKey& key) : stream(key.stream), step(key.step) {
    uint32_t a = static_cast<uint32_t>(key.seed), b = static_cast<uint32_t>(key.seed >> 32);
    for (int round = 0; round < 10; ++round, a += 0x9E3779B9u, b += 0xBB67AE85u) {
      k0[round] = a;
      k1[round] = b;
    }
  }
};

/// One counter per lane: c[0] differs by lane, the rest is common.
template <class W>
inline void philox_lanes(W c0, uint32_t high, const PhiloxKeys& keys, W (&out)[4]) {
  W c1 = W::set(high), c2 = W::set(keys.stream), c3 = W::set(keys.step);
#pragma GCC unroll 10
  for (int round = 0; round < 10; ++round) {
    const W p0 = product(c0, W::set(0xD2511F53u)), p1 = product(c2, W::set(0xCD9E8D57u));
    c0 = xor3(upper(p1), c1, W::set(keys.k0[round]));
    c2 = xor3(upper(p0), c3, W::set(keys.k1[round]));
    c1 = p1;
    c3 = p0;
  }
  out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

/// Which of the places 128 g .. 128 g + 127 are kept. keep(j) is the mask of the j-th vector of them.
template <class V, class W, class Halves>
struct KeptPlaces {
  static constexpr int kParts = 8 / W::kLanes;  // a part is 2 * W::kLanes blocks
  Halves halves[4][kParts];

  KeptPlaces(const PhiloxKeys& keys, uint64_t g, uint32_t threshold) {
    const uint64_t block = 16 * g;  // a multiple of 16: adding a lane's number carries nothing
#pragma GCC unroll 2
    for (int part = 0; part < kParts; ++part) {
      const W even = W::evens() + W::set(static_cast<uint32_t>(block) + 2 * W::kLanes * part);
      W a[4], b[4];
      philox_lanes(even, static_cast<uint32_t>(block >> 32), keys, a);
      philox_lanes(even + W::set(1), static_cast<uint32_t>(block >> 32), keys, b);
#pragma GCC unroll 4
      for (int word = 0; word < 4; ++word) halves[word][part] = Halves(a[word], b[word], threshold);
    }
  }

  auto keep(int j) const { return halves[j / (2 * kParts)][j / 2 % kParts].lanes(j % 2); }
};

}  // namespace qkv::kernels::simd
