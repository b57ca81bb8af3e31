#pragma once

#include <string>

#include "qkv/tensor/matmul.h"

namespace qkv::cli {

/// Products with a packed right side on random numbers, of MxKxN; shape "": those that a Transformer of
/// d_model 768 is made of, and 4096 x 4096, from one row to 2,048.
void bench_gemm(const std::string& shape, const Precision& precision, bool json);

}  // namespace qkv::cli
