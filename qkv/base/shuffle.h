#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "qkv/base/philox.h"

namespace qkv {

/// Fisher and Yates: every order equally likely.
template <class T>
void shuffle(std::vector<T>& items, RandomStream& random) {
  for (size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[random.below(i)]);
}

}  // namespace qkv
