#pragma once
// Heads that are not worth their cost, removed: Michel et al. 2019, arXiv:1905.10650, section 4; Voita et al.
// 2019, arXiv:1905.09418.

#include <map>
#include <string>
#include <vector>

#include "qkv/attention/multi_head.h"

namespace qkv {

struct PrunedHeads {
  MultiHeadConfig config;
  std::map<std::string, Tensor> tensors;  // under the names they had
};

/// The layer <name> of `set` without the heads listed: their rows of wq, their columns of wo, their numbers
/// in the score, the positions and the normalizer, and the rows of wk and wv of a key/value head whose whole
/// group goes. A MultiHeadAttention made with this config and these values computes what the whole one does
/// with those heads' gates at 0 (head_controls.h), within rounding: wo's product sums in another order. d_k
/// and d_v stay.
///
/// Errors: kValue: a head that is not there, or none left; groups of unequal size would be left;
/// kUnsupported: the variant says something of a head that depends on how many there are (alibi's fixed
/// slopes).
PrunedHeads prune_heads(const ParameterSet& set, const std::string& name, const MultiHeadConfig& config,
                        const std::vector<int64_t>& heads);

}  // namespace qkv
