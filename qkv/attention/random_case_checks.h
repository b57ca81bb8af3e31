#pragma once
// What must hold of any Case: random_case.h. A check returns "" or says what is wrong.

#include <fmt/ranges.h>

#include "qkv/attention/kv_cache.h"
#include "qkv/attention/random_case.h"

namespace qkv::test {

/// The largest 1 / (root mean square) of d neighbouring columns: by so much a norm may enlarge an error.
inline double largest_gain(const Tensor& x, int64_t d) {
  double gain = 1;
  const std::vector<double> values = x.values();
  for (size_t i = 0; i < values.size(); i += static_cast<size_t>(d)) {
    double squares = 0;
    for (size_t j = i; j < i + static_cast<size_t>(d); ++j) squares += values[j] * values[j];
    gain = std::max(gain, std::sqrt(static_cast<double>(d) / squares));
  }
  return gain;
}

/// How far the blocked path may lie from the reference, relative to the largest number of a tensor or 1. To
/// find what is wrong, not how exact it is (error_test.cc does that): several times what correct cases
/// showed. The gradients of keys, values, rules, scores and sinks are sums over rows and heads, of their
/// errors too; that of a slope weighs them by distance. What backward takes from a rounded result grows with
/// the values: with relative ones added, and enlarged by dropout. A sparse normalizer's gradient is that of
/// keys near its threshold too, whose weights hardly say which side they are on.
inline double tolerance(const Drawn& d, std::string_view tensor) {
  const double base = d.c.dtype == DType::kF64 ? 1e-12 : d.c.dtype == DType::kF32 ? 1e-5 : 0.1;
  const bool norms = score_names()[d.c.score] == "cosine" || score_names()[d.c.score] == "qk_norm";
  double sums = 1, gain = 1;
  if (norms && (tensor == "dq" || tensor == "xl.u")) {
    const Tensor q = d.xl ? d.xl->content_queries(Var(d.given.q)).value() : d.given.q;
    gain = largest_gain(q, d.c.heads.d_k);
  }
  if (norms && tensor == "dk") gain = largest_gain(d.given.k, d.c.heads.d_k);
  if (tensor != "out" && tensor != "dq")
    sums = std::sqrt(static_cast<double>(1 + d.given.queries.n_tokens() * d.c.heads.n_heads));
  if (tensor.ends_with("slopes")) {
    int64_t farthest = d.max_kv;
    for (const Case::Lengths& n : d.c.lengths) farthest = std::max(farthest, n.past + n.q);
    sums *= std::max(1.0, static_cast<double>(farthest) / 8);
  }
  double backward = d.c.relative_values ? std::sqrt(2.0) : 1.0;
  if (d.c.drops) backward *= d.options.dropout.scale();
  if (normalizer_of(d.options).blockwise() == Normalizer::Blockwise::kNone) backward *= 4;
  return base * gain * sums * (tensor == "out" ? 1 : backward);
}

/// "" or where a and b differ by more than that. What is not finite has to be so in both.
inline std::string difference(const Drawn& d, const Results& a, const Results& b) {
  for (size_t t = 0; t < a.size(); ++t) {
    const std::vector<double> x = a[t].second.values(), y = b[t].second.values();
    double largest = 1;
    for (double one : y)
      if (std::isfinite(one)) largest = std::max(largest, std::abs(one));
    const double bound = tolerance(d, a[t].first) * largest;
    double squares = 0, differences = 0, count = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      if (!std::isfinite(x[i]) && !std::isfinite(y[i])) continue;
      if (!(std::abs(x[i] - y[i]) <= bound))
        return fmt::format("{} {}: element {} is {}, in the reference {}", a[t].first,
                           a[t].second.shape().str(), i, x[i], y[i]);
      if (!std::isfinite(x[i]) || !std::isfinite(y[i])) continue;
      squares += y[i] * y[i], differences += (x[i] - y[i]) * (x[i] - y[i]), ++count;
    }
    // A gradient that is missing would be within the bound of its largest error. (Where there is next to
    // none, one key for each query say, what rounding leaves says nothing.)
    const double rms = std::sqrt(differences / std::max(1.0, count)),
                 size = std::sqrt(squares / std::max(1.0, count)), room = tolerance(d, a[t].first);
    if (size > 0.1 * room && rms > 0.2 * (size + room))
      return fmt::format("{} {}: differs by {} at root mean square, the reference is {}", a[t].first,
                         a[t].second.shape().str(), rms, size);
  }
  return "";
}

inline std::string blocked_differs_from_reference(const Case& c) {
  const Drawn d = make(c);
  return difference(d, run(d, AttentionPath::kBlocked), run(d, AttentionPath::kReference));
}

/// "" or where a row of a prompt is not, bit for bit, the same row decoded token by token from a cache of
/// some layout.
inline std::string differs_token_by_token(const Case& drawn) {
  Case c = drawn;
  c.drops = false;
  for (Case::Lengths& n : c.lengths) n.kv = n.q, n.past = 0;
  if (c.relative == 3) c.relative = 2;  // queries of their own would be cut as q is; said once is enough
  Drawn d = make(c);
  d.options.rules.push_back(causal());
  const Tensor prompt = result(run(d, AttentionPath::kBlocked), "out");

  const NoGrad off;
  const Score& score = score_of(d.options);
  CaseRandom r(c.seed, 4);
  KvCache cache(d.given.keys.size(),
                {.n_kv_heads = c.heads.n_kv_heads,
                 .width = score.pairing(c.heads).width,
                 .d_v = c.heads.d_v,
                 .dtype = c.dtype},
                {.layout = r.chance(0.5) ? CacheLayout::kPaged : CacheLayout::kContiguous});
  std::vector<int64_t> at(c.lengths.size());
  for (bool left = true; left;) {
    left = false;
    // Each sequence goes on by none, one or a few tokens.
    std::vector<int64_t> step;
    for (size_t b = 0; b < at.size(); ++b) {
      const int64_t rest = d.given.queries.length(static_cast<int64_t>(b)) - at[b];
      step.push_back(std::min(rest, r.chance(0.8) ? 1 : r.from(0, 4)));
      left = left || rest > step.back();
    }
    const Segments rows(step, at);
    const auto tokens = [&](const Tensor& x) {
      const Tensor some = Tensor::empty({rows.n_tokens(), x.size(1)}, x.dtype());
      for (int64_t b = 0; b < rows.size(); ++b) {
        const int64_t from = d.given.queries.begin(b) + at[b];
        some.rows(rows.begin(b), rows.begin(b) + rows.length(b))
            .copy_from(x.rows(from, from + rows.length(b)));
      }
      return some;
    };
    std::vector<Var> leaves;
    for (const Tensor& x : leaf_values(d, d.given)) leaves.emplace_back(x);
    leaves[0] = Var(tokens(d.given.q));
    const auto [q, options] = on_tape(d, leaves, AttentionPath::kAuto);
    cache.append(rows, score.prepare_keys(Var(tokens(d.given.k)), c.heads).value(), tokens(d.given.v));
    const Tensor out = attention_cached(q.value(), rows, cache.spans(), c.dtype, options),
                 want = tokens(prompt);
    if (out.values() != want.values())
      return fmt::format("a step of {} tokens from {} differs from the prompt by {}", fmt::join(step, ", "),
                         fmt::join(at, ", "), max_difference(out, want));
    for (size_t b = 0; b < at.size(); ++b) at[b] += step[b];
  }
  return "";
}

}  // namespace qkv::test
