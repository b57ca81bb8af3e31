#pragma once

#include <cstdint>

namespace qkv {

/// Rows begin .. end - 1.
struct RowRange {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
};

}  // namespace qkv
