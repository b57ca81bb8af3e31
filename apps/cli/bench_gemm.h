#pragma once

#include <string>
#include <vector>

#include "qkv/tensor/matmul.h"

namespace qkv::cli {

/// One right side [k, n], and how many rows meet it.
struct Products {
  int64_t k = 0, n = 0;
  std::vector<int64_t> m;
};

/// Of MxKxN; of "": the thirty that a Transformer of d_model 768 is made of, its output layer over 32,000
/// words, and 4096 x 4096, from one row to 2,048. Error kValue.
std::vector<Products> products_of(const std::string& shape);

/// Products with a packed right side on random numbers, of products_of(shape). In 8 bits rows of a come as
/// bf16 (f32 without a unit for it) and turning them into integers is in the time.
void bench_gemm(const std::string& shape, const Precision& precision, bool json);

}  // namespace qkv::cli
