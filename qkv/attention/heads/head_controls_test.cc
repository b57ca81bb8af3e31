#include "qkv/attention/heads/head_controls.h"

#include <numeric>

#include "qkv/attention/multi_head.h"
#include "qkv/attention/test_cases.h"
#include "qkv/base/parallel.h"

namespace qkv {
namespace {

using namespace test;

HeadControls controls_of(ParameterPtr gates, std::vector<double> noise = {}, uint64_t seed = 7) {
  return {.layers = {{.site = "encoder", .layer = 2, .gates = std::move(gates), .noise = std::move(noise)}},
          .seed = seed};
}
ParameterPtr gates_from(const Shape& shape, std::vector<double> values, DType dtype = DType::kF32) {
  return std::make_shared<Parameter>("gates", Tensor::from(shape, values, dtype));
}
Tensor controlled(const Tensor& x, const Segments& tokens, int64_t n_heads, const HeadControls& controls) {
  return control_heads(Var(x), tokens, n_heads, nullptr, &controls, "encoder", 2).value();
}

TEST(HeadControls, ScaleAndGateByHand) {
  const Tensor x = Tensor::from({3, 4}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12});
  const Segments tokens({1, 2});
  const ParameterPtr gamma = gates_from({2}, {2, 3});
  EXPECT_EQ(control_heads(Var(x), tokens, 2, gamma, nullptr, "encoder", 2).value().values(),
            (std::vector<double>{2, 4, 9, 12, 10, 12, 21, 24, 18, 20, 33, 36}));
  HeadControls off = controls_of(gates_from({1, 2}, {1, 0}));
  EXPECT_EQ(controlled(x, tokens, 2, off).values(),
            (std::vector<double>{1, 2, 0, 0, 5, 6, 0, 0, 9, 10, 0, 0}));
  off.layers[0].gates = gates_from({2, 2}, {0, 1, 1, 0.5});  // of each sequence
  EXPECT_EQ(control_heads(Var(x), tokens, 2, gamma, &off, "encoder", 2).value().values(),
            (std::vector<double>{0, 0, 9, 12, 10, 12, 10.5, 12, 18, 20, 16.5, 18}));
  const Tensor bad = Tensor::full({3, 4}, DType::kF32, std::nan(""));
  EXPECT_EQ(controlled(bad, tokens, 2, controls_of(gates_from({1, 2}, {0, 0}))).values(),
            std::vector<double>(12, 0.0));
}

TEST(HeadControls, CostNothingWhereALayerIsNotNamed) {
  const Var x(random_tensor({3, 4}, 1, DType::kF32));
  const HeadControls controls = controls_of(head_gates("g", 2));
  for (const HeadControls* c : {static_cast<const HeadControls*>(nullptr), &controls})
    EXPECT_EQ(control_heads(x, Segments({3}), 2, nullptr, c, "decoder", 2).value().data<float>(),
              x.value().data<float>());
  EXPECT_NE(control_heads(x, Segments({3}), 2, nullptr, &controls, "encoder", 2).value().data<float>(),
            x.value().data<float>());
}

TEST(HeadControls, GradientsMatchFiniteDifferences) {
  const Segments tokens({2, 0, 3}, {4, 0, 1});
  for (bool by_sequence : {false, true})
    for (bool noisy : {false, true}) {
      ParameterSet set(1, DType::kF64);
      const ParameterPtr gamma = set.constant("gamma", {2}, 1),
                         gates = set.constant("gates", {by_sequence ? 3 : 1, 2}, 1);
      gamma->set_value(Tensor::from({2}, {1.5, -0.5}, DType::kF64));
      gates->set_value(random_tensor(gates->value().shape(), 3));
      const HeadControls controls =
          controls_of(gates, noisy ? std::vector<double>{0.4, 0} : std::vector<double>{});
      EXPECT_EQ(
          gradcheck(
              [&](const auto& in) { return control_heads(in[0], tokens, 2, gamma, &controls, "encoder", 2); },
              {random_tensor({5, 6}, 1)}, set.all()),
          "");
    }
}

TEST(HeadControls, NoiseHasTheDeviationAskedForAndIsDrawnAfreshForEverySeedSiteLayerSequenceHeadAndPlace) {
  const int64_t n = 200, n_heads = 3, d = 50;
  const Tensor x = random_tensor({n, n_heads * d}, 1, DType::kF64);
  const Segments tokens({n});
  const auto noise = [&](const HeadControls& c, std::string_view site = "encoder", int64_t layer = 2) {
    std::vector<double> y = control_heads(Var(x), tokens, n_heads, nullptr, &c, site, layer).value().values(),
                        plain = x.values(), z;
    for (int64_t r = 0; r < n; ++r)
      for (int64_t h = 0; h < n_heads; ++h) {
        double squares = 0;
        for (int64_t i = 0; i < d; ++i) squares += std::pow(plain[(r * n_heads + h) * d + i], 2);
        for (int64_t i = 0; i < d; ++i) {
          const int64_t at = (r * n_heads + h) * d + i;
          z.push_back((y[at] - plain[at]) / std::sqrt(squares / d));
        }
      }
    return z;
  };
  HeadControls c = controls_of(nullptr, {0.5, 0.5, 0.5});
  const std::vector<double> z = noise(c);
  double mean = 0, squares = 0, fourth = 0, neighbours = 0;
  for (size_t i = 0; i < z.size(); ++i) {
    mean += z[i] / double(z.size()), squares += z[i] * z[i] / double(z.size());
    fourth += std::pow(z[i], 4) / double(z.size());
    if (i > 0) neighbours += z[i] * z[i - 1] / double(z.size());
  }
  EXPECT_NEAR(mean, 0, 0.01);
  EXPECT_NEAR(squares, 0.25, 0.01);
  EXPECT_NEAR(fourth / (squares * squares), 3, 0.15);
  EXPECT_NEAR(neighbours, 0, 0.01);

  const auto correlation = [&](const std::vector<double>& other) {
    return std::inner_product(z.begin(), z.end(), other.begin(), 0.0) / (squares * double(z.size()));
  };
  EXPECT_NEAR(correlation(noise(c)), 1, 1e-9);
  c.layers.push_back({.site = "encoder", .layer = 3, .gates = nullptr, .noise = {0.5, 0.5, 0.5}});
  c.layers.push_back({.site = "cross", .layer = 2, .gates = nullptr, .noise = {0.5, 0.5, 0.5}});
  EXPECT_NEAR(correlation(noise(c, "encoder", 3)), 0, 0.03);
  EXPECT_NEAR(correlation(noise(c, "cross", 2)), 0, 0.03);
  c.seed = 8;
  EXPECT_NEAR(correlation(noise(c)), 0, 0.03);
}

TEST(HeadControls, ATokenGetsTheSameBitsTokenByTokenAndOnAnyNumberOfThreads) {
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    const HeadControls c = controls_of(gates_from({1, 2}, {0.5, 2}), {0.3, 0.1});
    const Tensor x = random_tensor({150, 14}, 1, dtype);
    const Segments two({70, 80});
    set_threads(1);
    const Tensor want = controlled(x, two, 2, c);
    set_threads(6);
    expect_equal_bits(controlled(x, two, 2, c), want, "threads");
    set_threads(0);
    for (int64_t i : {0, 5, 69}) {
      const Tensor step = Tensor::empty({2, 14}, dtype);
      step.rows(0, 1).copy_from(x.rows(i, i + 1)), step.rows(1, 2).copy_from(x.rows(70 + i, 71 + i));
      const Tensor out = controlled(step, Segments({1, 1}, {i, i}), 2, c);
      expect_equal_bits(out.rows(0, 1), want.rows(i, i + 1), "first");
      expect_equal_bits(out.rows(1, 2), want.rows(70 + i, 71 + i), "second");
    }
  }
}

