#include "qkv/attention/registry.h"

#include <cmath>

#include "qkv/attention/edits.h"
#include "qkv/attention/masks.h"
#include "qkv/attention/scores.h"

namespace qkv {
namespace {

using Kind = AttentionWord::Kind;

int64_t whole(double x) {
  QKV_CHECK(x == std::floor(x) && std::abs(x) < 1e15, kValue, "attention: {} is not a whole number", x);
  return static_cast<int64_t>(x);
}

std::string score_prefix(const WordUse& use) { return use.at.prefix + ".score"; }

// Looking both ways, a window of n has n - 1 keys on each side of its own.
void add_window(const WordUse& use) {
  const int64_t back = whole(use.n[0]);
  use.parts.rules.push_back(
      sliding_window({.back = back, .ahead = use.at.causal ? 0 : back - 1, .dilation = whole(use.n[1])}));
}

void add_global(const WordUse& use) {
  const int64_t n = whole(use.n[0]);
  QKV_CHECK(n >= 1 && n <= 65536, kValue, "attention: global:{}; needs 1 to 65536 positions", n);
  std::vector<int64_t> positions;
  for (int64_t i = 0; i < n; ++i) positions.push_back(i);
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
      {{Kind::kScore, "scaled_dot", "", "q . k / sqrt(d_k)"},
       [](const WordUse& u) { u.parts.score = scaled_dot(); }},
      {{Kind::kScore, "dot", "", "q . k"}, [](const WordUse& u) { u.parts.score = dot(); }},
      {{Kind::kScore, "cosine", "", "sqrt(d_k) cos(q, k)"},
       [](const WordUse& u) { u.parts.score = cosine(u.at.heads, u.at.set.dtype()); }},
      {{Kind::kScore, "qk_norm", "", "scaled_dot of q and k after an RMS norm with gains"},
       [](const WordUse& u) { u.parts.score = qk_norm(u.at.set, score_prefix(u), u.at.heads); }},
      {{Kind::kScore, "general", "", "q^T W k"},
       [](const WordUse& u) { u.parts.score = general(u.at.set, score_prefix(u), u.at.heads); }},
      {{Kind::kScore, "additive", "", "v . tanh(q + k)"},
       [](const WordUse& u) { u.parts.score = additive(u.at.set, score_prefix(u), u.at.heads); }},
      {{Kind::kScore, "mlp", "", "v . tanh(W [q; k] + b)"},
       [](const WordUse& u) { u.parts.score = mlp(u.at.set, score_prefix(u), u.at.heads); }},
      {{Kind::kScore, "uniform", "", "0: every visible key weighs the same"},
       [](const WordUse& u) { u.parts.score = uniform(); }},

      {{Kind::kPositions, "rope", "[:BASE]", "q and k turned by angles that grow with their places"},
       [](const WordUse& u) { u.parts.positions = rope_positions(u.at.heads, {.base = u.n[0]}); },
       0,
       {10000}},
      {{Kind::kPositions, "alibi", "", "less by a slope times the distance"},
       [](const WordUse& u) { u.parts.rules.push_back(alibi(u.at.heads.n_heads)); }},
      {{Kind::kPositions, "learned_alibi", "", "the same, with slopes that train"},
       [](const WordUse& u) { u.parts.rules.push_back(learned_alibi(u.at.set, u.at.prefix, u.at.heads)); }},
      {{Kind::kPositions, "t5", "[:BUCKETS[:MAX_DISTANCE]]", "a learnt bias for each bucket of distances"},
       add_t5,
       0,
       {32, 128}},
      {{Kind::kPositions, "shaw", "[:MAX_DISTANCE]", "learnt vectors of distances, met by q as keys are"},
       [](const WordUse& u) {
         u.parts.positions = shaw_positions(u.at.set, u.at.prefix, u.at.heads, whole(u.n[0]));
       },
       0,
       {16}},
      {{Kind::kPositions, "shaw_values", "[:MAX_DISTANCE]", "as shaw, and learnt vectors added to values"},
       [](const WordUse& u) {
         u.parts.positions =
             shaw_positions(u.at.set, u.at.prefix, u.at.heads, whole(u.n[0]), /*values=*/true);
       },
       0,
       {16}},
      {{Kind::kPositions, "transformer_xl", "", "projected sinusoids of distances, met by q as keys are"},
       [](const WordUse& u) {
         u.parts.positions = transformer_xl_positions(u.at.set, u.at.prefix, u.at.heads, u.at.d_model);
       }},

      {{Kind::kMask, "window", ":N[:DILATION]",
        "the N nearest keys, looking back (and ahead, in an encoder)"},
       add_window,
       1,
       {1}},
      {{Kind::kMask, "strided", ":N", "every Nth key"},
       [](const WordUse& u) { u.parts.rules.push_back(strided(whole(u.n[0]))); },
       1},
      {{Kind::kMask, "global", ":N", "the first N positions see all and are seen by all"}, add_global, 1},

      {{Kind::kCap, "soft_cap", ":CAP", "cap tanh(score / cap)"},
       [](const WordUse& u) { u.parts.rules.push_back(soft_cap(u.n[0])); },
       1},
      {{Kind::kCap, "temperature", ":T", "score / T"},
       [](const WordUse& u) { u.parts.rules.push_back(temperature(u.n[0])); },
       1},

      {{Kind::kNormalizer, "softmax", "", "exp(s), adding up to 1"},
       [](const WordUse& u) { u.parts.normalizer = softmax_normalizer(); }},
      {{Kind::kNormalizer, "sink", "", "softmax with one more score, learnt, that takes its share"},
       [](const WordUse& u) { u.parts.normalizer = softmax_with_sink(u.at.set, u.at.prefix, u.at.heads); }},
      {{Kind::kNormalizer, "sparsemax", "", "exact zeros; the nearest point of the simplex"},
       [](const WordUse& u) { u.parts.normalizer = sparsemax(); }},
      {{Kind::kNormalizer, "entmax15", "", "between softmax and sparsemax"},
       [](const WordUse& u) { u.parts.normalizer = entmax15(); }},
      {{Kind::kNormalizer, "sigmoid", "[:SHIFT]", "1 / (1 + exp(-(s + SHIFT))): keys do not compete"},
       [](const WordUse& u) { u.parts.normalizer = sigmoid(u.n[0]); },
       0,
       {0}},

      {{Kind::kHeads, "talking_heads", "",
        "scores and weights are mixed across heads by two learnt matrices"},
       [](const WordUse& u) { u.parts.talking = talking_heads(u.at.set, u.at.prefix, u.at.heads); }},
      {{Kind::kHeads, "head_scale", "", "each head's output times a learnt factor"},
       [](const WordUse& u) {
         u.parts.head_scale = u.at.set.constant(u.at.prefix + ".head_scale", {u.at.heads.n_heads}, 1);
       }},
  };
  return entries;
}

}  // namespace qkv
