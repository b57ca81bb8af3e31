#pragma once

#include "qkv/tensor/tensor.h"

namespace qkv {

/// Sinusoidal positions [max_len, d] (Vaswani et al. 2017, section 3.5): with f_j = 10000^(-2j/d), feature j
/// of position p is sin(p f_j) and feature d/2 + j is cos(p f_j). The paper interleaves the two; the halves
/// are Marian's order and Hugging Face's, and differ from the paper's by a fixed permutation of features. d
/// even, or Error kValue.
Tensor sinusoidal_positions(int64_t max_len, int64_t d, DType dtype);

}  // namespace qkv
