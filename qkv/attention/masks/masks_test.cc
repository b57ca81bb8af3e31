#include "qkv/attention/masks.h"

#include "qkv/attention/sdpa.h"
#include "qkv/attention/test_cases.h"
#include "qkv/base/testing.h"

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

TEST(SlidingWindow, LooksAheadAndSkips) {
  expect_values(averages(4, {sliding_window({.back = 1, .ahead = 1})}, {1, 3, 5, 7}), {2, 4, 6, 7});
  expect_values(averages(5, {sliding_window({.back = 2, .dilation = 3})}, {1, 2, 4, 8, 16}),
                {1, 2, 4, 4.5, 9});
}

TEST(Strided, SeesEveryNth) {
  expect_values(averages(4, {strided(2)}, {1, 2, 5, 8}), {3, 5, 3, 5});
  expect_values(averages(4, {strided(2), causal()}, {1, 2, 5, 8}), {1, 2, 3, 5});
}

TEST(Prefix, LooksBothWaysThenCausally) {
  expect_values(averages(4, {prefix({2})}, {1, 3, 5, 7}), {2, 2, 3, 4});
  expect_values(averages(3, {prefix({})}, {1, 3, 8}), {1, 2, 4});
}

TEST(Documents, DoNotSeeEachOther) {
  expect_values(averages(5, {documents({{2, 0, 1}})}, {1, 3, 5, 7, 9}), {2, 2, 5, 8, 8});
  expect_values(averages(2, {documents({})}, {1, 3}), {2, 2});
}

TEST(GlobalPositions, SeeAllAndAreSeenByAll) {
  const RulePtr longformer = any_of({sliding_window({.back = 1}), global_positions({2})});
  expect_values(averages(4, {longformer}, {1, 3, 5, 7}), {3, 4, 4, 6});
}

TEST(BlockSparse, FollowsItsTable) {
  expect_values(averages(5, {block_sparse(2, {{true, false}, {true, true}})}, {1, 3, 5, 7, 100}),
                {2, 2, 4, 4, 0});
}

TEST(Mask, OfALambda) {
  expect_values(averages(3, {mask([](int64_t, int64_t, int64_t i, int64_t j) { return j != i; })}, {1, 3, 8}),
                {5.5, 4.5, 2});
}

TEST(KeyLimit, HidesWhatLiesBeyond) {
  expect_values(averages(2, {key_limit({2})}, {1, 3, 100}), {2, 2});
  expect_values(averages(2, {key_limit({})}, {1, 3, 100}), {0, 0});
}

TEST(Rules, AllApply) {
  expect_values(averages(4, {causal(), key_limit({2}), sliding_window(2)}, {1, 3, 5, 7}), {1, 2, 3, 0});
}

// All masks that the library has, for sequences of about 200.
std::vector<std::pair<std::string, MaskPtr>> all_masks() {
  return {
      {"causal", causal()},
      {"window 1", sliding_window(1)},
      {"window 50", sliding_window(50)},
      {"window 129", sliding_window(129)},
      {"window both ways", sliding_window({.back = 40, .ahead = 90})},
      {"window dilated", sliding_window({.back = 9, .ahead = 4, .dilation = 7})},
      {"strided 3", strided(3)},
      {"strided 130", strided(130)},
      {"key limit", key_limit({100, 64, 0, 2})},
      {"prefix", prefix({70, 64, 0})},
      {"documents", documents({{64, 60, 5}, {1, 1}, {}, {3}})},
      {"global", global_positions({0, 64, 199})},
      {"longformer", any_of({sliding_window({.back = 20, .ahead = 19}), global_positions({1, 100})})},
      {"blocks", block_sparse(48, {{true, false, false, true},
                                   {false, true, false, false},
                                   {false, false, false, false},
                                   {true, true, true, true}})},
      {"lambda", mask([](int64_t b, int64_t h, int64_t i, int64_t j) { return (b + h + i * j) % 5 != 0; })}};
}

