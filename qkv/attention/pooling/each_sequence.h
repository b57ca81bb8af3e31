#pragma once

#include "qkv/base/parallel.h"
#include "qkv/base/segments.h"

namespace qkv {

/// body(b) for each sequence that has rows: over the threads where `work` operations in all are worth waking
/// them.
template <class Body>
void each_sequence(const Segments& rows, int64_t work, Body&& body) {
  parallel_items(
      rows.size(),
      [&](int64_t b) {
        if (rows.length(b) > 0) body(b);
      },
      work);
}

}  // namespace qkv
