#pragma once

#include <vector>

#include "qkv/autograd/var.h"

namespace qkv {

/// Rows by number: with the sources laid one after the other, out[r] = row from[r], or zeros where from[r] is
/// -1. A row may be taken several times; its gradient is then the sum, r ascending, in the accumulator's
/// dtype.
///
///   sources  [n_s, d] each, of one dtype; rows may be strided
///   returns  [from.size(), d]
///
/// Error kShape: no sources, or of different widths; kDtype: of different dtypes; kValue: a row that no
/// source has.
Var take_rows(const std::vector<Var>& sources, const std::vector<int64_t>& from);

}  // namespace qkv
