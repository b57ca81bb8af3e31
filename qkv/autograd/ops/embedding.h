#pragma once

#include <vector>

#include "qkv/autograd/parameter.h"
#include "qkv/autograd/var.h"

namespace qkv {

/// Rows of a table: out[r] = scale * table[ids[r]] + positions[position_ids[r]].
///
///   table      [vocab_size, d]  masters
///   positions  [max_len, d]     masters, or null; trainable or not
///   returns    [n, d]           of the dtype asked for
///
/// Error kValue: an id or position outside its table, naming it.
Var embedding(const std::vector<int32_t>& ids, const ParameterPtr& table, double scale,
              const std::vector<int32_t>& position_ids, const ParameterPtr& positions, DType dtype);

}  // namespace qkv
