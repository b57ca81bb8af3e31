#pragma once

#include <string>

#include "qkv/base/dtype.h"

namespace qkv::cli {

struct BenchAttention {
  std::string shape = "1x12x4096x64";  // batch x n_heads x length x d_k
  int64_t n_kv_heads = 0, q_len = 0;   // 0: n_heads; the length
  bool causal = false, backward = false, probe = false;
  std::string rule;  // words of attention/variant.h, or padding, or nothing
  int64_t window = 512;
  std::string mixer;     // linear, performer, retention or gla instead of attention; or nothing
  int64_t features = 0;  // of the performer; 0: its own choice
};

/// The attention op alone, on random numbers; operations counted as the peers' script does: 4 batch n_heads
/// q_len length d_k, three times that with backward, nothing taken off for what a mask hides.
void bench_attention(const BenchAttention& bench, DType dtype, bool json);

/// One of the mixers alone (bench_mixer.cc). With w the width of a prepared key, 2 batch n_heads length (64
/// (w + d) + 2 w d) operations, and 64 (3 w + 2 d) + 5 w d more for backward: the products of whole chunks;
/// without causality the terms of 64 are none. The preparation (the performer's features) is timed and not
/// counted.
void bench_mixer(const BenchAttention& bench, DType dtype, bool json);

/// Of BATCHxHEADSxLENGTHxWIDTH. Error kValue.
struct AttentionShape {
  int64_t batch = 0, heads = 0, length = 0, d = 0;
};
AttentionShape attention_shape(const std::string& text);

}  // namespace qkv::cli
