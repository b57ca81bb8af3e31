#pragma once

#include "qkv/base/parallel.h"
#include "qkv/base/segments.h"

namespace qkv {

/// body(b) for each sequence that has rows: over the threads where `work` operations in all are worth waking
/// them.
template <class Body>
void each_sequence(const Segments& rows, int64_t work, Body&& body) {
  const auto one = [&](int64_t b) {
    if (rows.length(b) > 0) body(b);
  };
  constexpr int64_t kWorthAThread = 1 << 16;  // a few microseconds, as a fork costs
  if (work < kWorthAThread)
    for (int64_t b = 0; b < rows.size(); ++b) one(b);
  else
    parallel_items(rows.size(), one);
}

}  // namespace qkv
