#include "qkv/attention/mixers.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "qkv/attention/test_cases.h"
#include "qkv/base/parallel.h"
#include "qkv/base/testing.h"

namespace qkv {
namespace {

using test::expect_equal_bits;
using test::Inputs;
using test::max_difference;
using test::Shapes;
using test::tables;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Variant {
  std::string name;
  MixerPtr mixer;
  bool causal = true;
  int64_t gates = 0;  // log decays of a head and token: 0, 1 or d_k
};

std::vector<Variant> variants(const HeadSizes& heads) {
  const RandomKey key{.seed = 3};
  return {{.name = "linear", .mixer = linear_attention()},
          {.name = "linear both ways", .mixer = linear_attention(), .causal = false},
          {.name = "performer", .mixer = performer(heads, 20, key)},
          {.name = "performer both ways", .mixer = performer(heads, 20, key), .causal = false},
          {.name = "retention", .mixer = retention()},
          {.name = "gla", .mixer = gated_linear_attention(), .gates = heads.d_k},
          {.name = "gla by head", .mixer = gated_linear_attention(), .gates = 1}};
}

// Log decays between -0.6 and 0: some forget within a few tokens, some remember a chunk.
Tensor gates_for(const Variant& x, const Shapes& shapes, const Segments& keys, DType dtype) {
  const int64_t n = keys.n_tokens(), width = shapes.heads.kv_heads() * x.gates;
  std::vector<double> values = random_tensor({n, width}, 9).values();
  for (double& v : values) v = -0.2 * std::min(3.0, v * v) - 1e-4;
  return Tensor::from({n, width}, values, dtype);
}

MixerOptions options_of(const Variant& x, const HeadSizes& heads, const Tensor& gates = {}) {
  MixerOptions o{.heads = heads, .mixer = x.mixer, .causal = x.causal, .log_decay = {}};
  if (gates.defined()) o.log_decay = Var(gates);
  return o;
}

struct Outcome {
  Tensor out, dq, dk, dv, dg;
};
Outcome run(const Inputs& in, const Variant& x, const HeadSizes& heads, const Tensor& gates,
            const kernels::Table* table = nullptr) {
  MixerOptions o{.heads = heads, .mixer = x.mixer, .causal = x.causal, .log_decay = {}, .kernels = table};
  const Var q(in.q, true), k(in.k, true), v(in.v, true), g(gates, true);
  if (x.gates) o.log_decay = g;
  const Var out = mix(q, k, v, in.queries, in.keys, o);
  backward(out, random_tensor(out.value().shape(), 77, out.dtype()));
  return {out.value(), q.grad(), k.grad(), v.grad(), x.gates ? g.grad() : Tensor()};
}
double worst(const Outcome& a, const Outcome& b) {
  double most = std::max(max_difference(a.out, b.out), max_difference(a.dq, b.dq));
  most = std::max({most, max_difference(a.dk, b.dk), max_difference(a.dv, b.dv)});
  return a.dg.defined() ? std::max(most, max_difference(a.dg, b.dg)) : most;
}
Tensor in_f64(const Tensor& x) { return x.defined() ? x.to(DType::kF64) : x; }
Inputs in_f64(const Inputs& in) { return {in.queries, in.keys, in_f64(in.q), in_f64(in.k), in_f64(in.v)}; }

// The definition, in float64: every pair by itself, decays multiplied one after the other. `rounded` rounds
// what a plain evaluation in a smaller type would store.
template <class Round>
std::vector<double> definition(const Inputs& in, const Variant& x, const HeadSizes& heads,
                               const Tensor& gates, Round&& rounded) {
  const int64_t d_k = heads.d_k, d_v = heads.value_width(), group = heads.group();
  std::vector<double> out(static_cast<size_t>(in.q.size(0) * heads.n_heads * d_v));
  const std::string_view name = x.mixer->name();
  const bool linear = name == "linear";
  const auto phi = [&](double v) { return linear ? rounded(v > 0 ? v + 1 : std::exp(v)) : v; };
  const auto decay = [&](int64_t row, int64_t h, int64_t d) {
    if (name == "retention") return 1 - std::exp2(-5.0 - static_cast<double>(h));
    if (name != "gla") return 1.0;
    return std::exp(gates.at({row, x.gates == 1 ? h : h * d_k + d}));
  };
  for (int64_t b = 0; b < in.queries.size(); ++b)
    for (int64_t h = 0; h < heads.n_heads; ++h)
      for (int64_t i = 0; i < in.queries.length(b); ++i) {
        const int64_t q_row = in.queries.begin(b) + i, kv = h / group;
        std::vector<double> query(static_cast<size_t>(d_k)), sum(static_cast<size_t>(d_v));
        for (int64_t d = 0; d < d_k; ++d) query[d] = phi(in.q.at({q_row, h * d_k + d}));
        double den = 0;
        for (int64_t j = x.causal ? i : in.keys.length(b) - 1; j >= 0; --j) {
          const int64_t row = in.keys.begin(b) + j;
          double weight = 0;
          for (int64_t d = 0; d < d_k; ++d) {
            weight += rounded(query[d]) * phi(in.k.at({row, kv * d_k + d}));
            query[d] *= decay(row, kv, d);
          }
          den += weight;
          for (int64_t d = 0; d < d_v; ++d) sum[d] += rounded(weight) * in.v.at({row, kv * d_v + d});
        }
        const double factor = linear ? (den == 0 ? 0 : 1 / den) : 1 / std::sqrt(static_cast<double>(d_k));
        for (int64_t d = 0; d < d_v; ++d)
          out[static_cast<size_t>((q_row * heads.n_heads + h) * d_v + d)] = rounded(factor * sum[d]);
      }
  return out;
}
constexpr auto kExact = [](double x) { return x; };

double distance(const Tensor& a, const std::vector<double>& b) {
  return max_difference(a, Tensor::from(a.shape(), b, DType::kF64));
}

// phi(0) = 1, so every key weighs the same: small enough to check by hand.
TEST(Linear, AveragesTheValuesWhereAllKeysAreAlike) {
  const Var zero(Tensor::from({3, 1}, {0, 0, 0})), v(Tensor::from({3, 1}, {1, 2, 6}));
  const Segments three({3});
  MixerOptions o{.heads = {.d_k = 1}};
  EXPECT_EQ(mix(zero, zero, v, three, three, o).value().values(), (std::vector<double>{1, 1.5, 3}));
  o.causal = false;
  EXPECT_EQ(mix(zero, zero, v, three, three, o).value().values(), (std::vector<double>{3, 3, 3}));
}

TEST(Retention, HalvesWhatIsOneTokenOld) {
  const Var one(Tensor::from({3, 1}, {1, 1, 1})), v(Tensor::from({3, 1}, {8, 4, 2}));
  const Tensor out =
      mix(one, one, v, Segments({3}), Segments({3}), {.heads = {.d_k = 1}, .mixer = retention({0.5})})
          .value();
  EXPECT_EQ(out.values(), (std::vector<double>{8, 8, 6}));
}

TEST(Mixers, EqualTheirDefinitionInFloat64) {
  const test::OneThread one;
  for (const HeadSizes& heads : {HeadSizes{.n_heads = 4, .n_kv_heads = 2, .d_k = 6, .d_v = 10},
                                 HeadSizes{.n_heads = 2, .d_k = 17, .d_v = 3}, HeadSizes{.d_k = 1}}) {
    const Shapes shapes{.heads = heads};
    for (const Variant& x : variants(heads)) {
      if (x.mixer->name() == "performer") continue;
      const Inputs in = test::random_inputs(shapes, DType::kF64);
      const Tensor gates = gates_for(x, shapes, in.keys, DType::kF64);
      EXPECT_LE(distance(run(in, x, heads, gates).out, definition(in, x, heads, gates, kExact)), 1e-12)
          << x.name;
    }
  }
}

TEST(Linear, MeetsTheKeysOfAnotherText) {
  const Shapes shapes{.heads = {.n_heads = 3, .n_kv_heads = 1, .d_k = 7, .d_v = 5},
                      .q_lengths = {5, 65, 1, 0, 7, 64},
                      .kv_lengths = {130, 7, 64, 3, 0, 63}};
  const Inputs in = test::random_inputs(shapes, DType::kF64);
  const Variant x{.name = "linear", .mixer = linear_attention(), .causal = false};
  const Outcome got = run(in, x, shapes.heads, {});
  EXPECT_LE(distance(got.out, definition(in, x, shapes.heads, {}, kExact)), 1e-12);
  for (int64_t i = in.queries.begin(4); i < in.queries.begin(5); ++i)  // these saw no key
    for (int64_t d = 0; d < 15; ++d) EXPECT_EQ(got.out.at({i, d}), 0);
}

TEST(Mixers, GradientsAgreeWithFiniteDifferences) {
  const test::OneThread one;
  for (const auto& lengths : {std::vector<int64_t>{1, 0, 7}, {65}, {16, 37}})
    for (const HeadSizes& heads :
         {HeadSizes{.n_heads = 2, .n_kv_heads = 1, .d_k = 2, .d_v = 3}, HeadSizes{.n_heads = 2, .d_k = 1}}) {
      const Shapes shapes{.heads = heads, .q_lengths = lengths};
      for (const Variant& x : variants(heads)) {
        const Inputs in = test::random_inputs(shapes, DType::kF64);
        std::vector<Tensor> inputs{in.q.clone(), in.k.clone(), in.v.clone()};
        if (x.gates) inputs.push_back(gates_for(x, shapes, in.keys, DType::kF64));
        const auto f = [&](const std::vector<Var>& v) {
          MixerOptions o = options_of(x, heads);
          if (x.gates) o.log_decay = v[3];
          return mix(v[0], v[1], v[2], in.queries, in.keys, o);
        };
        EXPECT_EQ(gradcheck(f, inputs), "") << x.name << " of " << lengths[0];
      }
    }
}

// Three chunks: what crosses two borders.
TEST(Mixers, GradientsAgreeWithFiniteDifferencesOverThreeChunks) {
  const test::OneThread one;
  const HeadSizes heads{.d_k = 2, .d_v = 1};
  const Shapes shapes{.heads = heads, .q_lengths = {130}};
  for (const Variant& x : variants(heads)) {
    if (x.mixer->name() == "performer") continue;
    const Inputs in = test::random_inputs(shapes, DType::kF64);
    std::vector<Tensor> inputs{in.q.clone(), in.k.clone(), in.v.clone()};
    if (x.gates) inputs.push_back(gates_for(x, shapes, in.keys, DType::kF64));
    const auto f = [&](const std::vector<Var>& v) {
      MixerOptions o = options_of(x, heads);
      if (x.gates) o.log_decay = v[3];
      return mix(v[0], v[1], v[2], in.queries, in.keys, o);
    };
    EXPECT_EQ(gradcheck(f, inputs), "") << x.name;
  }
}

TEST(Linear, GradientsToAnotherTextAgreeWithFiniteDifferences) {
  const HeadSizes heads{.n_heads = 2, .n_kv_heads = 1, .d_k = 3, .d_v = 2};
  const Segments queries({2, 5, 3}), keys({70, 0, 1});
  const MixerOptions o{.heads = heads, .causal = false};
  EXPECT_EQ(gradcheck([&](const std::vector<Var>& v) { return mix(v[0], v[1], v[2], queries, keys, o); },
                      {random_tensor({10, 6}, 1), random_tensor({71, 3}, 2), random_tensor({71, 2}, 3)}),
            "");
}

TEST(Mixers, AgreeWithFloat64OnEveryIsa) {
  const test::OneThread one;
  const Shapes shapes{.heads = {.n_heads = 4, .n_kv_heads = 2, .d_k = 20, .d_v = 33},
                      .q_lengths = {1, 17, 0, 130}};
  for (const Variant& x : variants(shapes.heads))
    for (DType dtype : {DType::kF32, DType::kBF16}) {
      const Inputs in = test::random_inputs(shapes, dtype, 1, 0.7);
      const Tensor gates = gates_for(x, shapes, in.keys, dtype);
      const Outcome exact = run(in_f64(in), x, shapes.heads, in_f64(gates));
      for (const kernels::Table* table : tables()) {
        const Outcome got = run(in, x, shapes.heads, gates, table);
        const std::string what =
            x.name + " " + std::string(name(dtype)) + " " + std::string(name(table->isa));
        const auto near = [&](const Tensor& a, const Tensor& b, const char* which) {
          if (!a.defined()) return;
          double scale = 0;
          for (double v : b.values()) scale = std::max(scale, std::abs(v));
          EXPECT_LE(max_difference(a, b), (dtype == DType::kF32 ? 1e-5 : 2e-2) * scale)
              << what << " " << which;
        };
        near(got.out, exact.out, "out");
        near(got.dq, exact.dq, "dq");
        near(got.dk, exact.dk, "dk");
        near(got.dv, exact.dv, "dv");
        near(got.dg, exact.dg, "dg");
      }
    }
}

// A plain evaluation rounds the features, the decayed queries, the weights and the result to bf16.
TEST(Mixers, ErrAtMostTwiceAsMuchAsAPlainEvaluationInBf16) {
  const test::OneThread one;
  const auto rounded = [](double x) { return static_cast<double>(static_cast<float>(bfloat16(x))); };
  for (int64_t length : {17, 64, 200}) {
    const Shapes shapes{.heads = {.d_k = 32, .d_v = 24}, .q_lengths = {length}};
    for (const Variant& x : variants(shapes.heads)) {
      if (x.mixer->name() == "performer") continue;
      const Inputs in = test::random_inputs(shapes, DType::kBF16);
      const Tensor gates = gates_for(x, shapes, in.keys, DType::kBF16);
      const std::vector<double> exact = definition(in, x, shapes.heads, gates, kExact),
                                plain = definition(in, x, shapes.heads, gates, rounded);
      const auto error = [&](const std::vector<double>& got) {
        double sum = 0;
        for (size_t i = 0; i < got.size(); ++i) sum += (got[i] - exact[i]) * (got[i] - exact[i]);
        return std::sqrt(sum / static_cast<double>(got.size()));
      };
      for (const kernels::Table* table : tables())
        EXPECT_LE(error(run(in, x, shapes.heads, gates, table).out.values()), 2 * error(plain))
            << x.name << " " << length << " " << name(table->isa);
    }
  }
}

TEST(Mixers, DoNotDependOnTheBatchOrTheThreads) {
  const Shapes shapes{.heads = {.n_heads = 4, .n_kv_heads = 2, .d_k = 16, .d_v = 20},
                      .q_lengths = {70, 9, 130}};
  const int before = threads();
  for (const Variant& x : variants(shapes.heads))
    for (DType dtype : {DType::kF32, DType::kBF16}) {
      const Inputs in = test::random_inputs(shapes, dtype);
      const Tensor gates = gates_for(x, shapes, in.keys, dtype);
      set_threads(1);
      const Outcome one = run(in, x, shapes.heads, gates);
      set_threads(3);
      const Outcome three = run(in, x, shapes.heads, gates);
      expect_equal_bits(one.out, three.out, x.name);
      EXPECT_EQ(worst(one, three), 0) << x.name;
      for (int64_t b = 0; b < in.keys.size(); ++b) {
        const int64_t begin = in.keys.begin(b), end = begin + in.keys.length(b);
        const Segments alone({end - begin});
        const Inputs own{alone, alone, in.q.rows(begin, end), in.k.rows(begin, end), in.v.rows(begin, end)};
        const Tensor own_gates = x.gates ? gates.rows(begin, end) : gates;
        MixerOptions o = options_of(x, shapes.heads, x.gates ? own_gates : Tensor());
        expect_equal_bits(mix(Var(own.q), Var(own.k), Var(own.v), alone, alone, o).value(),
                          one.out.rows(begin, end), x.name + " alone");
      }
    }
  set_threads(before);
}

TEST(Mixers, LaterTokensDoNotChangeEarlierOnesNotEvenByNaN) {
  const test::OneThread one;
  const HeadSizes heads{.n_heads = 2, .d_k = 12, .d_v = 9};
  const Shapes shapes{.heads = heads, .q_lengths = {100, 20}};
  for (const Variant& x : variants(heads)) {
    if (!x.causal) continue;
    for (DType dtype : {DType::kF32, DType::kBF16})
      for (int64_t spoilt : {0, 5, 40, 63, 70}) {
        Inputs in = test::random_inputs(shapes, dtype);
        const Tensor gates = gates_for(x, shapes, in.keys, dtype);
        const Tensor clean = run(in, x, heads, gates).out;
        for (const Tensor* t : {&in.q, &in.k, &in.v}) t->rows(spoilt, spoilt + 1).fill(kNaN);
        if (x.gates) gates.rows(spoilt, spoilt + 1).fill(kNaN);
        const Tensor got = run(in, x, heads, gates).out;
        expect_equal_bits(got.rows(0, spoilt), clean.rows(0, spoilt), x.name + " before");
        expect_equal_bits(got.rows(100, 120), clean.rows(100, 120), x.name + " the other sequence");
        EXPECT_TRUE(std::isnan(got.at({99, 0}))) << x.name;
      }
  }
}

TEST(Mixers, GradientsOfNaNReachOnlyWhatItSaw) {
  const HeadSizes heads{.n_heads = 2, .d_k = 12, .d_v = 9};
  const Shapes shapes{.heads = heads, .q_lengths = {100, 20}};
  for (const Variant& x : variants(heads)) {
    if (!x.causal) continue;
    const Inputs in = test::random_inputs(shapes, DType::kF32);
    const Tensor gates = gates_for(x, shapes, in.keys, DType::kF32);
    MixerOptions o = options_of(x, heads, x.gates ? gates : Tensor());
    const Var q(in.q, true), k(in.k, true), v(in.v, true);
    const Tensor dout = random_tensor({120, 18}, 5, DType::kF32);
    dout.rows(40, 41).fill(kNaN);
    backward(mix(q, k, v, in.queries, in.keys, o), dout);
    for (int64_t i = 0; i < 120; ++i) {
      EXPECT_EQ(std::isnan(q.grad().at({i, 0})), i == 40) << x.name << " dq " << i;
      EXPECT_EQ(std::isnan(k.grad().at({i, 0})), i <= 40) << x.name << " dk " << i;
      EXPECT_EQ(std::isnan(v.grad().at({i, 0})), i <= 40) << x.name << " dv " << i;
    }
  }
}

// Products of decays underflow within a chunk, or are 0 at once: nothing is ever divided by them.
TEST(GatedLinear, SurvivesDecaysThatUnderflow) {
  const HeadSizes heads{.n_heads = 2, .d_k = 5, .d_v = 4};
  const Shapes shapes{.heads = heads, .q_lengths = {150}};
  for (int64_t gates_width : {int64_t{1}, heads.d_k}) {
    const Variant x{.name = "gla", .mixer = gated_linear_attention(), .gates = gates_width};
    const Inputs in = test::random_inputs(shapes, DType::kF32);
    std::vector<double> g(static_cast<size_t>(150 * 2 * gates_width));
    for (size_t i = 0; i < g.size(); ++i)
      g[i] = i % 7 == 0 ? -1000 : i % 31 == 0 ? -kInfinity : i % 3 == 0 ? -30 : -0.01;
    const Tensor gates = Tensor::from({150, 2 * gates_width}, g, DType::kF32);
    const Outcome got = run(in, x, heads, gates);
    EXPECT_LE(distance(got.out, definition(in, x, heads, gates, kExact)), 1e-5);
    for (const Tensor* t : {&got.dq, &got.dk, &got.dv, &got.dg})
      for (double value : t->values()) EXPECT_TRUE(std::isfinite(value));
  }
}

// A log decay of -infinity cuts the text in two.
TEST(GatedLinear, ForgetsAllAtADecayOfZero) {
  const HeadSizes heads{.n_heads = 1, .d_k = 8};
  const Inputs in = test::random_inputs({.heads = heads, .q_lengths = {90}}, DType::kF64);
  const Variant x{.name = "gla", .mixer = gated_linear_attention(), .gates = 8};
  Tensor gates = gates_for(x, {.heads = heads}, in.keys, DType::kF64);
  gates.rows(30, 31).fill(-kInfinity);
  const Tensor whole = run(in, x, heads, gates).out;
  const Segments rest({60});
  const Tensor alone = mix(Var(in.q.rows(30, 90)), Var(in.k.rows(30, 90)), Var(in.v.rows(30, 90)), rest, rest,
                           options_of(x, heads, gates.rows(30, 90)))
                           .value();
  EXPECT_LE(max_difference(whole.rows(30, 90), alone), 1e-13);
}

TEST(Mixers, WeightsAreExactAndOfNormalisedMixersAddUpToOne) {
  const HeadSizes heads{.n_heads = 4, .n_kv_heads = 2, .d_k = 6, .d_v = 10};
  const Shapes shapes{.heads = heads, .q_lengths = {70, 5}};
  for (const Variant& x : variants(heads)) {
    const Inputs in = test::random_inputs(shapes, DType::kF64);
    const Tensor gates = gates_for(x, shapes, in.keys, DType::kF64);
    const MixerOptions o = options_of(x, heads, x.gates ? gates : Tensor());
    const Tensor out = mix(Var(in.q), Var(in.k), Var(in.v), in.queries, in.keys, o).value();
    Probe probe{.heads = {1, 3}, .positions = {0, 3, 69}};
    implied_weights(Var(in.q), Var(in.k), in.queries, in.keys, o, probe);
    ASSERT_EQ(probe.rows.size(), 2 * (3 + 2)) << x.name;
    for (const AttentionRow& row : probe.rows) {
      double sum = 0;
      std::vector<double> mean(10);
      for (size_t j = 0; j < row.attn_weights.size(); ++j) {
        const double w = row.attn_weights[j];
        sum += w;
        for (int64_t d = 0; d < 10; ++d)
          mean[d] +=
              w * in.v.at({in.keys.begin(row.sequence) + static_cast<int64_t>(j), row.head / 2 * 10 + d});
      }
      if (x.mixer->normalised()) {
        EXPECT_NEAR(sum, 1, 1e-5) << x.name;
      }
      for (int64_t d = 0; d < 10; ++d)
        EXPECT_NEAR(mean[d], out.at({in.queries.begin(row.sequence) + row.position, row.head * 10 + d}), 1e-5)
            << x.name;
    }
  }
}

TEST(Mixers, GiveOfALongRowTheHeaviestKeys) {
  const HeadSizes heads{.n_heads = 2, .d_k = 6, .d_v = 10};
  const Inputs in = test::random_inputs({.heads = heads, .q_lengths = {70}}, DType::kF64);
  const MixerOptions o{.heads = heads, .log_decay = {}};
  Probe whole{.heads = {1}, .positions = {69}}, three{.heads = {1}, .positions = {69}, .top_k = 3};
  for (Probe* probe : {&whole, &three}) implied_weights(Var(in.q), Var(in.k), in.queries, in.keys, o, *probe);
  const AttentionRow &all = whole.rows.at(0), &few = three.rows.at(0);
  ASSERT_EQ(few.keys.size(), 3);
  for (size_t n = 0; n < 3; ++n) {
    EXPECT_EQ(few.attn_weights[n], all.attn_weights[static_cast<size_t>(few.keys[n])]);
    std::vector<float> sorted = all.attn_weights;
    std::sort(sorted.begin(), sorted.end(), std::greater<>());
    EXPECT_EQ(few.attn_weights[n], sorted[n]);
  }
  EXPECT_GT(all.entropy, 0);
  EXPECT_LT(all.entropy, std::log(70));
  EXPECT_EQ(few.entropy, all.entropy);
}

// Somebody's mixer, whose features are not as many as it says.
class Wrong final : public Mixer {
 public:
  explicit Wrong(MixerParts parts, int64_t width = 3) : parts_(std::move(parts)), width_(width) {}
  std::string_view name() const override { return "wrong"; }
  bool normalised() const override { return false; }
  int64_t width(const HeadSizes&) const override { return width_; }
  MixerParts prepare(const Var&, const Var&, const Segments&, const MixerOptions&,
                     MixerState*) const override {
    return parts_;
  }

