#include "qkv/base/philox.h"

#include <cmath>
#include <numbers>

namespace qkv {

uint32_t RandomStream::operator()() {
  if (next_ % 4 == 0) block_ = random_block(key_, next_ / 4);
  return block_[next_++ % 4];
}

double RandomStream::uniform() {
  const uint64_t high = (*this)() >> 5, low = (*this)() >> 6;
  return static_cast<double>(high * 67108864 + low) / 9007199254740992.0;
}

double RandomStream::normal() {
  const double u = 1.0 - uniform(), v = uniform();
  return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * v);
}

uint64_t RandomStream::below(uint64_t bound) {
  // Rejection: the last, incomplete run of `bound` values would favour small results.
  const uint64_t limit = UINT64_MAX - UINT64_MAX % bound;
  for (;;) {
    const uint64_t x = (uint64_t{(*this)()} << 32) | (*this)();
    if (x < limit) return x % bound;
  }
}

}  // namespace qkv
