#pragma once

#include <cstdint>
#include <string>

#include "qkv/tensor/matmul.h"

namespace qkv::cli {

struct BenchTranslate {
  std::string name;          // a case; or else
  std::string model, input;  // a directory and source lines
  int64_t beam = 5, batch = 64, reps = 3;
};

/// Searching alone, the model made or loaded before. Of a case: weights from a seed at the sizes of
/// base-6+6x512-32k (Transformer-base: 6 + 6 layers, d_model 512, 8 heads, d_ff 2,048, 32,000 words) or
/// small-3+3x256-8k (that of `bench train`), two batches and at least 16 sentences of 32 random tokens, each
/// translated in exactly 32 steps: none may end before. The speed of a trained model, which ends when it
/// likes, differs by its lengths alone. "distinct_tokens" counts the different words written: a model of
/// random weights must not have fallen silent.
/// Error kValue names the cases for another name, or says what is missing.
void bench_translate(const BenchTranslate& bench, const Precision& precision, bool json);

}  // namespace qkv::cli
