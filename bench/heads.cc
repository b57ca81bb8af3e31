// What heads of every kind cost beside plain ones: one JSON line a case, wall time, median and best of
// several runs.
//
//   bench_heads [--dtype bf16] [--length 2048] [--heads 12]
//
// Attention alone (1 sequence, heads of 64): plain, on whole rows, talking, sparse. Whole layers of d_model =
// heads * 64: multi-head and latent, training form and a decode step at the end of a text of that length,
// with the bytes that a cache holds for a token.

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>

#include "qkv/attention/heads/latent.h"
#include "qkv/attention/multi_head.h"
#include "qkv/autograd/gradcheck.h"
#include "qkv/base/parallel.h"

namespace qkv {
namespace {

void timed(const std::string& name, DType dtype, const std::string& more, const std::function<void()>& f) {
  f();
  std::vector<double> ms;
  double total = 0;
  while (ms.size() < 5 || (total < 500 && ms.size() < 1000)) {
    const auto begin = std::chrono::steady_clock::now();
    f();
    ms.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count());
    total += ms.back();
  }
  std::sort(ms.begin(), ms.end());
  fmt::print(
      R"({{"case": "{}", "dtype": "{}", "isa": "{}", "threads": {}, "n": {}, "min_ms": {:.3f}, "med_ms": {:.3f}{}}})"
      "\n",
      name, qkv::name(dtype), qkv::name(kernels::table().isa), threads(), ms.size(), ms.front(),
      ms[ms.size() / 2], more);
  std::fflush(stdout);
}

void attention_cases(DType dtype, int64_t length, int64_t n_heads) {
  const HeadSizes heads{.n_heads = n_heads, .d_k = 64};
  ParameterSet set(1, accumulator_dtype(dtype));
  const TalkingHeads both = talking_heads(set, "t", heads);
  const Segments tokens({length});
  const auto random = [&](uint64_t seed) {
    return Var(random_tensor({length, n_heads * 64}, seed, dtype), true);
  };
  const Var q = random(1), k = random(2), v = random(3);
  const Tensor gradient = random_tensor(q.value().shape(), 4, dtype);
  const std::pair<const char*, AttentionOptions> cases[] = {
      {"softmax", {.heads = heads}},
      {"softmax on whole rows", {.heads = heads, .path = AttentionPath::kRows}},
      {"talking heads", {.heads = heads, .talking = both}},
      {"talking heads, scores alone", {.heads = heads, .talking = {.scores = both.scores}}},
      {"sparsemax", {.heads = heads, .normalizer = sparsemax()}},
      {"entmax15", {.heads = heads, .normalizer = entmax15()}},
      {"softmax, causal", {.heads = heads, .rules = {causal()}}},
      {"talking heads, causal", {.heads = heads, .rules = {causal()}, .talking = both}},
      {"sparsemax, causal", {.heads = heads, .rules = {causal()}, .normalizer = sparsemax()}},
  };
  for (const auto& [name, options] : cases) {
    const std::string shape = fmt::format(" 1x{}x{}x64", n_heads, length);
    timed(name + shape + " fwd", dtype, "", [&] {
      const NoGrad off;
      (void)attention(q, k, v, tokens, tokens, options);
    });
    timed(name + shape + " fwdbwd", dtype, "", [&] {
      for (const Var* x : {&q, &k, &v}) x->set_grad({});
      backward(attention(q, k, v, tokens, tokens, options), gradient);
    });
  }
}

void layer_cases(DType dtype, int64_t length, int64_t n_heads) {
  const int64_t d_model = n_heads * 64;
  const Segments tokens({length}), one({1}, {length});
  const Var x(random_tensor({length, d_model}, 1, dtype), true), next(random_tensor({1, d_model}, 2, dtype));
  const Tensor gradient = random_tensor({length, d_model}, 4, dtype);
  const auto trained = [&](const std::string& name, const std::function<Var(Pass&)>& layer,
                           const std::string& more) {
    Pass pass = Pass::running(dtype);
    timed(name + " layer fwd", dtype, more, [&] {
      const NoGrad off;
      (void)layer(pass);
    });
    timed(name + " layer fwdbwd", dtype, more, [&] {
      x.set_grad({});
      backward(layer(pass), gradient);
    });
  };
  for (int64_t kv_heads : {n_heads, int64_t{1}}) {
    ParameterSet set(1, accumulator_dtype(dtype));
    const MultiHeadAttention layer(set, "a",
                                   {.d_model = d_model,
                                    .n_heads = n_heads,
                                    .n_kv_heads = kv_heads,
                                    .d_k = 64,
                                    .d_v = 64,
                                    .causal = true});
    const std::string name = kv_heads == 1 ? "multi-query" : "multi-head",
                      bytes =
                          fmt::format(R"(, "cache_bytes_a_token": {})", 2 * kv_heads * 64 * size_of(dtype));
    trained(
        name, [&](Pass& pass) { return layer(pass, x, tokens, x, tokens, {}, nullptr); }, bytes);
    KvCache cache = layer.make_cache(dtype, 1);
    layer.remember(x, tokens, cache);
    timed(fmt::format("{} decode step at {}", name, length), dtype, bytes, [&] {
      const NoGrad no;
      (void)layer.attend(next, one, cache, {}, nullptr);
    });
  }
  // A latent of 4 heads' width and half a head with positions, as the paper has them.
  ParameterSet set(1, accumulator_dtype(dtype));
  const MultiHeadLatentAttention layer(set, "a",
                                       {.d_model = d_model,
                                        .n_heads = n_heads,
                                        .kv_lora_rank = 256,
                                        .qk_nope_head_dim = 64,
                                        .qk_rope_head_dim = 32,
                                        .v_head_dim = 64});
  const std::string bytes = fmt::format(R"(, "cache_bytes_a_token": {})", layer.cached_bytes(dtype));
  trained(
      "latent", [&](Pass& pass) { return layer(pass, x, tokens, {causal()}); }, bytes);
  LatentCache cache = layer.make_cache(dtype, 1);
  layer.remember(x, tokens, cache);
  timed(fmt::format("latent decode step at {}", length), dtype, bytes,
        [&] { (void)layer.attend(next, one, cache, {causal()}); });
  timed("latent prefill, running form", dtype, bytes,
        [&] { (void)layer.attend(x, tokens, cache, {causal()}); });
}

int run(int argc, char** argv) {
  DType dtype = DType::kBF16;
  int64_t length = 2048, heads = 12;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (!std::strcmp(argv[i], "--dtype"))
      dtype = !std::strcmp(argv[i + 1], "f64")   ? DType::kF64
              : !std::strcmp(argv[i + 1], "f32") ? DType::kF32
                                                 : DType::kBF16;
    if (!std::strcmp(argv[i], "--length")) length = std::max(1, std::atoi(argv[i + 1]));
    if (!std::strcmp(argv[i], "--heads")) heads = std::max(1, std::atoi(argv[i + 1]));
  }
  attention_cases(dtype, length, heads);
  layer_cases(dtype, length, heads);
  return 0;
}

}  // namespace
}  // namespace qkv

int main(int argc, char** argv) { return qkv::run(argc, argv); }
