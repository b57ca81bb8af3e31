// Multi-head attention: an often-copied sketch and what becomes of it, then the calls that do it right. The
// code and the output of docs/multi-head-attention.md are from here.

#include "qkv/attention/multi_head_attention.h"

#include <cmath>
#include <cstdio>

#include "qkv/attention/sdpa.h"
#include "qkv/autograd/gradcheck.h"
#include "qkv/nn/linear.h"

using namespace qkv;

// ---- the sketch ----

// `@` and K^T work on the last two axes. So does this call, which is exact: whatever the axes before them
// mean.
Tensor sketch(const Tensor& query, const Tensor& key, const Tensor& value, int64_t d_k, int64_t d_v,
              int64_t num_heads) {
  const int64_t batch_size = query.size(0), seq_len = query.size(1);  // the sketch does not say
  const Tensor q = query.reshape({batch_size, seq_len, num_heads, d_k}),
               k = key.reshape({batch_size, seq_len, num_heads, d_k}),
               v = value.reshape({batch_size, seq_len, num_heads, d_v});
  return scaled_dot_product_attention(Var(q), Var(k), Var(v))
      .value()
      .contiguous()
      .reshape({batch_size, seq_len, num_heads * d_v});
}

// The same with the axes of positions and heads exchanged, as they have to be.
Tensor sketch_with_positions(const Tensor& x, int64_t num_heads, Probe* probe = nullptr) {
  const Var heads = split_heads(Var(x.reshape({x.size(0) * x.size(1), x.size(2)})), x.size(0), num_heads);
  return merge_heads(scaled_dot_product_attention(heads, heads, heads, {.probe = probe}))
      .value()
      .reshape(x.shape());
}

Tensor tokens(int64_t batch, int64_t length, int64_t d_model) {
  return random_tensor({batch, length, d_model}, 1, DType::kF32);
}

// The largest change in the first token's output when the last token is another.
template <class F>
double influence_of_the_last_on_the_first(const Tensor& x, F&& f) {
  const Tensor other = x.clone();
  other.slice(1, x.size(1) - 1, x.size(1)).fill(1);
  const Tensor a = f(x), b = f(other);
  double most = 0;
  for (int64_t d = 0; d < a.size(2); ++d) most = std::max(most, std::abs(a.at({0, 0, d}) - b.at({0, 0, d})));
  return most;
}

template <class F>
void print_error(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    std::printf("%s\n", e.what());
  }
}

void faults() {
  // 2. d_model is not n_heads * d_k.
  const Tensor x = tokens(2, 5, 512);
  print_error([&] { (void)sketch(x, x, x, /*d_k=*/48, /*d_v=*/48, /*num_heads=*/8); });
  // 3. Queries and keys of different lengths.
  const Tensor memory = tokens(2, 7, 512);
  print_error([&] { (void)sketch(x, memory, memory, 64, 64, 8); });
  // The axes: every token looks at its own heads, and at no other token.
  std::printf(
      "influence of the last token on the first, by the sketch: %.2f\n",
      influence_of_the_last_on_the_first(x, [](const Tensor& t) { return sketch(t, t, t, 64, 64, 8); }));
  // 4. No projections: a token is most similar to itself.
  Probe probe{.sites = {}, .layers = {}, .heads = {0}, .sequences = {0}, .positions = {0}, .rows = {}};
  (void)sketch_with_positions(x, 8, &probe);
  std::printf("weight of the first token on itself, without projections: %.3f\n",
              static_cast<double>(probe.rows[0].attn_weights[0]));
  // And no mask: the future is seen.
  ParameterSet set(/*seed=*/1);
  const MultiHeadWeights weights = multi_head_weights(set, "self_attn", {.embed_dim = 512});
  for (bool is_causal : {false, true})
    std::printf("influence of the last token on the first, %s: %.2f\n", is_causal ? "is_causal" : "no mask",
                influence_of_the_last_on_the_first(x, [&](const Tensor& t) {
                  return multi_head_attention(Var(t), Var(t), Var(t), weights,
                                              {.n_heads = 8, .batch_first = true, .is_causal = is_causal})
                      .output.value();
                }));
}

