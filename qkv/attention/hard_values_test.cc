// Values at the ends of the number line, and what is not a number: they pass through where they are seen, and
// change nothing elsewhere.

#include <limits>

#include "qkv/attention/sdpa.h"
#include "qkv/attention/test_cases.h"

namespace qkv {
namespace {

using namespace test;

constexpr double kInf = std::numeric_limits<double>::infinity();

// use(options, dtype, what) for both paths, every dtype and family, and every normalizer.
template <class Use>
void for_all(const HeadSizes& heads, Use&& use) {
  for (DType dtype : {DType::kF64, DType::kF32, DType::kBF16})
    for (const kernels::Table* table : tables())
      for (AttentionPath path : {AttentionPath::kReference, AttentionPath::kAuto}) {
        if (path == AttentionPath::kReference && table != tables().front()) continue;
        ParameterSet set(1, accumulator_dtype(dtype));
        for (const NormalizerPtr& normalizer :
             {softmax_normalizer(), softmax_with_sink(set, "n", heads), sigmoid(), sparsemax(), entmax15()}) {
          use(AttentionOptions{.heads = heads, .normalizer = normalizer, .path = path, .kernels = table},
              dtype,
              fmt::format("{} {} {}{}", name(dtype), name(table->isa), normalizer->name(),
                          path == AttentionPath::kReference ? " reference" : ""));
        }
      }
}

Tensor bias_of(int64_t n, int64_t m, DType dtype, const std::function<double(int64_t, int64_t)>& f) {
  std::vector<double> x;
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < m; ++j) x.push_back(f(i, j));
  return Tensor::from({1, 1, n, m}, x, accumulator_dtype(dtype));
}

constexpr HeadSizes kHeads{.n_heads = 2, .n_kv_heads = 1, .d_k = 8, .d_v = 8};
constexpr int64_t kLength = 70;
Inputs seventy(DType dtype) {
  return random_inputs({.heads = kHeads, .q_lengths = {kLength}, .kv_lengths = {}}, dtype);
}

TEST(HardValues, BiasOfMinusInfinityHidesAndWholeRowsOfItGiveZeros) {
  for_all(kHeads, [](AttentionOptions options, DType dtype, const std::string& what) {
    const Inputs in = seventy(dtype);
    // Rows 3 and 66 see nothing, row 5 the second tile alone, all others miss key 7.
    const auto hidden = [](int64_t i, int64_t j) {
      return i == 3 || i == 66 || (i == 5 && j < 64) || j == 7;
    };
    const Tensor values =
        bias_of(kLength, kLength, dtype, [&](int64_t i, int64_t j) { return hidden(i, j) ? -kInf : 0; });
    const Var trained(values, true);
    options.rules = {bias_tensor(trained, 1, 2, kLength, kLength)};
    const Outcome biased = run(in, options);
    options.rules = {mask([&](int64_t, int64_t, int64_t i, int64_t j) { return !hidden(i, j); })};
    const Outcome masked = run(in, options);
    // Scores with a bias are scaled before the softmax, so they round differently.
    expect_close(biased, masked, dtype == DType::kBF16 ? 0.05 : 1e-4, what);
    for (int64_t i : {3, 66}) {
      EXPECT_EQ(max_difference(biased.out.rows(i, i + 1), Tensor::zeros({1, 16}, dtype)), 0) << what;
      EXPECT_EQ(max_difference(biased.dq.rows(i, i + 1), Tensor::zeros({1, 16}, dtype)), 0) << what;
    }
    for (int64_t i : {3, 66, 0}) EXPECT_EQ(trained.grad().at({0, 0, i, 7}), 0) << what;
    EXPECT_EQ(max_difference(biased.dv.rows(7, 8), Tensor::zeros({1, 8}, dtype)), 0) << what;
  });
}

// Masks made of large numbers, as they are common: -1e4, -1e9, the largest float there is. A row of one such
// number alone sees all its keys alike, whatever the number; and so say its gradients and its probe.
TEST(HardValues, RowsOfOneNumberAloneAreMeansWhateverTheNumber) {
  for (double large : {1e4, 2e7, 1e9, 5e9, 1e30, 3.4028234e38})
    for_all(kHeads, [&](AttentionOptions options, DType dtype, const std::string& what) {
      if (normalizer_of(options).blockwise() == Normalizer::Blockwise::kSigmoid) return;
      const Inputs in = seventy(dtype);
      options.score = uniform();
      options.rules = {causal()};
      const auto sink = options.normalizer->parameter();
      if (sink) sink->set_value(Tensor::full(sink->shape(), accumulator_dtype(dtype), -kInf));
      const Outcome want = run(in, options);
      Probe probe{.heads = {1}, .positions = {66}};
      options.probe = &probe;
      for (double sign : {1.0, -1.0}) {
        probe.rows.clear();
        // Row by row another number: 0, the largest, two thirds of it.
        options.rules = {bias_tensor(Var(bias_of(kLength, kLength, dtype,
                                                 [&](int64_t i, int64_t) {
                                                   return i % 3 == 0 ? 0
                                                                     : sign * large * (i % 3 == 1 ? 1 : 0.67);
                                                 })),
                                     1, 2, kLength, kLength),
                         causal()};
        const double tolerance = dtype == DType::kF64 ? 1e-12 : dtype == DType::kF32 ? 2e-6 : 0.05;
        const std::string text = fmt::format("{} {}", what, sign * large);
        expect_close(run(in, options), want, tolerance, text);
        double sum = 0;
        for (float w : probe.rows.at(0).attn_weights) sum += w;
        EXPECT_NEAR(sum, 1, 1e-5) << text;
      }
    });
}

// A padded sentence as others hide it: the largest negative float on keys that are not there, and so, where a
// causal mask hides the rest, on all that the first rows see. Their gradients are zero; no other row notices.
TEST(HardValues, LeftPaddingByTheLargestFloatHidesKeysAndSpoilsNoGradient) {
  static constexpr int64_t kPadded = 3;
  for_all(kHeads, [&](AttentionOptions options, DType dtype, const std::string& what) {
    const Inputs in = seventy(dtype);
    if (const auto sink = options.normalizer->parameter())
      sink->set_value(Tensor::zeros(sink->shape(), sink->value().dtype()));
    const auto go = [&](const std::vector<RulePtr>& rules) {
      options.rules = rules;
      const Var q(in.q, true), k(in.k, true), v(in.v, true);
      const Var out = attention(q, k, v, in.queries, in.keys, options);
      const Tensor dout = random_tensor(out.value().shape(), 77, dtype);
      dout.rows(0, kPadded).copy_from(Tensor::zeros({kPadded, dout.size(1)}, dtype));
      backward(out, dout);
      return Outcome{out.value().rows(kPadded, kLength), q.grad(), k.grad(), v.grad()};
    };
    const Outcome want =
        go({mask([](int64_t, int64_t, int64_t, int64_t j) { return j >= kPadded; }), causal()});
    const Tensor padding =
        bias_of(kLength, kLength, dtype, [&](int64_t, int64_t j) { return j < kPadded ? -3.4028234e38 : 0; });
    expect_close(go({bias_tensor(Var(padding), 1, 2, kLength, kLength), causal()}), want,
                 dtype == DType::kBF16 ? 0.05 : 1e-4, what);
  });
}

// What a plain evaluation in float keeps of scores of some 10^4 that differ by a few, gradients keep too.
TEST(HardValues, GradientsOfScoresFarFromZeroAreThoseOfScoresNearIt) {
  for_all(kHeads, [&](AttentionOptions options, DType dtype, const std::string& what) {
    if (normalizer_of(options).blockwise() == Normalizer::Blockwise::kSigmoid ||
        normalizer_of(options).parameter())
      return;
    const Inputs in = seventy(dtype);
    // Multiples of 1/64, which floats of 16384 hold exactly; by themselves all weight in this.
    const auto small = [](int64_t i, int64_t j) { return static_cast<double>((i * 31 + j * 17) % 64) / 64; };
    options.score = uniform();
    const auto biased = [&](double far) {
      options.rules = {bias_tensor(
          Var(bias_of(kLength, kLength, dtype, [&](int64_t i, int64_t j) { return small(i, j) + far; })), 1,
          2, kLength, kLength)};
      return run(in, options);
    };
    const Outcome want = biased(0);
    for (double far : {-16384.0, 700.0, 16384.0})
      expect_close(biased(far), want,
                   dtype == DType::kF64   ? 1e-12
                   : dtype == DType::kF32 ? 1e-5
                                          : 0.05,
                   fmt::format("{} {}", what, far));
  });
}

TEST(HardValues, ScoresOfTenThousandEitherWayAreExact) {
  for_all(kHeads, [](AttentionOptions options, DType dtype, const std::string& what) {
    const Inputs in = seventy(dtype);
    // Keys 0 and 65 score 10^4 more than the rest: they share all the weight. Scores of q . k are left out.
    options.score = uniform();
    const auto of = [&](double high, double low) {
      options.rules = {
          bias([=](int64_t, int64_t, int64_t, int64_t j) { return j == 0 || j == 65 ? high : low; })};
      return run(in, options);
    };
    const bool sink = options.normalizer->name() == "softmax_with_sink",
               sigmoid = options.normalizer->name() == "sigmoid";
    const double share = sigmoid ? 1 : 0.5, tolerance = dtype == DType::kBF16 ? 0.02 : 1e-5;
    const Outcome high = of(1e4, 0), both = of(1e4, -1e4), low = of(0, -1e4);
    for (int64_t d = 0; d < 8; ++d) {
      const double sum = in.v.at({0, d}) + in.v.at({65, d});
      if (!sigmoid) {
        EXPECT_NEAR(high.out.at({69, d}), share * sum, tolerance) << what;
      }
      EXPECT_NEAR(both.out.at({69, d}), share * sum, tolerance) << what;
      EXPECT_NEAR(low.out.at({69, d}), (sigmoid ? 0.5 : sink ? 1.0 / 3 : 0.5) * sum, tolerance) << what;
    }
    for (const Tensor& t : {high.out, high.dv, both.out, both.dv, low.out, low.dv})
      for (double x : t.values()) ASSERT_TRUE(std::isfinite(x)) << what;
  });
}

TEST(HardValues, ScoreOfPlusInfinityOrNanSpoilsItsRowAlone) {
  for_all(kHeads, [](AttentionOptions options, DType dtype, const std::string& what) {
    const Inputs in = seventy(dtype);
    const auto with = [&](double x) {
      options.rules = {causal(), bias([=](int64_t, int64_t h, int64_t i, int64_t j) {
                         return h == 0 && i == 66 && j == 2 ? x : 0;
                       })};
      return run(in, options);
    };
    const Outcome clean = with(0);
    for (double x : {kInf, std::nan("")}) {
      const Outcome bad = with(x);
      const bool sigmoid = options.normalizer->name() == "sigmoid" && x == kInf;  // has a weight of 1
      EXPECT_EQ(std::isnan(bad.out.at({66, 0})), !sigmoid) << what;
      for (int64_t i = 0; i < kLength; ++i) {
        if (i == 66) continue;
        expect_equal_bits(bad.out.rows(i, i + 1), clean.out.rows(i, i + 1), what);
        expect_equal_bits(bad.dq.rows(i, i + 1), clean.dq.rows(i, i + 1), what + " dq");
      }
      expect_equal_bits(bad.out.columns(8, 16), clean.out.columns(8, 16), what + " the other head");
      expect_equal_bits(bad.dk.rows(67, kLength), clean.dk.rows(67, kLength), what + " dk");
      expect_equal_bits(bad.dv.rows(67, kLength), clean.dv.rows(67, kLength), what + " dv");
    }
  });
}

// A slope of head 0 is NaN, or what an edit is given: head 0 has NaN, and head 1 every bit it had.
TEST(HardValues, NanInAParameterStaysInItsHead) {
  for_all(kHeads, [](AttentionOptions options, DType dtype, const std::string& what) {
    const Inputs in = seventy(dtype);
    ParameterSet set(1, accumulator_dtype(dtype));
    options.rules = {learned_alibi(set, "a", kHeads), soft_cap(5)};
    const Outcome clean = run(in, options);
    const Tensor slopes = set.find("a.slopes")->value().clone();
    slopes.rows(0, 1).fill(std::nan(""));
    set.find("a.slopes")->set_value(slopes);
    const Outcome bad = run(in, options);
    EXPECT_TRUE(std::isnan(bad.out.at({60, 0}))) << what;
    expect_equal_bits(bad.out.columns(8, 16), clean.out.columns(8, 16), what);
    expect_equal_bits(bad.dq.columns(8, 16), clean.dq.columns(8, 16), what + " dq");
  });
}

// The same bias twice is twice the bias, and has twice the gradient.
TEST(HardValues, OneBiasTensorMayStandTwiceAmongTheRules) {
  const Inputs in = seventy(DType::kF64);
  const Tensor values = random_tensor({1, 1, kLength, kLength}, 3);
  const Var once(values, true), twice(values, true);
  const EditPtr rule = bias_tensor(once, 1, 2, kLength, kLength);
  AttentionOptions options{.heads = kHeads, .rules = {rule, rule}};
  const Outcome a = run(in, options);
  options.rules = {bias_tensor(twice, 1, 2, kLength, kLength), bias_tensor(twice, 1, 2, kLength, kLength)};
  const Outcome b = run(in, options);
  expect_equal_bits(a.out, b.out, "out");
  EXPECT_LE(max_difference(once.grad(), twice.grad()), 1e-12);
}

// It once read, and in backward wrote, memory beyond the tensor.
TEST(HardValues, BiasTensorAddsNothingBeyondItsSizes) {
  const Inputs in = random_inputs({.heads = kHeads, .q_lengths = {70, 9}, .kv_lengths = {}}, DType::kF64);
  const Tensor values = random_tensor({1, 1, 4, 5}, 3);
  AttentionOptions options{.heads = kHeads, .rules = {bias_tensor(Var(values, true), 1, 1, 4, 5)}};
  const Outcome small = run(in, options);
  options.rules = {bias([&](int64_t b, int64_t h, int64_t i, int64_t j) {
    return b == 0 && h == 0 && i < 4 && j < 5 ? values.at({0, 0, i, j}) : 0;
  })};
  expect_close(small, run(in, options), 1e-12, "");
}

TEST(HardValues, NoTokensOnEitherSideGiveZerosOrNothing) {
  for_all({.n_heads = 1, .d_k = 1}, [](AttentionOptions options, DType dtype, const std::string& what) {
    const Inputs in =
        random_inputs({.heads = options.heads, .q_lengths = {0, 2, 1, 0}, .kv_lengths = {3, 0, 1, 0}}, dtype);
    const Outcome out = run(in, options);
    EXPECT_EQ(max_difference(out.out.rows(0, 2), Tensor::zeros({2, 1}, dtype)), 0) << what;
    EXPECT_EQ(max_difference(out.dq.rows(0, 2), Tensor::zeros({2, 1}, dtype)), 0) << what;
    EXPECT_EQ(max_difference(out.dk.rows(0, 3), Tensor::zeros({3, 1}, dtype)), 0) << what;
    EXPECT_EQ(max_difference(out.dv.rows(0, 3), Tensor::zeros({3, 1}, dtype)), 0) << what;
    EXPECT_TRUE(std::isfinite(out.out.at({2, 0}))) << what;
  });
}

}  // namespace
}  // namespace qkv
