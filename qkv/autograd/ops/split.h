#pragma once

#include <vector>

#include "qkv/autograd/var.h"

namespace qkv {

/// Columns of x as matrices of their own, without a copy: the first `widths[0]`, the next `widths[1]`, ...
/// Their gradients are laid side by side as they come, O(n d); one that does not come counts as zeros.
///
///   x        [n, d], rows may be strided
///   returns  [n, widths[i]] each, rows as far apart as x's
///
/// Error kShape: the widths do not add up to d.
std::vector<Var> split_columns(const Var& x, const std::vector<int64_t>& widths);

}  // namespace qkv
