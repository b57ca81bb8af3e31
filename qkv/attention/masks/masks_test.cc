#include "qkv/attention/masks.h"

#include "qkv/attention/test_cases.h"

namespace qkv {
namespace {

using namespace test;

Tensor averages(int64_t n, std::vector<RulePtr> rules, std::vector<double> values,
                std::vector<int64_t> past = {0}) {
  const int64_t m = static_cast<int64_t>(values.size());
  const Var q(Tensor::zeros({n, 1}, DType::kF64)), k(Tensor::zeros({m, 1}, DType::kF64)),
      v(Tensor::from({m, 1}, values, DType::kF64));
  return attention(q, k, v, Segments({n}, past), Segments({m}),
                   {.heads = {.d_k = 1}, .rules = std::move(rules)})
      .value();
}

void expect_values(const Tensor& got, std::vector<double> want) {
  EXPECT_LE(max_difference(got, Tensor::from(got.shape(), want, DType::kF64)), 1e-12);
}

TEST(Causal, ShowsTheKeysUpToTheQuerysPosition) {
  expect_values(averages(3, {causal()}, {1, 3, 8}), {1, 2, 4});
}

TEST(Causal, CountsFromThePastInADecodeStep) {
  expect_values(averages(1, {causal()}, {1, 3, 8, 100}, {2}), {4});
}

TEST(SlidingWindow, AveragesTheVisibleValues) {
  expect_values(averages(4, {sliding_window(2)}, {1, 2, 4, 8}), {1, 1.5, 3, 6});
}

TEST(KeyLimit, HidesWhatLiesBeyond) {
  expect_values(averages(2, {key_limit({2})}, {1, 3, 100}), {2, 2});
  expect_values(averages(2, {key_limit({})}, {1, 3, 100}), {0, 0});
}

TEST(Rules, AllApply) {
  expect_values(averages(4, {causal(), key_limit({2}), sliding_window(2)}, {1, 3, 5, 7}), {1, 2, 3, 0});
}

// What visible_keys rules out may save time but must not change a result: the reference never asks it.
TEST(Rules, BlockedAgreesWithTheReferenceForEveryMask) {
  const Shapes shapes{.heads = {.n_heads = 2, .n_kv_heads = 1, .d_k = 4, .d_v = 3},
                      .q_lengths = {200, 64, 65, 3},
                      .kv_lengths = {}};
  const Inputs in = random_inputs(shapes, DType::kF64);
  for (const std::vector<RulePtr>& rules : {std::vector<RulePtr>{causal()},
                                            {sliding_window(1)},
                                            {sliding_window(50)},
                                            {sliding_window(129)},
                                            {key_limit({100, 64, 0, 2})},
                                            {causal(), key_limit({70, 5, 65, 3})},
                                            {sliding_window(70), key_limit({130, 30, 40, 3})}}) {
    AttentionOptions options{.heads = shapes.heads, .rules = rules, .path = AttentionPath::kBlocked};
    const Outcome blocked = run(in, options);
    options.path = AttentionPath::kReference;
    expect_close(blocked, run(in, options), 1e-12, "mask");
  }
}

// A rule written outside the library: a distance penalty, different for each head (Press et al. 2022, ALiBi).
class DistancePenalty : public RuleFor<DistancePenalty> {
 public:
  template <class A>
  void edit(const ScoreTile<A>& t) const noexcept {
    for (int64_t r = 0; r < t.rows; ++r)
      for (int64_t c = 0; c < t.cols; ++c)
        t.scores[r * t.stride + c] -= A(t.head + 1) * A(0.5) * static_cast<A>(std::abs(t.i0 + r - t.j0 - c));
  }
};

TEST(Rules, OfAUserRunOnEveryPathWithGradients) {
  const Shapes shapes{.heads = {.n_heads = 2, .d_k = 4}, .q_lengths = {100, 7}, .kv_lengths = {}};
  const Inputs in = random_inputs(shapes, DType::kF64);
  AttentionOptions options{.heads = shapes.heads,
                           .rules = {std::make_shared<DistancePenalty>(), causal()},
                           .path = AttentionPath::kBlocked};
  const Outcome blocked = run(in, options);
  options.path = AttentionPath::kReference;
  expect_close(blocked, run(in, options), 1e-12, "penalty");
  const Segments five({5});
  options.path = AttentionPath::kBlocked;
  EXPECT_EQ(gradcheck([&](const auto& x) { return attention(x[0], x[1], x[2], five, five, options); },
                      {random_tensor({5, 8}, 1), random_tensor({5, 8}, 2), random_tensor({5, 8}, 3)}),
            "");
  // Two keys, one of them a step away, equal scores: weights 1 : exp(-0.5).
  const Tensor out = averages(2, {std::make_shared<DistancePenalty>()}, {0, 1});
  EXPECT_NEAR(out.at({1, 0}), 1 / (1 + std::exp(-0.5)), 1e-12);
}

TEST(Masks, RefuseSizesThatMeanNothing) {
  EXPECT_THROW((void)sliding_window(0), Error);
  EXPECT_THROW((void)key_limit({-1}), Error);
}

}  // namespace
}  // namespace qkv
