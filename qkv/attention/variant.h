#pragma once
// A variant of attention in words: the form it has in a model's config.json and on the command line.
//
//     scaled_dot
//     qk_norm + rope + soft_cap:30 + sink
//     dot + t5 + window:256|global:1 + sparsemax
//
// The sentence is the design's: a score, positions, masks and caps, a normalizer, what heads do, a path,
// joined by +. A word may have numbers after colons. What is left out is plain: scaled_dot, no positions,
// everything visible, softmax; none is uniform, which chooses nothing. Masks joined by | show what any of
// them shows; those joined by + what all do. Edits of scores apply in the order written.

#include <string>
#include <string_view>
#include <vector>

#include "qkv/attention/heads/talking_heads.h"
#include "qkv/attention/normalizers.h"
#include "qkv/attention/positions.h"
#include "qkv/attention/rule.h"
#include "qkv/attention/score.h"

namespace qkv {

/// What the words of one layer become.
struct AttentionParts {
  ScorePtr score;
  PositionsPtr positions;  // null: none that queries and keys carry
  std::vector<RulePtr> rules;
  NormalizerPtr normalizer;
  TalkingHeads talking;
  ParameterPtr head_scale;  // null: none
  AttentionPath path = AttentionPath::kAuto;
};

/// The layer that the words are for. Trainable numbers get names that begin with `prefix`.
struct VariantPlace {
  ParameterSet& set;
  std::string prefix;
  HeadSizes heads;
  int64_t d_model = 0;
  bool causal = false;  // windows and buckets then look back only
  bool cross = false;   // queries and keys count different things: no positions, no masks
};

/// Errors kValue, naming the word: one that is unknown (it says which is nearest), numbers that are missing,
/// too many or senseless, two words of a kind that there can be one of, masks or positions in
/// cross-attention, positions that need a dot product under a score that is none.
AttentionParts make_variant(std::string_view words, const VariantPlace& place);

/// The same errors, with nothing made. `where` comes first in their text.
void check_variant(std::string_view words, std::string_view where, const HeadSizes& heads, int64_t d_model,
                   bool causal, bool cross);

/// Whether the words say where tokens stand, by whatever means.
bool has_positions(std::string_view words);

/// The words there are, for help and documents.
struct AttentionWord {
  enum class Kind { kScore, kPositions, kMask, kCap, kNormalizer, kHeads, kPath };
  Kind kind;
  std::string_view name, meaning;
  std::string numbers;  // ":N" or "[:BASE]"; empty: none
};
std::vector<AttentionWord> attention_words();
std::string_view name(AttentionWord::Kind kind);  // "score", "positions", ...

}  // namespace qkv
