#pragma once

#include <cstdint>
#include <string>

#include "qkv/tensor/matmul.h"

namespace qkv::cli {

/// A forward pass without gradients, no head after it: bert-base-s128, `batch` texts of 128 random ids
/// through the encoder of BERT-base (models/bert.h). Error kValue names the cases for another name, or a
/// batch below 1.
void bench_infer(const std::string& name, int64_t batch, const Precision& precision, bool json);

}  // namespace qkv::cli
