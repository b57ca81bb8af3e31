#pragma once
// What a search returns.

#include <cstdint>
#include <span>
#include <vector>

#include "qkv/tensor/tensor.h"

namespace qkv::decode {

/// One way to write a sentence.
struct Hypothesis {
  std::vector<int32_t> ids;            // forced prefix included, start_id not; the last is eos where ended
  std::vector<float> token_log_probs;  // [ids.size()]
  double log_prob = 0;                 // their sum
  double score = 0;                    // by which hypotheses are ranked: length_penalty.h
  bool ended = false;                  // false: cut off at the sentence's maximum length
  Tensor attention;                    // [ids.size(), src_len] f32 where asked for: what each token looked at

  /// ids without the eos.
  std::span<const int32_t> text_ids() const { return std::span(ids).first(ids.size() - (ended ? 1 : 0)); }
};

/// Of one sentence, best first: those that ended by themselves, by score; then any that were cut off, by
/// score.
using NBest = std::vector<Hypothesis>;

}  // namespace qkv::decode
