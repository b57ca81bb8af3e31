#include "qkv/attention/paths/shared_sums.h"

#include "qkv/attention/attention.h"
#include "qkv/attention/test_cases.h"

namespace qkv::paths {
namespace {

using namespace test;

// Each sequence adds its own numbers to those of its place in the wave.
TEST(SharedSums, AreAddedInOrderWhateverTheWaves) {
  constexpr int64_t n = 11, heads = 2, size = 3;
  for (int64_t floats : {int64_t{1}, 5 * heads * size, int64_t{1} << 23}) {
    Problem<float> p;
    for (int64_t i = 0; i < n; ++i) p.sequences.push_back({.index = i});
    SharedSums<float> shared(floats);
    HeadSums<float> numbers;
    std::vector<float> order;
    shared.want(numbers, heads, size, [&](const float* one) {
      order.push_back(one[0]);
      EXPECT_EQ(one[heads * size - 1], one[0] + 0.5f);
    });
    int64_t waves = 0;
    shared.gather(p, [&] {
      ++waves;
      for (size_t s = 0; s < p.sequences.size(); ++s) {
        numbers.of(static_cast<int64_t>(s), 0)[0] += static_cast<float>(p.sequences[s].index);
        numbers.of(static_cast<int64_t>(s), 1)[size - 1] += static_cast<float>(p.sequences[s].index) + 0.5f;
      }
    });
    EXPECT_EQ(waves, floats == 1 ? 3 : floats == 30 ? 3 : 1);
    EXPECT_EQ(order, (std::vector<float>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}));
  }
}

// So many vectors of distances that five sequences take two waves: bit for bit the five one after the other.
TEST(SharedSums, OfABatchAreThoseOfItsSequencesOneByOne) {
  constexpr int64_t n_rows = 30000, d = 64, n = 5, length = 3;
  const Tensor table = random_tensor({n_rows, d}, 7, DType::kF32);
  const Tensor x = random_tensor({n * length, d}, 8, DType::kF32);
  const auto gradient = [&](const std::vector<Segments>& calls) {
    const Var rows(table, true);
    int64_t at = 0;
    for (const Segments& s : calls) {
      const Var part(x.rows(at, at + s.n_tokens()));
      const Var out = attention(part, part, part, s, s,
                                {.heads = {.n_heads = 1, .d_k = d},
                                 .relative_keys = RelativeKeys{.rows = rows, .zero = n_rows / 2}});
      backward(out, x.rows(at, at + s.n_tokens()));
      at += s.n_tokens();
    }
    return rows.grad();
  };
  const Tensor together = gradient({Segments(std::vector<int64_t>(n, length))}),
               alone = gradient(std::vector<Segments>(n, Segments({length})));
  EXPECT_EQ(max_difference(together, alone), 0);
  EXPECT_GT(max_difference(together, Tensor::zeros({n_rows, d}, DType::kF32)), 0.01);
}

}  // namespace
}  // namespace qkv::paths