// sight() and visible_keys() say nothing that visible() does not.
TEST(Masks, SightAndRangeAgreeWithThePairs) {
  for (const auto& [name, m] : all_masks())
    for (int64_t batch : {0, 1, 2, 3, 4})
      for (int64_t i0 : {0, 1, 63, 64, 130, 190})
        for (int64_t rows : {1, 3, 64}) {
          const KeyRange range = m->visible_keys(batch, i0, rows, 300);
          for (int64_t j0 : {0, 64, 128, 192, 256})
            for (int64_t cols : {1, 44, 64}) {
              const TilePlace tile{.batch = batch, .head = 1, .i0 = i0, .j0 = j0, .rows = rows, .cols = cols};
              uint64_t words[64];
              m->visible(tile, words);
              bool some = false, all = true;
              for (int64_t r = 0; r < rows; ++r)
                for (int64_t c = 0; c < cols; ++c) {
                  const bool seen = (words[r] >> c & 1) != 0;
                  seen ? some = true : all = false;
                  if (seen && j0 + c < 300) {
                    ASSERT_TRUE(range.begin <= j0 + c && j0 + c < range.end)
                        << name << " i0 " << i0 << " key " << j0 + c;
                  }
                }
              const Sight sight = m->sight(tile);
              ASSERT_FALSE(sight == Sight::kNone && some) << name << " i0 " << i0 << " j0 " << j0;
              ASSERT_FALSE(sight == Sight::kAll && !all) << name << " i0 " << i0 << " j0 " << j0;
            }
        }
}

TEST(Rules, BlockedAgreesWithTheReferenceForEveryMaskAndPair) {
  const Shapes shapes{.heads = {.n_heads = 2, .n_kv_heads = 1, .d_k = 4, .d_v = 3},
                      .q_lengths = {200, 64, 65, 3},
                      .kv_lengths = {}};
  const Inputs in = random_inputs(shapes, DType::kF64);
  const auto masks = all_masks();
  for (size_t a = 0; a < masks.size(); ++a) {
    const size_t b = (a * 7 + 4) % masks.size();
    for (const std::vector<RulePtr>& rules :
         {std::vector<RulePtr>{masks[a].second}, {masks[a].second, masks[b].second}}) {
      AttentionOptions options{.heads = shapes.heads, .rules = rules, .path = AttentionPath::kBlocked};
      const Outcome blocked = run(in, options);
      options.path = AttentionPath::kReference;
      expect_close(blocked, run(in, options), 1e-12,
                   masks[a].first + (rules.size() > 1 ? " and " + masks[b].first : ""));
    }
  }
}

// A rule written outside the library: a distance penalty, different for each head (Press et al. 2022, ALiBi).
class DistancePenalty : public EditFor<DistancePenalty> {
 public:
  template <class A>
  void edit(const ScoreTile<A>& t) const noexcept {
    for (int64_t r = 0; r < t.rows; ++r)
      for (int64_t c = 0; c < t.cols; ++c)
        t.at(r, c) -= A(t.head + 1) * A(0.5) * static_cast<A>(std::abs(t.i0 + r - t.j0 - c));
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
  EXPECT_THROW((void)sliding_window({.back = 1, .ahead = -1}), Error);
  EXPECT_THROW((void)sliding_window({.back = 1, .dilation = 0}), Error);
  EXPECT_THROW((void)key_limit({-1}), Error);
  EXPECT_THROW((void)strided(0), Error);
  EXPECT_THROW((void)prefix({-1}), Error);
  EXPECT_THROW((void)documents({{1, -1}}), Error);
  EXPECT_THROW((void)documents({{1, std::numeric_limits<int64_t>::max()}}), Error);
  EXPECT_THROW((void)global_positions({-1}), Error);
  EXPECT_THROW((void)block_sparse(0, {}), Error);
  EXPECT_THROW((void)block_sparse(2, {{true}, {true, false}}), Error);
  EXPECT_THROW((void)any_of({}), Error);
  EXPECT_ERROR(kValue, "mask 1 of 2 is null", (void)any_of({causal(), nullptr}));
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  EXPECT_ERROR(kValue, "from 1 to below 2^31", (void)strided(kMost));
  EXPECT_ERROR(kValue, "below 2^31", (void)sliding_window({.back = 1, .ahead = kMost}));
  EXPECT_ERROR(kValue, "past is -1", (void)mask_tensor(Tensor::zeros({1, 1, 1, 1}, DType::kI32), -1));
  EXPECT_ERROR(kValue, "past is -1", (void)bias_tensor(Var(random_tensor({1, 1, 1, 1}, 1)), 1, 1, 1, 1, -1));
  EXPECT_ERROR(kValue, "[-1, 1, 1, 1] has a negative size",
               (void)bias_tensor(Var(random_tensor({1, 1, 1, 1}, 1)), -1, 1, 1, 1));
  EXPECT_THROW(averages(1, {nullptr}, {1}), Error);
}

}  // namespace
}  // namespace qkv
