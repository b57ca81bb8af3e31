#include "qkv/attention/registry.h"

#include <cmath>

#include "qkv/attention/edits.h"
#include "qkv/attention/masks.h"
#include "qkv/attention/scores.h"

namespace qkv {
namespace {

using Kind = AttentionWord::Kind;

constexpr double kFarthest = 2147483647;  // sliding_window() takes no more
constexpr double kMostRows = 65536;       // of a learnt table, or positions one by one

int64_t whole(double x) { return static_cast<int64_t>(x); }  // WordNumber::whole was checked

WordNumber count(std::string_view name, double most) {
  return {.name = name, .whole = true, .above = 0, .most = most};
}
WordNumber count(std::string_view name, double most, double initial) {
  return {.name = name, .initial = initial, .whole = true, .above = 0, .most = most};
}
// What caps and temperatures may be.
WordNumber moderate(std::string_view name) {
  return {.name = name, .above = std::nextafter(1e-6, 0), .most = 1e6};
}

std::string score_prefix(const WordUse& use) { return use.at.prefix + ".score"; }

// Looking both ways, a window of n has n - 1 keys on each side of its own.
void add_window(const WordUse& use) {
  const int64_t back = whole(use.n[0]);
  use.parts.rules.push_back(
      sliding_window({.back = back, .ahead = use.at.causal ? 0 : back - 1, .dilation = whole(use.n[1])}));
}

void add_global(const WordUse& use) {
  std::vector<int64_t> positions;
  for (int64_t i = 0; i < whole(use.n[0]); ++i) positions.push_back(i);
  use.parts.rules.push_back(global_positions(positions));
}

void add_t5(const WordUse& use) {
  use.parts.rules.push_back(t5_bias(
      use.at.set, use.at.prefix + ".relative_attention_bias", use.at.heads,
      {.n_buckets = whole(use.n[0]), .max_distance = whole(use.n[1]), .bidirectional = !use.at.causal}));
}

}  // namespace

const std::vector<WordEntry>& word_entries() {
  static const std::vector<WordEntry> entries = {
      {Kind::kScore, "scaled_dot", "q . k / sqrt(d_k)",
       [](const WordUse& u) { u.parts.score = scaled_dot(); }},
      {Kind::kScore, "dot", "q . k", [](const WordUse& u) { u.parts.score = dot(); }},
      {Kind::kScore, "cosine", "sqrt(d_k) cos(q, k)",
       [](const WordUse& u) { u.parts.score = cosine(u.at.heads, u.at.set.dtype()); }},
      {Kind::kScore, "qk_norm", "scaled_dot of q and k after an RMS norm with gains",
       [](const WordUse& u) { u.parts.score = qk_norm(u.at.set, score_prefix(u), u.at.heads); }},
      {Kind::kScore, "general", "q^T W k",
       [](const WordUse& u) { u.parts.score = general(u.at.set, score_prefix(u), u.at.heads); }},
      {Kind::kScore, "additive", "v . tanh(q + k)",
       [](const WordUse& u) { u.parts.score = additive(u.at.set, score_prefix(u), u.at.heads); }},
      {Kind::kScore, "mlp", "v . tanh(W [q; k] + b)",
       [](const WordUse& u) { u.parts.score = mlp(u.at.set, score_prefix(u), u.at.heads); }},
      {Kind::kScore, "uniform", "0: every visible key weighs the same",
       [](const WordUse& u) { u.parts.score = uniform(); }},

      {Kind::kPositions,
       "rope",
       "q and k turned by angles that grow with their places",
       [](const WordUse& u) { u.parts.positions = rope_positions(u.at.heads, {.base = u.n[0]}); },
       {{.name = "BASE", .initial = 10000, .above = 1}}},
      {Kind::kPositions, "alibi", "less by a slope times the distance",
       [](const WordUse& u) { u.parts.rules.push_back(alibi(u.at.heads.n_heads)); }},
      {Kind::kPositions, "learned_alibi", "the same, with slopes that train",
       [](const WordUse& u) { u.parts.rules.push_back(learned_alibi(u.at.set, u.at.prefix, u.at.heads)); }},
      {Kind::kPositions,
       "t5",
       "a learnt bias for each bucket of distances",
       add_t5,
       {count("BUCKETS", kMostRows, 32), count("MAX_DISTANCE", kFarthest, 128)}},
      {Kind::kPositions,
       "shaw",
       "learnt vectors of distances, met by q as keys are",
       [](const WordUse& u) {
         u.parts.positions = shaw_positions(u.at.set, u.at.prefix, u.at.heads, whole(u.n[0]));
       },
       {count("MAX_DISTANCE", kMostRows, 16)}},
      {Kind::kPositions,
       "shaw_values",
       "as shaw, and learnt vectors added to values",
       [](const WordUse& u) {
         u.parts.positions =
             shaw_positions(u.at.set, u.at.prefix, u.at.heads, whole(u.n[0]), /*values=*/true);
       },
       {count("MAX_DISTANCE", kMostRows, 16)}},
      {Kind::kPositions, "transformer_xl", "projected sinusoids of distances, met by q as keys are",
       [](const WordUse& u) {
         u.parts.positions = transformer_xl_positions(u.at.set, u.at.prefix, u.at.heads, u.at.d_model);
       }},

      {Kind::kMask,
       "window",
       "the N nearest keys, looking back (and ahead, in an encoder)",
       add_window,
       {count("N", kFarthest), count("DILATION", kFarthest, 1)}},
      {Kind::kMask,
       "strided",
       "every Nth key",
       [](const WordUse& u) { u.parts.rules.push_back(strided(whole(u.n[0]))); },
       {count("N", kFarthest)}},
      {Kind::kMask,
       "global",
       "the first N positions see all and are seen by all",
       add_global,
       {count("N", kMostRows)}},

      {Kind::kCap,
       "soft_cap",
       "CAP tanh(score / CAP)",
       [](const WordUse& u) { u.parts.rules.push_back(soft_cap(u.n[0])); },
       {moderate("CAP")}},
      {Kind::kCap,
       "temperature",
       "score / T",
       [](const WordUse& u) { u.parts.rules.push_back(temperature(u.n[0])); },
       {moderate("T")}},

      {Kind::kNormalizer, "softmax", "exp(s), adding up to 1",
       [](const WordUse& u) { u.parts.normalizer = softmax_normalizer(); }},
      {Kind::kNormalizer, "sink", "softmax with one more score, learnt, that takes its share",
       [](const WordUse& u) { u.parts.normalizer = softmax_with_sink(u.at.set, u.at.prefix, u.at.heads); }},
      {Kind::kNormalizer, "sparsemax", "exact zeros; the nearest point of the simplex",
       [](const WordUse& u) { u.parts.normalizer = sparsemax(); }},
      {Kind::kNormalizer, "entmax15", "between softmax and sparsemax",
       [](const WordUse& u) { u.parts.normalizer = entmax15(); }},
      {Kind::kNormalizer,
       "sigmoid",
       "1 / (1 + exp(-(s + SHIFT))): keys do not compete",
       [](const WordUse& u) { u.parts.normalizer = sigmoid(u.n[0]); },
       {{.name = "SHIFT", .initial = 0}}},

      {Kind::kHeads, "talking_heads", "scores and weights are mixed across heads by two learnt matrices",
       [](const WordUse& u) { u.parts.talking = talking_heads(u.at.set, u.at.prefix, u.at.heads); }},
      {Kind::kHeads, "head_scale", "each head's output times a learnt factor",
       [](const WordUse& u) {
         u.parts.head_scale = u.at.set.constant(u.at.prefix + ".head_scale", {u.at.heads.n_heads}, 1);
       }},

      {Kind::kPath, "reference", "computed as it is defined, to compare with: whole matrices of scores, slow",
       [](const WordUse& u) { u.parts.path = AttentionPath::kReference; }},
  };
  return entries;
}

}  // namespace qkv
