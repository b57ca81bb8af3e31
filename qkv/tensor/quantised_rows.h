#pragma once
// Matrices whose rows are 8-bit integers with a scale each (kernels/gemm_int8.h): weights as files of 8-bit
// models have them, a quarter of f32.

#include <memory>

#include "qkv/tensor/tensor.h"

namespace qkv {

/// w_jk ~ scales_j integers_jk: integers [n, k] in -127 .. 127 (of others' files: -128), scales [n] f32.
struct QuantisedRows {
  int64_t n = 0, k = 0;
  std::shared_ptr<Buffer> integers;
  Tensor scales;
  const int8_t* row(int64_t j) const { return reinterpret_cast<const int8_t*>(integers->data()) + j * k; }
};

/// w [n, k] f32 or bf16, any strides: to the nearest, the largest of a row becoming 127. A row with a NaN or
/// an infinity gets the scale NaN. Error kShape, kDtype.
QuantisedRows quantise_rows(const Tensor& w);

/// [n, k] f32.
Tensor dequantised(const QuantisedRows& rows);

}  // namespace qkv
