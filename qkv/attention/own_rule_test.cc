// Rules made of lambdas: by distance and by pair they are the same rule, on every path.

#include "qkv/attention/own_rule.h"

#include <atomic>

#include "qkv/attention/test_cases.h"

namespace qkv {
namespace {

using namespace test;

bool sees(int64_t head, int64_t distance) {
  return distance <= head && (distance % 3 == 0 || distance > -70);
}
double number(int64_t head, int64_t distance) {
  return 0.25 * static_cast<double>(head + 1) * std::sin(static_cast<double>(distance));
}

TEST(OwnRule, SaysOfEveryTileWhatItsLambdaSays) {
  const MaskPtr by_distance = distance_mask(sees),
                by_pair = mask([](int64_t, int64_t h, int64_t i, int64_t j) { return sees(h, j - i); });
  for (int64_t rows : {1, 5, 63, 64})
    for (int64_t cols : {1, 7, 63, 64})
      for (int64_t i0 : {0, 64, 131})
        for (int64_t j0 : {0, 64, 128, 320}) {
          const TilePlace tile{.batch = 1, .head = 2, .i0 = i0, .j0 = j0, .rows = rows, .cols = cols};
          uint64_t words[2][64];
          by_distance->visible(tile, words[0]);
          by_pair->visible(tile, words[1]);
          int64_t n = 0;
          for (int64_t r = 0; r < rows; ++r)
            for (int64_t c = 0; c < cols; ++c) {
              const bool want = sees(2, j0 + c - i0 - r);
              EXPECT_EQ(words[0][r] >> c & 1, want) << rows << " " << cols << " " << i0 << " " << j0;
              EXPECT_EQ(words[1][r] >> c & 1, want);
              n += want;
            }
          EXPECT_EQ(by_distance->sight(tile), n == 0             ? Sight::kNone
                                              : n == rows * cols ? Sight::kAll
                                                                 : Sight::kSome);
        }
}

TEST(OwnRule, GetsSequenceAndHeadAndPlaces) {
  const auto code = [](auto b, auto h, auto i, auto j) { return 1000 * b + 100 * h + 10 * i + j; };
  float scores[6] = {};
  const ScoreTile<float> tile{{.batch = 4, .head = 3, .i0 = 2, .j0 = 1, .rows = 2, .cols = 3}, 3, scores};
  bias(code)->apply(tile);
  EXPECT_EQ(std::vector<float>(scores, scores + 6), (std::vector<float>{4321, 4322, 4323, 4331, 4332, 4333}));
}

// Counts the tiles whose scores somebody computed.
class CountTiles final : public EditFor<CountTiles> {
 public:
  template <class A>
  void edit(const ScoreTile<A>& /*tile*/) const noexcept {
    ++tiles;
  }
  mutable std::atomic<int64_t> tiles = 0;
};

TEST(OwnRule, TilesThatItHidesWhollyAreNotComputed) {
  const HeadSizes heads{.n_heads = 1, .d_k = 4};
  const Inputs in = random_inputs({.heads = heads, .q_lengths = {150}, .kv_lengths = {}}, DType::kF32);
  const MaskPtr own = mask([](int64_t, int64_t, int64_t i, int64_t j) { return j <= i; });
  for (AttentionPath path : {AttentionPath::kBlocked, AttentionPath::kRows, AttentionPath::kDecode}) {
    const auto count = std::make_shared<CountTiles>();
    (void)attention(Var(in.q), Var(in.k), Var(in.v), in.queries, in.keys,
                    {.heads = heads, .rules = {count, own}, .path = path});
    EXPECT_EQ(count->tiles, 6) << static_cast<int>(path);  // of 3 x 3
  }
}

TEST(OwnRule, IsTheSameByDistanceAndByPairOnEveryPath) {
  const Shapes shapes{.q_lengths = {150, 1, 64, 0, 65}};
  const std::vector<RulePtr> by_distance{distance_mask(sees), distance_bias(number)};
  const std::vector<RulePtr> by_pair{
      mask([](auto, auto h, auto i, auto j) { return sees(h, j - i); }),
      bias([](int64_t, int64_t h, int64_t i, int64_t j) { return number(h, j - i); })};
  for (DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
    const Inputs in = random_inputs(shapes, dtype);
    AttentionOptions options{.heads = shapes.heads, .rules = by_distance, .path = AttentionPath::kReference};
    const Outcome reference = run(in, options);
    options.path = AttentionPath::kBlocked;
    for (const kernels::Table* table : tables()) {
      options.kernels = table;
      options.rules = by_distance;
      const Outcome one = run(in, options);
      options.rules = by_pair;
      const Outcome other = run(in, options);
      const std::string what = std::string(name(dtype)) + " " + std::string(name(table->isa));
      expect_equal_bits(one.out, other.out, what);
      expect_equal_bits(one.dq, other.dq, what);
      expect_equal_bits(one.dk, other.dk, what);
      expect_equal_bits(one.dv, other.dv, what);
      expect_close(one, reference, dtype == DType::kF64 ? 1e-11 : dtype == DType::kF32 ? 1e-4 : 0.1, what);
    }
  }
}

TEST(OwnRule, GradientsPassThrough) {
  const HeadSizes heads{.n_heads = 2, .d_k = 2};
  const Segments text({3, 0, 2});
  const AttentionOptions options{
      .heads = heads,
      .rules = {distance_mask([](int64_t, int64_t d) { return d <= 0; }), distance_bias(number)},
      .path = AttentionPath::kBlocked};
  EXPECT_EQ(
      gradcheck([&](const std::vector<Var>& x) { return attention(x[0], x[1], x[2], text, text, options); },
                {random_tensor({5, 4}, 1), random_tensor({5, 4}, 2), random_tensor({5, 4}, 3)}),
      "");
}

}  // namespace
}  // namespace qkv
