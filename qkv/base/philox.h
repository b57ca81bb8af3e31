#pragma once
// Counter-based random numbers: Philox4x32-10 of Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3"
// (SC 2011). The number at a place is a pure function of (key, counter): no state to carry through threads,
// checkpoints or the backward pass, which simply asks again.

#include <array>
#include <cstdint>

namespace qkv {

/// What a stream of random numbers is keyed by. The same key always gives the same numbers.
struct RandomKey {
  uint64_t seed = 0;    // the run's
  uint32_t stream = 0;  // which consumer: a dropout site, initialisation, shuffling, ...
  uint32_t step = 0;    // the training step
};

/// Ten rounds of Philox4x32 on `counter` under `key`: four independent uniform 32-bit words.
inline std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * counter[0];
    const uint64_t p1 = uint64_t{0xCD9E8D57u} * counter[2];
    counter = {static_cast<uint32_t>(p1 >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(p1),
               static_cast<uint32_t>(p0 >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(p0)};
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  return counter;
}

/// Word i of a key's stream is word i % 4 of block i / 4; this is that block.
inline std::array<uint32_t, 4> random_block(const RandomKey& key, uint64_t block) {
  return philox4x32({static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), key.stream, key.step},
                    {static_cast<uint32_t>(key.seed), static_cast<uint32_t>(key.seed >> 32)});
}

/// A reader of one key's stream in order, for shuffling and initialisation. Satisfies
/// UniformRandomBitGenerator, but std:: distributions differ between libraries: use the members below.
class RandomStream {
 public:
  using result_type = uint32_t;
  explicit RandomStream(RandomKey key) : key_(key) {}
  static constexpr uint32_t min() { return 0; }
  static constexpr uint32_t max() { return 0xffffffffu; }
  uint32_t operator()();
  double uniform();                // [0, 1), 53 bits
  double normal();                 // mean 0, variance 1 (Box-Muller)
  uint64_t below(uint64_t bound);  // 0 .. bound - 1 without bias; bound > 0

 private:
  RandomKey key_;
  uint64_t next_ = 0;
  std::array<uint32_t, 4> block_{};
};

}  // namespace qkv
