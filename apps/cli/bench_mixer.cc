#include <fmt/core.h>

#include <cmath>

#include "apps/cli/bench_attention.h"
#include "apps/cli/bench_timing.h"
#include "qkv/attention/mixers.h"
#include "qkv/autograd/gradcheck.h"

namespace qkv::cli {
namespace {

// Log decays around -0.05, as a gate of log sigmoid(x) / 16 gives.
Tensor random_gates(int64_t n, int64_t width, DType dtype) {
  std::vector<double> x = random_tensor({n, width}, 5).values();
  for (double& g : x) g = -std::log1p(std::exp(-g)) / 16;
  return Tensor::from({n, width}, x, dtype);
}

}  // namespace

void bench_mixer(const BenchAttention& b, DType dtype, bool json) {
  const auto [batch, heads, length, d] = attention_shape(b.shape);
  const int64_t kv_heads = b.n_kv_heads > 0 ? b.n_kv_heads : heads;
  QKV_CHECK(b.rule.empty() && !b.probe, kValue, "bench attention: --mixer takes no --rule and no --probe");
  MixerOptions options{.heads = {.n_heads = heads, .n_kv_heads = kv_heads, .d_k = d}, .log_decay = {}};
  options.mixer =
      b.mixer == "performer" ? performer(options.heads, b.features) : make_mixer(b.mixer, options.heads);
  options.causal = b.causal || options.mixer->forgets();
  const bool step = b.q_len == 1;
  QKV_CHECK(b.q_len <= 1, kValue, "bench attention: --mixer with --q-len runs single steps: give 1");
  const int64_t rows = step ? batch : batch * length;
  const Segments tokens(std::vector<int64_t>(static_cast<size_t>(batch), step ? 1 : length));
  const Var q(random_tensor({rows, heads * d}, 1, dtype), b.backward),
      k(random_tensor({rows, kv_heads * d}, 2, dtype), b.backward),
      v(random_tensor({rows, kv_heads * d}, 3, dtype), b.backward);
  const Tensor gradient = random_tensor(q.value().shape(), 4, dtype);
  if (b.mixer == "gla") options.log_decay = Var(random_gates(rows, kv_heads * d, dtype), b.backward);
  MixerState state(step ? batch : 0, options, dtype);
  const double base = peak_rss_mb();

  const Timing timing = timed([&] {
    if (step) {
      (void)mix_cached(q.value(), k.value(), v.value(), tokens, tokens, state, options);
      return;
    }
    if (!b.backward) {
      const NoGrad off;
      (void)mix(q, k, v, tokens, tokens, options);
      return;
    }
    for (const Var* x : {&q, &k, &v}) x->set_grad({});
    if (options.log_decay.defined()) options.log_decay.set_grad({});
    backward(mix(q, k, v, tokens, tokens, options), gradient);
  });
  const int64_t width = options.mixer->width(options.heads), chunk = step || !options.causal ? 0 : 64;
  const int64_t forward = chunk * (width + d) + 2 * width * d,
                back = chunk * (3 * width + 2 * d) + 5 * width * d;
  const double flop =
      2.0 * static_cast<double>(rows * heads) * static_cast<double>(forward + (b.backward ? back : 0));
  const std::string name =
      fmt::format("{} {} B{} H{}{} {} D{}{} {}{}", b.mixer,
                  step         ? "step"
                  : b.backward ? "fwdbwd"
                               : "fwd",
                  batch, heads, kv_heads == heads ? "" : fmt::format("/{}", kv_heads),
                  step ? "" : fmt::format("S{}", length), d, width == d ? "" : fmt::format(" M{}", width),
                  qkv::name(dtype), options.causal ? " causal" : "");
  print_case({.name = name,
              .shape = b.shape,
              .precision = dtype,
              .work = flop / 1e9,
              .more = {{"base_rss_mb", std::round(base)},
                       {"above_mb", std::round(peak_rss_mb() - base)},
                       {"ns_per_token_head_med",
                        std::round(1e9 * timing.med_s / static_cast<double>(rows * heads))}}},
             timing, json);
}

}  // namespace qkv::cli
