#include "qkv/attention/multi_head.h"

#include <algorithm>

#include "qkv/attention/heads/head_controls.h"
#include "qkv/attention/masks.h"
#include "qkv/attention/scores.h"
#include "qkv/base/trace.h"

namespace qkv {
namespace {

// Queries, keys and values start as one stacked matrix [3 d, d] would: Xavier's bound is then sqrt(6 / (4
// d)), this much of a single matrix's. Fairseq's and PyTorch's attention start so, and post-norm stacks need
// it (docs/results.md, 1).
constexpr double kStackedGain = 0.7071067811865476;

// The projections that x goes through: of queries, and in attention to its own text of keys and values.
std::vector<StackedLinear::Part> parts_of_x(const std::string& name, const MultiHeadConfig& c) {
  std::vector<StackedLinear::Part> parts{{name + ".q_proj", c.n_heads * c.d_k}};
  if (!c.cross) {
    parts.push_back({name + ".k_proj", c.n_kv_heads * c.d_k});
    parts.push_back({name + ".v_proj", c.n_kv_heads * c.d_v});
  }
  return parts;
}

std::optional<StackedLinear> of_memory(ParameterSet& set, const std::string& name, const MultiHeadConfig& c) {
  if (!c.cross) return {};
  return StackedLinear(set,
                       {{name + ".k_proj", c.n_kv_heads * c.d_k}, {name + ".v_proj", c.n_kv_heads * c.d_v}},
                       c.d_model, kStackedGain);
}

}  // namespace

MultiHeadAttention::MultiHeadAttention(ParameterSet& set, const std::string& name, const MultiHeadConfig& c)
    : config_(c),
      heads_{.n_heads = c.n_heads, .n_kv_heads = c.n_kv_heads, .d_k = c.d_k, .d_v = c.d_v},
      of_x_(set, parts_of_x(name, c), c.d_model, kStackedGain),
      of_memory_(of_memory(set, name, c)),
      wo_(set, name + ".out_proj", c.n_heads * c.d_v, c.d_model),
      parts_(make_variant(c.attention, {.set = set,
                                        .prefix = name,
                                        .heads = heads_,
                                        .d_model = c.d_model,
                                        .causal = c.causal,
                                        .cross = c.cross})) {}

MultiHeadAttention::Meeting MultiHeadAttention::meet(const Var& projected, const Segments& queries,
                                                     int64_t max_kv_len, const std::vector<RulePtr>& rules,
                                                     Probe* probe) const {
  const Var q = parts_.score->prepare_queries(projected, heads_);
  Meeting m{.q = parts_.positions ? parts_.positions->queries(q, queries) : q,
            .options = {.heads = heads_,
                        .score = prepared(parts_.score),
                        .rules = parts_.rules,
                        .normalizer = parts_.normalizer,
                        .talking = parts_.talking,
                        .path = parts_.path,
                        .probe = probe,
                        .site = config_.site,
                        .layer = config_.layer}};
  if (config_.causal) m.options.rules.push_back(causal());
  m.options.rules.insert(m.options.rules.end(), rules.begin(), rules.end());
  if (parts_.positions) parts_.positions->add_to(m.options, q, max_kv_len);
  return m;
}

Var MultiHeadAttention::placed(const Var& projected, const Segments& keys) const {
  const Var k = parts_.score->prepare_keys(projected, heads_);
  return parts_.positions ? parts_.positions->keys(k, keys) : k;
}

Var MultiHeadAttention::operator()(Pass& pass, const Var& x, const Segments& queries, const Var& memory,
                                   const Segments& keys, const std::vector<RulePtr>& rules, Probe* probe,
                                   const Var& residual) const {
  const trace::Span span("multi_head_attention");
  span.note([&] { return fmt::format("{} {}", config_.site, config_.layer); });
  // Where a text goes on after rows that are known, keys and values are of all of it and queries of x alone.
  const bool apart = !of_memory_ && !memory.is(x);
  std::vector<Var> qkv = apart ? of_x_.some(x, 0, 1) : of_x_(x);
  if (qkv.size() == 1)
    for (const Var& more : of_memory_ ? (*of_memory_)(memory) : of_x_.some(memory, 1, 3)) qkv.push_back(more);
  Meeting m = meet(qkv[0], queries, keys.max_length(), rules, probe);
  const RandomKey key = pass.next_key();
  if (const double p = pass.rate(config_.dropout); p > 0)
    m.options.dropout = {.key = key, .threshold = kernels::Dropout::threshold_of(p)};
  return joined(attention(m.q, placed(qkv[1], keys), qkv[2], queries, keys, m.options), queries, probe,
                residual);
}

void MultiHeadAttention::remember(const Var& memory, const Segments& keys, KvCache& cache) const {
  QKV_CHECK(of_memory_, kValue,
            "multi-head attention: to its own text attend() remembers; remember() is for another's (cross)");
  const std::vector<Var> kv = (*of_memory_)(memory);
  cache.append(keys, placed(kv[0], keys).value(), kv[1].value());
}

Var MultiHeadAttention::attend(const Var& x, const Segments& queries, KvCache& cache,
                               const std::vector<RulePtr>& rules, Probe* probe, const Var& residual) const {
  const trace::Span span("multi_head_attention");
  span.note([&] { return fmt::format("{} {}", config_.site, config_.layer); });
  const std::vector<Var> own = of_x_(x);
  if (!of_memory_) cache.append(queries, placed(own[1], queries).value(), own[2].value());
  int64_t max_kv_len = 0;
  for (int64_t s = 0; s < cache.size(); ++s) max_kv_len = std::max(max_kv_len, cache.length(s));
  const Meeting m = meet(own[0], queries, max_kv_len, rules, probe);
  return joined(Var(attention_cached(m.q.value(), queries, cache.spans(), x.dtype(), m.options)), queries,
                probe, residual);
}

Var MultiHeadAttention::joined(const Var& heads, const Segments& queries, const Probe* probe,
                               const Var& residual) const {
  return wo_.onto(residual, control_heads(heads, queries, heads_.n_heads, parts_.head_scale,
                                          probe ? probe->controls : nullptr, config_.site, config_.layer));
}

KvCache MultiHeadAttention::make_cache(DType dtype, int64_t n_sequences,
                                       const KvCacheOptions& options) const {
  // Its positions count within the cache, a layer's within the text, and one Segments cannot say both.
  QKV_CHECK(options.layout != CacheLayout::kSliding, kUnsupported,
            "multi-head attention: a sliding cache gives rows other positions than the text's; call "
            "attention_cached() "
            "with one, or let a window:N mask a plain or paged cache");
  return {n_sequences,
          {.n_kv_heads = heads_.kv_heads(),
           .width = parts_.score->pairing(heads_).width,
           .d_v = heads_.value_width(),
           .dtype = dtype},
          options};
}

}  // namespace qkv