// Michel et al., eq. 2, by finite differences of a layer's loss of each sequence alone.
TEST(HeadControls, ImportanceIsTheMeanSizeOfTheGatesGradients) {
  const MultiHeadConfig config{.d_model = 6,
                               .n_heads = 3,
                               .n_kv_heads = 3,
                               .d_k = 2,
                               .d_v = 2,
                               .attention = "scaled_dot + head_scale",
                               .site = "encoder",
                               .layer = 2};
  ParameterSet set(4, DType::kF64);
  const MultiHeadAttention layer(set, "a", config);
  ASSERT_TRUE(set.find("a.head_scale"));
  set.find("a.head_scale")->set_value(Tensor::from({3}, {1, 2, 0.5}, DType::kF64));
  const Segments rows({4, 3});
  const Tensor x = random_tensor({7, 6}, 1), seed = random_tensor({7, 6}, 2);
  const auto run = [&](const ParameterPtr& gates) {
    const HeadControls c = controls_of(gates);
    Probe probe{.sites = {"nothing"}, .controls = &c};
    Pass pass = Pass::running(DType::kF64);
    const Var out = layer(pass, Var(x, true), rows, Var(x), rows, {}, &probe);
    EXPECT_TRUE(probe.rows.empty());
    return out;
  };
  const ParameterPtr gates = head_gates("g", 3, DType::kF64, 2);
  backward(run(gates), seed);
  const auto loss = [&](int64_t sequence, int64_t h, double gate) {
    ParameterPtr changed = head_gates("g", 3, DType::kF64, 2);
    changed->value().data<double>()[sequence * 3 + h] = gate;
    const std::vector<double> y = run(changed).value().values(), w = seed.values();
    return std::inner_product(y.begin(), y.end(), w.begin(), 0.0);
  };
  const std::vector<double> importance = head_importance(gates);
  for (int64_t h = 0; h < 3; ++h) {
    double want = 0;
    for (int64_t b = 0; b < 2; ++b)
      want += std::abs(loss(b, h, 1.5) - loss(b, h, 0.5));  // the loss is linear in a gate
    EXPECT_NEAR(importance[h], want, 1e-9);
  }
}

