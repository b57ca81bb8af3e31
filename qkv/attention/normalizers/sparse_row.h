#pragma once
// What the sparse normalizers do before they look for their threshold: both only need the scores near the
// largest, in descending order.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

namespace qkv {

/// The scores of s [n] above max - reach, less max, in descending order: a lower one has weight 0 in any
/// case. Nothing comes back where the weights are plain already, and s holds them: zeros where keys are
/// hidden, NaN at the others if a score is, or is infinite.
template <class A>
std::vector<A> scores_near_the_largest(int64_t n, A* s, A reach, A& max) {
  max = n > 0 ? *std::max_element(s, s + n) : A(0);
  const bool hidden = max == -std::numeric_limits<A>::infinity(),
             bad = std::any_of(s, s + n,
                               [](A x) { return std::isnan(x) || x == std::numeric_limits<A>::infinity(); });
  if (hidden || bad) {
    for (int64_t j = 0; j < n; ++j)
      s[j] = s[j] == -std::numeric_limits<A>::infinity() ? A(0) : std::numeric_limits<A>::quiet_NaN();
    return {};
  }
  std::vector<A> near;
  for (int64_t j = 0; j < n; ++j)
    if (s[j] - max > -reach) near.push_back(s[j] - max);
  std::sort(near.begin(), near.end(), std::greater<>());
  return near;
}

}  // namespace qkv