// ---- done right ----

struct Projections {
  Linear wq, wk, wv, wo;
};

// Packed: sequences of 3 and 5 tokens look at sequences of 7 and 4, without padding.
Var packed(const Projections& w, const Var& x, const Var& memory) {
  const Segments targets({3, 5}), sources({7, 4});
  const AttentionOptions options{.heads = {.n_heads = 8, .d_k = 48, .d_v = 32}};
  return w.wo(attention(w.wq(x), w.wk(memory), w.wv(memory), targets, sources, options));
}

// 4-D: one length for all, so the shorter sequences are filled up. A mask hides the keys that are not there.
Var padded(const Projections& w, const Var& x, const Var& memory) {
  const int64_t batch = 2, n_heads = 8;
  const Tensor is_token =
      Tensor::from({batch, 1, 1, 7}, {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0}, DType::kI32);
  const Var heads = scaled_dot_product_attention(
      split_heads(w.wq(x), batch, n_heads), split_heads(w.wk(memory), batch, n_heads),
      split_heads(w.wv(memory), batch, n_heads), {.attn_mask = is_token});  // TRUE = may attend
  return w.wo(merge_heads(heads));
}

// nn.MultiheadAttention(512, 8, batch_first=True): self-attention in a text to be continued, the second
// sequence of 3 tokens.
MultiHeadResult as_in_pytorch(const MultiHeadWeights& weights, const Var& x) {
  const Tensor is_padding = Tensor::from({2, 5}, {0, 0, 0, 0, 0, 0, 0, 0, 1, 1}, DType::kI32);
  return multi_head_attention(x, x, x, weights,
                              {.n_heads = 8,
                               .batch_first = true,
                               .key_padding_mask = is_padding,  // TRUE = ignore
                               .is_causal = true,
                               .need_weights = true});
}

// Sequence after sequence of `lengths`, at the start of `length` rows each; the others hold something.
Tensor filled_up(const Tensor& rows, const std::vector<int64_t>& lengths, int64_t length) {
  const auto batch = static_cast<int64_t>(lengths.size());
  const Tensor out = random_tensor({batch * length, rows.size(1)}, 9, rows.dtype());
  int64_t begin = 0;
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t n = lengths[static_cast<size_t>(b)];
    out.rows(b * length, b * length + n).copy_from(rows.rows(begin, begin + n));
    begin += n;
  }
  return out;
}

int main() {
  faults();

  const int64_t d_model = 512, n_heads = 8;
  ParameterSet set(/*seed=*/1);
  const Projections w{
      Linear(set, "q_proj", d_model, n_heads * 48), Linear(set, "k_proj", d_model, n_heads * 48),
      Linear(set, "v_proj", d_model, n_heads * 32), Linear(set, "out_proj", n_heads * 32, d_model)};
  const Tensor x = random_tensor({3 + 5, d_model}, 2, DType::kF32),
               memory = random_tensor({7 + 4, d_model}, 3, DType::kF32);
  const Tensor a = packed(w, Var(x), Var(memory)).value();
  const Tensor b = padded(w, Var(filled_up(x, {3, 5}, 5)), Var(filled_up(memory, {7, 4}, 7))).value();
  const bool equal =
      a.rows(0, 3).values() == b.rows(0, 3).values() && a.rows(3, 8).values() == b.rows(5, 10).values();
  std::printf("packed and padded give the same bits: %s\n", equal ? "yes" : "no");

  const MultiHeadWeights weights = multi_head_weights(set, "self_attn", {.embed_dim = d_model});
  const MultiHeadResult result = as_in_pytorch(weights, Var(tokens(2, 5, d_model)));
  std::printf("output %s, attn_weights %s\n", result.output.value().shape().str().c_str(),
              result.attn_weights.shape().str().c_str());
  print_error([&] {
    (void)multi_head_attention(Var(tokens(2, 5, d_model)), Var(tokens(2, 7, d_model)),
                               Var(tokens(2, 7, d_model)), weights, {.n_heads = 7, .batch_first = true});
  });
  return equal ? 0 : 1;
}
