#pragma once

#include <string>

#include "qkv/base/dtype.h"

namespace qkv::cli {

/// Products with a packed right side on random numbers, of MxKxN; shape "": those that a Transformer of
/// d_model 768 is made of, and 4096 x 4096, from one row to 2,048.
/// int8: weights of 8 bits, rows of `dtype` that become integers as they come (kernels/gemm_int8.h).
void bench_gemm(const std::string& shape, DType dtype, bool int8, bool json);

}  // namespace qkv::cli