 private:
  MixerParts parts_;
  int64_t width_;
};

TEST(Mixers, RefuseWhatAMixerMakesInOtherSizes) {
  const HeadSizes heads{.n_heads = 4, .n_kv_heads = 2, .d_k = 3, .d_v = 2};
  const Segments five({5});
  const Var q(random_tensor({5, 12}, 1)), k(random_tensor({5, 6}, 2)), v(random_tensor({5, 4}, 3));
  const auto decays = [](Shape shape, DType dtype = DType::kF64) { return Tensor::full(shape, dtype, 0.5); };
  const auto with = [&](MixerParts parts, int64_t width = 3) {
    return mix(q, k, v, five, five,
               {.heads = heads, .mixer = std::make_shared<Wrong>(std::move(parts), width), .log_decay = {}});
  };
  EXPECT_NO_THROW(with({.q = q, .k = k, .decay = decays({1, 2}), .log_decay = {}}));
  EXPECT_ERROR(kShape, "wrong made [5, 12] of q, needs to make [5 tokens, 4 heads x its width of 8]",
               with({.q = q, .k = k, .decay = {}, .log_decay = {}}, 8));
  EXPECT_ERROR(kShape, "wrong made [5, 12] of k, needs to make [5 tokens, 2 heads x its width of 3]",
               with({.q = q, .k = q, .decay = {}, .log_decay = {}}));
  EXPECT_ERROR(kShape, "wrong made nothing of k", with({.q = q, .k = {}, .decay = {}, .log_decay = {}}));
  EXPECT_ERROR(kDtype, "wrong made f32 of q, which is f64",
               with({.q = Var(q.value().to(DType::kF32)), .k = k, .decay = {}, .log_decay = {}}));
  EXPECT_ERROR(kShape, "wrong made decays [4, 2], needs to make [5 tokens or 1, 2 heads or 2 heads x 3]",
               with({.q = q, .k = k, .decay = decays({4, 2}), .log_decay = {}}));
  EXPECT_ERROR(kDtype, "wrong made decays of f32, needs f64",
               with({.q = q, .k = k, .decay = decays({5, 2}, DType::kF32), .log_decay = {}}));
  EXPECT_ERROR(kShape, "wrong made log decays [5, 2] of decays [1, 2]",
               with({.q = q, .k = k, .decay = decays({1, 2}), .log_decay = Var(decays({5, 2}))}));
  Probe probe;
  EXPECT_ERROR(kShape, "its width of 8",
               implied_weights(q, k, five, five,
                               {.heads = heads,
                                .mixer = std::make_shared<Wrong>(
                                    MixerParts{.q = q, .k = k, .decay = {}, .log_decay = {}}, 8),
                                .log_decay = {}},
                               probe));
}

TEST(Mixers, RefuseWhatHasNoMeaning) {
  const HeadSizes heads{.n_heads = 4, .n_kv_heads = 2, .d_k = 3, .d_v = 2};
  const Segments five({5}), four({4});
  const Var q(random_tensor({5, 12}, 1)), k(random_tensor({5, 6}, 2)), v(random_tensor({5, 4}, 3)),
      g(Tensor::full({5, 6}, DType::kF64, -1));
  const auto with = [&](MixerPtr mixer, const Var& log_decay = {}, bool causal = true) {
    return mix(q, k, v, five, five,
               {.heads = heads, .mixer = std::move(mixer), .causal = causal, .log_decay = log_decay});
  };
  EXPECT_ERROR(kValue, "n_heads (4) is not a multiple of n_kv_heads (3)",
               mix(q, k, v, five, five, {.heads = {.n_heads = 4, .n_kv_heads = 3, .d_k = 3}}));
  EXPECT_ERROR(kShape, "mix: k is [5, 6], needs to be [4 tokens, 2 heads x 3]",
               mix(q, k, v, five, four, {.heads = heads}));
  EXPECT_ERROR(
      kShape, "5 queries and 4 keys; causal",
      mix(q, Var(random_tensor({4, 6}, 2)), Var(random_tensor({4, 4}, 2)), five, four, {.heads = heads}));
  EXPECT_ERROR(kDtype, "mix: v is f32, but q is f64",
               mix(q, k, Var(v.value().to(DType::kF32)), five, five, {.heads = heads}));
  EXPECT_ERROR(kUnsupported, "retention forgets", with(retention(), {}, false));
  EXPECT_ERROR(kShape, "retention: 3 decays, needs one for each of 2", with(retention({0.5, 0.5, 0.5})));
  EXPECT_ERROR(kValue, "a decay of 1.5", retention({1.5}));
  EXPECT_ERROR(kValue, "gla: needs log_decay", with(gated_linear_attention()));
  EXPECT_ERROR(kShape, "log_decay is [5, 12], needs [5, 2], or [5, 6]",
               with(gated_linear_attention(), Var(random_tensor({5, 12}, 1))));
  EXPECT_ERROR(kValue, "a log decay of 0.5 would grow",
               with(gated_linear_attention(), Var(Tensor::full({5, 6}, DType::kF64, 0.5))));
  EXPECT_ERROR(kValue, "linear takes no log_decay", with(linear_attention(), g));
  EXPECT_ERROR(kShape, "performer: made for a d_k of 4, got 3", with(performer({.d_k = 4})));
  EXPECT_ERROR(kValue, "mix: no mixer is called \"lineal\"; did you mean linear?",
               make_mixer("lineal", heads));
  EXPECT_ERROR(kValue, "performer: d_k is 0", performer({}));
}

TEST(Mixers, AreFoundByName) {
  for (std::string_view name : mixer_names()) EXPECT_EQ(make_mixer(name, {.d_k = 8})->name(), name);
}

}  // namespace
}  // namespace qkv
