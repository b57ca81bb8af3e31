#include "apps/cli/bench_attention.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <vector>

#include "apps/cli/bench_timing.h"
#include "qkv/attention/scores.h"
#include "qkv/attention/variant.h"
#include "qkv/autograd/gradcheck.h"
#include "qkv/base/quote.h"
#include "qkv/tensor/roofline.h"

namespace qkv::cli {
namespace {

// 64 rows of one head, from the middle on.
Probe some_rows(int64_t length) {
  Probe probe{.sites = {}, .layers = {}, .heads = {0}, .sequences = {0}, .positions = {}, .rows = {}};
  for (int64_t i = 0; i < std::min<int64_t>(64, length); ++i)
    probe.positions.push_back((length / 2 + i) % length);
  return probe;
}

// The rule as words of attention/variant.h; padding, which no word says, is added by itself.
std::string words_of(const BenchAttention& b) {
  if (b.rule.empty() || b.rule == "padding") return "scaled_dot";
  if (b.rule == "soft-cap") return "soft_cap:30";
  if (b.rule == "window") return fmt::format("window:{}", b.window);
  return b.rule;
}

}  // namespace

AttentionShape attention_shape(const std::string& text) {
  auto [batch, heads, length, d] = AttentionShape{};
  char rest = 0;
  QKV_CHECK(std::sscanf(text.c_str(), "%ldx%ldx%ldx%ld%c", &batch, &heads, &length, &d, &rest) == 4, kValue,
            "bench attention: shape {} is not BATCHxHEADSxLENGTHxWIDTH, as 1x12x4096x64", quote(text));
  constexpr int64_t kBatch = 1 << 20, kHeads = 65536, kLength = 1 << 24, kWidth = 65536,
                    kNumbers = int64_t{1} << 33;
  const auto within = [](int64_t n, int64_t most) { return n >= 1 && n <= most; };
  QKV_CHECK(
      within(batch, kBatch) && within(heads, kHeads) && within(length, kLength) && within(d, kWidth) &&
          batch * heads * length <= kNumbers / d,
      kValue,
      "bench attention: shape {} is out of bounds: each from 1, to {}x{}x{}x{}, and their product to {}",
      quote(text), kBatch, kHeads, kLength, kWidth, kNumbers);
  return {batch, heads, length, d};
}

void bench_attention(const BenchAttention& b, DType dtype, bool json) {
  const auto [batch, heads, length, d] = attention_shape(b.shape);
  const int64_t q_len = b.q_len > 0 ? b.q_len : length, kv_heads = b.n_kv_heads > 0 ? b.n_kv_heads : heads;
  QKV_CHECK(q_len <= length, kValue, "bench attention: --q-len {} is more than the length {}", q_len, length);
  ParameterSet set(1);
  const HeadSizes sizes{.n_heads = heads, .n_kv_heads = kv_heads, .d_k = d};
  const AttentionParts parts = make_variant(words_of(b), {.set = set,
                                                          .prefix = "bench",
                                                          .heads = sizes,
                                                          .d_model = heads * d,
                                                          .causal = b.causal || b.rule == "window"});
  AttentionOptions options{.heads = sizes,
                           .score = prepared(parts.score),
                           .rules = parts.rules,
                           .normalizer = parts.normalizer,
                           .talking = parts.talking,
                           .path = parts.path};
  QKV_CHECK(!parts.head_scale, kValue,
            "bench attention: head_scale belongs to the layer around the op that is timed here");
  if (b.causal) options.rules.push_back(causal());
  if (b.rule == "padding")
    options.rules.push_back(
        key_limit(std::vector<int64_t>(static_cast<size_t>(batch), length - length / 64)));

  // The last q_len positions of each sequence ask.
  const std::vector<int64_t> asked(static_cast<size_t>(batch), q_len),
      past(static_cast<size_t>(batch), length - q_len), lengths(static_cast<size_t>(batch), length);
  const Segments queries(asked, past), keys(lengths);
  const Var q(random_tensor({batch * q_len, heads * d}, 1, dtype), b.backward),
      k(random_tensor({batch * length, kv_heads * d}, 2, dtype), b.backward),
      v(random_tensor({batch * length, kv_heads * d}, 3, dtype), b.backward);
  const Tensor gradient = random_tensor(q.value().shape(), 4, dtype);
  const double base = peak_rss_mb();

  const Timing timing = timed([&] {
    Probe probe = some_rows(length);
    options.probe = b.probe ? &probe : nullptr;
    const auto whole = [&] {
      const Var q_prepared = parts.score->prepare_queries(q, sizes),
                k_prepared = parts.score->prepare_keys(k, sizes);
      if (!parts.positions) return attention(q_prepared, k_prepared, v, queries, keys, options);
      parts.positions->add_to(options, q_prepared, length);
      return attention(parts.positions->queries(q_prepared, queries), parts.positions->keys(k_prepared, keys),
                       v, queries, keys, options);
    };
    if (!b.backward) {
      const NoGrad off;
      (void)whole();
      return;
    }
    for (const Var* x : {&q, &k, &v}) x->set_grad({});
    backward(whole(), gradient);
  });
  const double flop = 4.0 * static_cast<double>(batch * heads * q_len) * static_cast<double>(length * d) *
                      (b.backward ? 3 : 1);
  const std::string name =
      fmt::format("attn {} B{} H{}{} {}S{} D{} {}{}{}{}", b.backward ? "fwdbwd" : "fwd", batch, heads,
                  kv_heads == heads ? "" : fmt::format("/{}", kv_heads),
                  q_len == length ? "" : fmt::format("Q{} ", q_len), length, d, qkv::name(dtype),
                  b.causal ? " causal" : "", b.rule.empty() ? "" : " " + b.rule, b.probe ? " probe" : "");
  io::Json more = {{"base_rss_mb", std::round(base)}, {"above_mb", std::round(peak_rss_mb() - base)}};
  double bytes = 0;
  if (q_len < 16 && !b.backward) {  // few queries cost what reading keys and values costs
    bytes = static_cast<double>(k.value().n_bytes() + v.value().n_bytes());
    const double read = read_bandwidth(static_cast<int64_t>(bytes));
    more["read_gb_s_med"] = std::round(read / 1e7) / 100;
    more["of_read_pct"] = std::round(100 * bytes / read / timing.med_s);
  }
  print_case(
      {.name = name, .shape = b.shape, .precision = dtype, .work = flop / 1e9, .bytes = bytes, .more = more},
      timing, json);
}

}  // namespace qkv::cli
