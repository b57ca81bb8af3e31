#pragma once
// The edits of scores that qkv brings: position biases (positions/) and a cap (caps/). With i a query's
// position and j a key's.

#include <string>

#include "qkv/attention/heads.h"
#include "qkv/attention/rule.h"
#include "qkv/nn/parameter_set.h"

namespace qkv {

/// s' = cap tanh(s / cap): scores stay within +-cap (Gemma 2, 2024, arXiv:2408.00118, section 2). Error
/// kValue: cap not 1e-6 to 1e6.
EditPtr soft_cap(double cap);

/// s' = s / temperature: above 1 flattens the weights, below 1 sharpens them. Error kValue: not
/// 1e-6 to 1e6.
EditPtr temperature(double temperature);

/// s' = s - slope_h |i - j|     Press et al. 2022, arXiv:2108.12409. Slopes 2^(-8/n), 2^(-16/n), ... for n
/// heads; where n is no power of two, those of the next lower power and every second one of the next higher.
/// Further heads of the layer, if there are any, get none. Error kValue: n_heads not 1 to 65536.
EditPtr alibi(int64_t n_heads);
/// The same with slopes that train from there: <prefix>.slopes [n_heads, 1].
EditPtr learned_alibi(ParameterSet& set, const std::string& prefix, const HeadSizes& heads);

struct T5Buckets {
  int64_t n_buckets = 32;
  int64_t max_distance = 128;
  bool bidirectional = true;  // half of the buckets for keys after the query; else these share bucket 0
};
/// s' = s + b[h, bucket(j - i)]     Raffel et al. 2020, arXiv:1910.10683, section 2.1: near distances have a
/// bucket each, farther ones share them by logarithm, those from max_distance on share the last.
/// <prefix>.weight [n_heads, n_buckets] (the transpose of the published layout), from 0. T5 uses unscaled
/// scores: dot().
EditPtr t5_bias(ParameterSet& set, const std::string& prefix, const HeadSizes& heads,
                const T5Buckets& buckets);
/// The bucket of a distance j - i, 0 .. n_buckets - 1.
int64_t t5_bucket(int64_t distance, const T5Buckets& buckets);

}  // namespace qkv
