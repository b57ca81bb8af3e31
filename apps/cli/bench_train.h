#pragma once

#include <string>
#include <vector>

#include "qkv/base/dtype.h"

namespace qkv::cli {

/// Whole training steps (forward, backward, AdamW) on random ids, at the shapes that are usual for such
/// comparisons: gpt-char-2x128, gpt-6x384-8k, gpt2-124m-ctx1024-b1, gpt2-124m-ctx64-b4 (models/gpt2.h),
/// nmt-3+3x256-8k (models/transformer.h) and bert-base-s128-b16 (models/bert.h, the loss over every row).
/// gradient_checkpointing: see nn/pass.h. Error kValue names the cases for another name.
void bench_train(const std::string& name, DType dtype, bool gradient_checkpointing, bool json);
std::vector<std::string> bench_train_cases();

}  // namespace qkv::cli
