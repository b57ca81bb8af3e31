#include "qkv/train/masking.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace qkv {
namespace {

constexpr int32_t kMask = 4;

MaskedText mask(int64_t n, uint32_t step, const std::vector<RowRange>& texts) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < n; ++i) ids.push_back(static_cast<int32_t>(100 + i % 800));
  return mask_words(ids, texts, {.mask_id = kMask, .vocab_size = 900},
                    {.seed = 7, .stream = 1, .step = step});
}

TEST(Masking, FifteenInAHundredOfWhichEightyTenAndTen) {
  const int64_t n = 200'000;
  const MaskedText m = mask(n, 1, {{0, n}});
  ASSERT_EQ(m.rows.size(), 30'000u);
  int64_t hidden = 0, same = 0;
  for (size_t i = 0; i < m.rows.size(); ++i) {
    const int32_t now = m.ids[static_cast<size_t>(m.rows[i])];
    EXPECT_EQ(m.words[i], 100 + m.rows[i] % 800);
    hidden += now == kMask;
    same += now == m.words[i];
  }
  // Three standard deviations of 30,000 draws, and the few random words that happen to be the right ones.
  EXPECT_NEAR(static_cast<double>(hidden) / 30'000, 0.8, 0.007);
  EXPECT_NEAR(static_cast<double>(same) / 30'000, 0.1, 0.006);
}

TEST(Masking, EachTextGivesItsShareAndAtLeastOneWordAndNothingOutsideIsTouched) {
  const MaskedText m = mask(50, 1, {{1, 2}, {10, 30}, {40, 40}});
  EXPECT_EQ(m.rows.size(), 1u + 3u);
  EXPECT_EQ(m.rows[0], 1);
  for (size_t i = 1; i < 4; ++i) EXPECT_TRUE(m.rows[i] >= 10 && m.rows[i] < 30);
  for (int64_t row = 0; row < 50; ++row) {
    const bool chosen = std::find(m.rows.begin(), m.rows.end(), row) != m.rows.end();
    EXPECT_TRUE(chosen || m.ids[static_cast<size_t>(row)] == 100 + row) << row;
  }
  EXPECT_EQ(n_chosen(20, 0.15), 3);
  EXPECT_EQ(n_chosen(0, 0.15), 0);
}

TEST(Masking, ChangesFromStepToStepAndIsTheSameForTheSameStep) {
  const MaskedText a = mask(1000, 1, {{0, 1000}}), again = mask(1000, 1, {{0, 1000}}),
                   b = mask(1000, 2, {{0, 1000}});
  EXPECT_EQ(a.ids, again.ids);
  EXPECT_EQ(a.rows, again.rows);
  EXPECT_NE(a.rows, b.rows);
}

}  // namespace
}  // namespace qkv
