#pragma once

#include <string>

#include "qkv/base/dtype.h"

namespace qkv::cli {

struct BenchAttention {
  std::string shape = "1x12x4096x64";  // batch x n_heads x length x d_k
  int64_t n_kv_heads = 0, q_len = 0;   // 0: n_heads; the length
  bool causal = false, backward = false, probe = false;
  std::string rule;  // alibi, t5, window, soft-cap, padding or nothing
  int64_t window = 512;
};

/// The attention op alone, on random numbers; operations counted as the peers' script does: 4 batch n_heads
/// q_len length d_k, three times that with backward, nothing taken off for what a mask hides.
void bench_attention(const BenchAttention& bench, DType dtype, bool json);

}  // namespace qkv::cli