TEST(HeadControls, WorkInTheRunningHalfOfALayerToo) {
  const MultiHeadConfig config{.d_model = 6,
                               .n_heads = 3,
                               .n_kv_heads = 3,
                               .d_k = 2,
                               .d_v = 2,
                               .causal = true,
                               .site = "encoder",
                               .layer = 2};
  ParameterSet set(4);
  const MultiHeadAttention layer(set, "a", config);
  const HeadControls c = controls_of(gates_from({1, 3}, {0, 1, -1}), {0, 0.5, 0});
  Probe probe{.sites = {"nothing"}, .controls = &c};
  const Tensor x = random_tensor({4, 6}, 1, DType::kF32);
  Pass pass = Pass::running(DType::kF32);
  const Tensor want = layer(pass, Var(x), Segments({4}), Var(x), Segments({4}), {}, &probe).value();
  KvCache cache = layer.make_cache(DType::kF32, 1);
  for (int64_t i = 0; i < 4; ++i) {
    const Segments newest({1}, {i});
    expect_equal_bits(layer.attend(Var(x.rows(i, i + 1)), newest, cache, {}, &probe).value(),
                      want.rows(i, i + 1), std::to_string(i));
  }
  EXPECT_GT(
      max_difference(want, layer(pass, Var(x), Segments({4}), Var(x), Segments({4}), {}, nullptr).value()),
      0.01);
}

TEST(HeadControls, SayWhatDoesNotFit) {
  const Tensor x = random_tensor({3, 4}, 1, DType::kF32);
  const auto text = [&](const HeadControls& c, const Segments& tokens = Segments({3})) {
    try {
      (void)controlled(x, tokens, 2, c);
      return std::string("no error");
    } catch (const Error& e) {
      return std::string(e.what());
    }
  };
  EXPECT_NE(text(controls_of(head_gates("g", 3)))
                .find("gates of encoder 2 are [1, 3], need to be [1, 2] or [1 sequences, 2]"),
            std::string::npos);
  EXPECT_NE(text(controls_of(head_gates("g", 2, DType::kF64))).find("g is f64, needs to be f32"),
            std::string::npos)
      << text(controls_of(head_gates("g", 2, DType::kF64)));
  EXPECT_NE(text(controls_of(nullptr, {1})).find("1 noises for the 2 heads of encoder 2"), std::string::npos);
  EXPECT_NE(text(controls_of(nullptr), Segments({2})).find("needs to be [2 tokens, 2 heads x width]"),
            std::string::npos);
}

}  // namespace
}  // namespace qkv
