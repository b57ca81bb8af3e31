#pragma once
// Rules of your own in a line: masks and biases as lambdas, by distance or by pair.
//
//   .rules = {distance_mask([](int64_t head, int64_t distance) { return distance <= 0 && distance % 3 == 0;
//   }),
//             bias([&table](auto, auto head, auto i, auto j) { return table[head][i] - table[head][j]; })}
//
// By distance a tile of 64 x 64 pairs takes 127 calls, by pair 4096: prefer distances where they say it all.
// docs/performance/attention.md has what each costs. What needs gradients of its own is a class (rule.h).
//
// A lambda must not throw: it is called within kernels' noexcept loops, on their threads, where an exception
// ends the program (std::terminate). Check what it reads before the rule is made.

#include <cstring>
#include <utility>

#include "qkv/attention/positions/distance_bias.h"
#include "qkv/attention/rule.h"

namespace qkv {
namespace detail {

/// Bit n of the result: seen[n] is 1, not 0. The product moves the lowest bits of eight bytes into one.
inline uint64_t bits_of(const uint8_t (&seen)[64]) {
  uint64_t word = 0;
  for (int n = 0; n < 64; n += 8) {
    uint64_t eight = 0;
    std::memcpy(&eight, seen + n, 8);
    word |= (eight * 0x0102040810204080u >> 56) << n;
  }
  return word;
}

// The loops over a row write into memory of their own and count in 32 bits, so that the compiler can compute
// several pairs at once where the lambda takes what it is given (auto): SSE2, which every x86-64 has, turns
// no 64-bit integers into numbers.

template <class Sees>
class MaskByPair final : public Mask {
 public:
  explicit MaskByPair(Sees sees) : sees_(std::move(sees)) {}
  void visible(const TilePlace& t, uint64_t* words) const noexcept override {
    const auto batch = static_cast<int32_t>(t.batch), head = static_cast<int32_t>(t.head),
               j0 = static_cast<int32_t>(t.j0), cols = static_cast<int32_t>(t.cols);
    uint8_t seen[64] = {};
    for (int64_t r = 0; r < t.rows; ++r) {
      const auto i = static_cast<int32_t>(t.i0 + r);
#pragma omp simd
      for (int32_t c = 0; c < cols; ++c) seen[c] = static_cast<bool>(sees_(batch, head, i, j0 + c));
      words[r] = bits_of(seen);
    }
  }

 private:
  Sees sees_;
};

template <class Bias>
class BiasByPair final : public EditFor<BiasByPair<Bias>> {
 public:
  explicit BiasByPair(Bias bias) : bias_(std::move(bias)) {}
  template <class A>
  void edit(const ScoreTile<A>& t) const noexcept {
    const auto batch = static_cast<int32_t>(t.batch), head = static_cast<int32_t>(t.head),
               j0 = static_cast<int32_t>(t.j0), cols = static_cast<int32_t>(t.cols);
    A row[64];
    for (int64_t r = 0; r < t.rows; ++r) {
      const auto i = static_cast<int32_t>(t.i0 + r);
#pragma omp simd
      for (int32_t c = 0; c < cols; ++c) row[c] = static_cast<A>(bias_(batch, head, i, j0 + c));
      A* scores = &t.at(r, 0);
#pragma omp simd
      for (int32_t c = 0; c < cols; ++c) scores[c] += row[c];
    }
  }

 private:
  Bias bias_;
};

template <class Sees>
class MaskByDistance final : public Mask {
 public:
  explicit MaskByDistance(Sees sees) : sees_(std::move(sees)) {}
  Sight sight(const TilePlace& t) const noexcept override {
    const Diagonals seen = diagonals(t);
    const int64_t n = t.rows + t.cols - 1;
    if (seen.low == 0 && seen.high == 0) return Sight::kNone;
    return seen.low == low_bits(n) && seen.high == low_bits(n - 64) ? Sight::kAll : Sight::kSome;
  }
  void visible(const TilePlace& t, uint64_t* words) const noexcept override {
    const Diagonals seen = diagonals(t);
    for (int64_t r = 0; r < t.rows; ++r) {
      const int64_t by = t.rows - 1 - r;  // column 0 of row r is on this diagonal
      words[r] = by == 0 ? seen.low : seen.low >> by | seen.high << (64 - by);
    }
  }

 private:
  // Bit m: whether distance m - (rows - 1) + j0 - i0 is seen; those of the tile are at most 127.
  struct Diagonals {
    uint64_t low = 0, high = 0;
  };
  Diagonals diagonals(const TilePlace& t) const noexcept {
    Diagonals seen;
    const int64_t first = t.j0 - (t.i0 + t.rows - 1), n = t.rows + t.cols - 1;
    for (int64_t m = 0; m < n; ++m)
      (m < 64 ? seen.low : seen.high) |= uint64_t{static_cast<bool>(sees_(t.head, first + m))} << m % 64;
    return seen;
  }

  Sees sees_;
};

template <class Bias>
class BiasByDistance final : public DistanceBias<BiasByDistance<Bias>> {
 public:
  explicit BiasByDistance(Bias f) : f_(std::move(f)) {}
  template <class A>
  A bias(int64_t head, int64_t distance) const noexcept {
    return static_cast<A>(f_(head, distance));
  }

 private:
  Bias f_;
};

}  // namespace detail

/// Query i sees key j where sees(head, j - i). Tiles that show nothing are skipped.
template <class Sees>
MaskPtr distance_mask(Sees sees) {
  return std::make_shared<detail::MaskByDistance<Sees>>(std::move(sees));
}

/// s' = s + bias(head, j - i).
template <class Bias>
EditPtr distance_bias(Bias f) {
  return std::make_shared<detail::BiasByDistance<Bias>>(std::move(f));
}

/// Query i sees key j where sees(batch, head, i, j). It is asked for every pair of every tile; write a class
/// with sight() where whole tiles can be told apart. The four numbers are int32_t: parameters of `auto` take
/// them as they are, and the compiler can then ask about several keys at once.
template <class Sees>
MaskPtr mask(Sees sees) {
  return std::make_shared<detail::MaskByPair<Sees>>(std::move(sees));
}

/// s' = s + bias(batch, head, i, j), likewise: cheapest with `auto` and float.
template <class Bias>
EditPtr bias(Bias f) {
  return std::make_shared<detail::BiasByPair<Bias>>(std::move(f));
}

}  // namespace qkv
