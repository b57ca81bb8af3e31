// Values and gradients against PyTorch: torch_parity.txt, which torch_parity.py wrote. A case's line named
// output or attn_weights is that value, any other the gradient of the tensor so named.

#include <fstream>
#include <map>
#include <sstream>

#include "qkv/attention/multi_head_attention.h"
#include "qkv/attention/sdpa.h"
#include "qkv/attention/test_cases.h"

namespace qkv {
namespace {

using namespace test;

constexpr int64_t kBatch = 2, kQueries = 3, kKeys = 4, kWidth = 4, kHeads = 2;
constexpr double kHidden = -std::numeric_limits<double>::infinity();

using Tensors = std::map<std::string, Tensor>;

const std::map<std::string, Tensors>& expected() {
  static const std::map<std::string, Tensors> all = [] {
    std::map<std::string, Tensors> cases;
    std::ifstream file(QKV_SOURCE_DIR "/qkv/attention/torch_parity.txt");
    for (std::string line; std::getline(file, line);) {
      std::istringstream words(line);
      std::string name, tensor, shape;
      words >> name >> tensor >> shape;
      std::vector<int64_t> sizes;
      std::istringstream parts(shape);
      for (std::string size; std::getline(parts, size, 'x');) sizes.push_back(std::stol(size));
      std::vector<double> values;
      for (double v; words >> v;) values.push_back(v);
      cases[name][tensor] = Tensor::from(Shape{std::span<const int64_t>(sizes)}, values, DType::kF64);
    }
    return cases;
  }();
  return all;
}

// The script's noise().
Tensor noise(const Shape& shape, uint32_t seed) {
  std::vector<double> out;
  for (uint32_t n = 0; n < static_cast<uint32_t>(shape.numel()); ++n) {
    uint32_t u = n * 2654435761u + seed * 40503u + 12345u;
    u ^= u >> 15;
    u *= 2246822519u;
    u ^= u >> 13;
    out.push_back(u / 2147483648.0 - 1);
  }
  return Tensor::from(shape, out, DType::kF64);
}

template <class F>
Tensor map(const Tensor& x, DType dtype, F&& f) {
  std::vector<double> out = x.values();
  for (size_t i = 0; i < out.size(); ++i) out[i] = f(i, out[i]);
  return Tensor::from(x.shape(), out, dtype);
}
// 1 = hidden, but the first of every row of keys.
Tensor hidden(const Shape& shape, uint32_t seed) {
  const size_t keys = static_cast<size_t>(shape[shape.rank() - 1]);
  return map(noise(shape, seed), DType::kI32, [=](size_t i, double x) { return i % keys != 0 && x > 0.2; });
}
Tensor shown(const Shape& shape, uint32_t seed) {
  return map(hidden(shape, seed), DType::kI32, [](size_t, double x) { return 1 - x; });
}
Tensor with_holes(const Shape& shape, uint32_t seed) {
  const std::vector<double> holes = hidden(shape, seed + 1).values();
  return map(noise(shape, seed), DType::kF64,
             [&](size_t i, double x) { return holes[i] != 0 ? kHidden : x; });
}

// In bf16 a result and its gradient are rounded at every step of the way.
double tolerance(DType dtype) { return dtype == DType::kF64 ? 2e-9 : dtype == DType::kF32 ? 5e-6 : 0.08; }

void expect_equal(const std::string& name, const std::string& tensor, const Tensor& got, DType dtype) {
  ASSERT_TRUE(expected().contains(name)) << name << " is not in torch_parity.txt";
  const Tensors& want = expected().at(name);
  ASSERT_TRUE(want.contains(tensor)) << name << " has no " << tensor;
  ASSERT_TRUE(got.defined()) << name << " " << tensor;
  ASSERT_EQ(got.shape(), want.at(tensor).shape()) << name << " " << tensor;
  const bool weights = tensor == "attn_weights" && dtype == DType::kF64;  // always f32
  EXPECT_LE(max_difference(got.contiguous(), want.at(tensor)), weights ? 1e-7 : tolerance(dtype))
      << name << " " << tensor << " " << qkv::name(dtype);
}

struct Case {
  std::string name;
  MultiHeadOptions options = {};
  MultiHeadWeightsConfig weights = {};
  bool batched = true, self_attention = false;
};

std::vector<Case> multi_head_cases() {
  const Shape all{kBatch * kHeads, kQueries, kKeys}, one{kQueries, kKeys};
  const Tensor padding = Tensor::from({kBatch, kKeys}, {0, 0, 1, 1, 0, 0, 0, 1}, DType::kI32);
  const auto var = [](const Tensor& x) { return Var(x, true); };
  return {{.name = "mha/plain"},
          {.name = "mha/batch_first", .options = {.batch_first = true}},
          {.name = "mha/unbatched", .batched = false},
          {.name = "mha/self", .self_attention = true},
          {.name = "mha/no_bias", .weights = {.bias = false}},
          {.name = "mha/kdim_vdim", .weights = {.kdim = 3, .vdim = 5}},
          {.name = "mha/kdim_vdim_no_bias", .weights = {.kdim = 3, .vdim = 5, .bias = false}},
          {.name = "mha/bias_kv", .weights = {.add_bias_kv = true}},
          {.name = "mha/zero_attn", .options = {.add_zero_attn = true}},
          {.name = "mha/mask", .options = {.attn_mask = hidden(one, 21)}},
          {.name = "mha/mask_of_heads", .options = {.attn_mask = hidden(all, 22)}},
          {.name = "mha/bias", .options = {.attn_bias = var(noise(one, 23))}},
          {.name = "mha/bias_of_heads", .options = {.attn_bias = var(with_holes(all, 24))}},
          {.name = "mha/padding", .options = {.key_padding_mask = padding}},
          {.name = "mha/padding_bias", .options = {.key_padding_bias = var(noise({kBatch, kKeys}, 26))}},
          {.name = "mha/bias_and_padding",
           .options = {.batch_first = true, .attn_bias = var(noise(one, 23)), .key_padding_mask = padding}},
          {.name = "mha/causal", .options = {.is_causal = true}},
          {.name = "mha/everything",
           .options =
               {.batch_first = true, .key_padding_mask = padding, .is_causal = true, .add_zero_attn = true},
           .weights = {.kdim = 3, .vdim = 5, .add_bias_kv = true}},
          {.name = "mha/bias_and_more_keys",
           .options = {.attn_bias = var(with_holes(all, 24)), .add_zero_attn = true},
           .weights = {.add_bias_kv = true}}};
}

void compare(const Case& c, DType dtype, AttentionPath path) {
  const std::map<std::string, uint32_t> seeds = {
      {"in_proj_weight", 11}, {"in_proj_bias", 12},  {"out_proj.weight", 13},
      {"out_proj.bias", 14},  {"bias_k", 15},        {"bias_v", 16},
      {"q_proj_weight", 17},  {"k_proj_weight", 18}, {"v_proj_weight", 19}};
  ParameterSet set(1, accumulator_dtype(dtype));
  MultiHeadWeightsConfig config = c.weights;
  config.embed_dim = kWidth;
  const MultiHeadWeights weights = multi_head_weights(set, "attn", config);
  for (const ParameterPtr& p : set.all())
    p->set_value(noise(p->value().shape(), seeds.at(p->name().substr(5))).to(set.dtype()));

  MultiHeadOptions options = c.options;
  options.n_heads = kHeads;
  options.path = path;
  options.need_weights = true;
  options.average_attn_weights = false;
  // Fresh leaves: gradients of a case's tensors would add up over calls.
  for (Var* bias : {&options.attn_bias, &options.key_padding_bias})
    if (bias->defined()) *bias = Var(bias->value().to(dtype), true);
  const auto tokens = [&](int64_t length, int64_t width, uint32_t seed) {
    const Shape shape = !c.batched            ? Shape{length, width}
                        : options.batch_first ? Shape{kBatch, length, width}
                                              : Shape{length, kBatch, width};
    return Var(noise(shape, seed).to(dtype), true);
  };
  const Var query = tokens(kQueries, kWidth, 1);
  const Var key = c.self_attention ? query : tokens(kKeys, config.kdim ? config.kdim : kWidth, 2),
            value = c.self_attention ? query : tokens(kKeys, config.vdim ? config.vdim : kWidth, 3);

  const MultiHeadResult result = multi_head_attention(query, key, value, weights, options);
  backward(result.output, noise(result.output.value().shape(), 6).to(dtype));
  const auto same = [&](const std::string& tensor, const Tensor& got) {
    expect_equal(c.name, tensor, got, dtype);
  };
  same("output", result.output.value());
  same("attn_weights", result.attn_weights);
  same("query", query.grad());
  if (!c.self_attention) {
    same("key", key.grad());
    same("value", value.grad());
  }
  if (options.attn_bias.defined()) same("attn_bias", options.attn_bias.grad());
  if (options.key_padding_bias.defined()) same("key_padding_bias", options.key_padding_bias.grad());
  for (const ParameterPtr& p : set.all()) same(p->name().substr(5), p->grad());
}

TEST(TorchParity, MultiHeadAttentionIsPyTorchsInEveryOption) {
  for (const Case& c : multi_head_cases())
    for (DType dtype : {DType::kF64, DType::kF32, DType::kBF16})
      for (AttentionPath path : {AttentionPath::kReference, AttentionPath::kBlocked}) compare(c, dtype, path);
}

struct SdpaCase {
  std::string name;
  SdpaOptions options = {};
  int64_t heads = 2, q_len = kQueries, kv_len = kKeys;
};

std::vector<SdpaCase> sdpa_cases() {
  const Shape all{kBatch, 4, kQueries, kKeys};
  const auto var = [](const Tensor& x) { return Var(x, true); };
  return {
      {.name = "sdpa/plain"},
      {.name = "sdpa/scale", .options = {.scale = 0.3}},
      {.name = "sdpa/gqa", .heads = 4},
      {.name = "sdpa/causal_wide", .options = {.is_causal = true}},
      {.name = "sdpa/causal_tall", .options = {.is_causal = true}, .q_len = 5, .kv_len = 3},
      {.name = "sdpa/mask", .options = {.attn_mask = shown({kQueries, kKeys}, 31)}},
      {.name = "sdpa/mask_of_keys", .options = {.attn_mask = shown({kBatch, 1, 1, kKeys}, 32)}},
      {.name = "sdpa/mask_of_all", .options = {.attn_mask = shown(all, 33)}, .heads = 4},
      {.name = "sdpa/bias", .options = {.attn_bias = var(noise({kQueries, kKeys}, 34))}},
      {.name = "sdpa/bias_of_heads", .options = {.attn_bias = var(noise({2, 1, kKeys}, 35)), .scale = 1.7}},
      {.name = "sdpa/bias_of_queries", .options = {.attn_bias = var(noise({kBatch, 1, kQueries, 1}, 36))}},
      {.name = "sdpa/bias_of_all", .options = {.attn_bias = var(with_holes(all, 37))}, .heads = 4}};
}

// As a projection gives them: [batch, length, heads, width] in memory, the axes exchanged.
Tensor strided(const Tensor& x) { return x.transpose(1, 2).clone().transpose(1, 2); }

TEST(TorchParity, ScaledDotProductAttentionIsPyTorchsInEveryOption) {
  for (const SdpaCase& c : sdpa_cases())
    for (DType dtype : {DType::kF64, DType::kF32, DType::kBF16})
      for (AttentionPath path : {AttentionPath::kReference, AttentionPath::kBlocked})
        for (bool is_strided : {false, true}) {
          const auto input = [&](int64_t heads, int64_t length, int64_t width, uint32_t seed) {
            const Tensor x = noise({kBatch, heads, length, width}, seed).to(dtype);
            return Var(is_strided ? strided(x) : x, true);
          };
          const Var query = input(c.heads, c.q_len, 2, 1), key = input(2, c.kv_len, 2, 2),
                    value = input(2, c.kv_len, 3, 3);
          SdpaOptions options = c.options;
          options.enable_gqa = c.heads != 2;
          options.path = path;
          if (options.attn_bias.defined()) options.attn_bias = Var(options.attn_bias.value().to(dtype), true);
          const Var out = scaled_dot_product_attention(query, key, value, options);
          backward(out, noise(out.value().shape(), 6).to(dtype));
          expect_equal(c.name, "output", out.value(), dtype);
          expect_equal(c.name, "query", query.grad(), dtype);
          expect_equal(c.name, "key", key.grad(), dtype);
          expect_equal(c.name, "value", value.grad(), dtype);
          if (options.attn_bias.defined()) expect_equal(c.name, "attn_bias", options.attn_bias.grad(), dtype);
        }
}

TEST(TorchParity, EveryStoredCaseIsCompared) {
  std::vector<std::string> names;
  for (const Case& c : multi_head_cases()) names.push_back(c.name);
  for (const SdpaCase& c : sdpa_cases()) names.push_back(c.name);
  EXPECT_EQ(names.size(), expected().size());
  for (const std::string& name : names) EXPECT_TRUE(expected().contains(name)) << name;
}

}  // namespace
}  // namespace qkv
