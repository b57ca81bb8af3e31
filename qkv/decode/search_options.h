#pragma once
// What can be asked of a search.

#include <cstdint>
#include <vector>

#include "qkv/decode/length_penalty.h"

namespace qkv::decode {

struct SearchOptions {
  // The vocabulary's special tokens. start_id goes into the first step; eos_id ends a hypothesis. Neither
  // start_id (unless it is eos_id, as in fairseq's models) nor pad_id (-1: none) is ever generated.
  int32_t start_id = -1;
  int32_t eos_id = -1;
  int32_t pad_id = -1;
  std::vector<int32_t> banned_ids;  // never generated either: an unknown-word token, ...

  int64_t beam_size = 5;  // hypotheses kept at each step, 1 .. 1000
  int64_t n_best = 1;     // hypotheses returned, 1 .. beam_size

  // How finished hypotheses of different lengths compare: see length_penalty.h. The default is the mean
  // log-probability of a token.
  LengthPenaltyKind length_penalty_kind = LengthPenaltyKind::kLength;
  double length_penalty = 1.0;    // alpha; 0: the plain log-probability, which prefers short sentences
  double coverage_penalty = 0.0;  // beta >= 0; above 0 the model must have attention

  // Tokens of a hypothesis, its eos counted in max_length and not in min_length. A sentence may have at most
  // min(max_length, max_length_factor * src_len + max_length_plus) tokens, but always room for min_length and
  // for its forced prefix.
  int64_t min_length = 0;
  int64_t max_length = 512;
  double max_length_factor = 3.0;
  int64_t max_length_plus = 20;

  /// A sentence is done when patience * beam_size hypotheses have ended (Kasai et al. 2022, arXiv:2204.05424;
  /// 1 is the rule of fairseq and most others), or as soon as no live one can still enter its n best whatever
  /// follows. Infinity leaves the second rule alone: the best hypothesis of the whole beam, at more steps.
  double patience = 1.0;

  /// Tokens that each sentence must begin with: empty, or one list a sentence. A forced token may be a banned
  /// one (a language tag), not eos; its log-probability counts as any other's. At most max_length - 1 tokens.
  std::vector<std::vector<int32_t>> prefixes;

  bool want_attention = false;  // fill Hypothesis::attention
};

}  // namespace qkv::decode
