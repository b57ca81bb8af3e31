#include "qkv/decode/length_penalty.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "qkv/decode/search_options.h"

namespace qkv::decode {
namespace {

TEST(LengthPenalty, EqualsTheFormulaByHand) {
  EXPECT_DOUBLE_EQ(length_penalty(LengthPenaltyKind::kLength, 1.0, 4), 4.0);
  EXPECT_DOUBLE_EQ(length_penalty(LengthPenaltyKind::kLength, 0.5, 4), 2.0);
  EXPECT_DOUBLE_EQ(length_penalty(LengthPenaltyKind::kLength, 0.0, 4), 1.0);
  EXPECT_DOUBLE_EQ(length_penalty(LengthPenaltyKind::kGnmt, 1.0, 7), 2.0);   // (5 + 7) / 6
  EXPECT_DOUBLE_EQ(length_penalty(LengthPenaltyKind::kGnmt, 0.5, 19), 2.0);  // sqrt(24 / 6)
  EXPECT_DOUBLE_EQ(length_penalty(LengthPenaltyKind::kGnmt, 0.6, 1), 1.0);   // 6 / 6, whatever alpha
}

TEST(LengthPenalty, ChoosesBetweenShortAndLongAsAlphaSays) {
  const double short_log_prob = -4, long_log_prob = -6;  // of 4 and 12 tokens
  SearchOptions options{.length_penalty = 0.0};
  EXPECT_GT(normalized(short_log_prob, 4, options), normalized(long_log_prob, 12, options));
  options.length_penalty = 1.0;  // -1 against -0.5
  EXPECT_LT(normalized(short_log_prob, 4, options), normalized(long_log_prob, 12, options));
}

TEST(CoveragePenalty, CostsOnlyWhatWasNotLookedAt) {
  EXPECT_DOUBLE_EQ(coverage_penalty(std::vector<double>{1.0, 1.0, 1.0}), 0.0);
  EXPECT_DOUBLE_EQ(coverage_penalty(std::vector<double>{1.8, 0.5, 1.0}),
                   std::log(0.5));  // more than 1 earns nothing
  EXPECT_DOUBLE_EQ(coverage_penalty(std::vector<double>{0.0, 3.0}), std::log(1e-6));  // finite
}

TEST(BestPossibleScore, IsReachedAndNeverExceededByAnyContinuation) {
  for (const auto kind : {LengthPenaltyKind::kLength, LengthPenaltyKind::kGnmt}) {
    for (const double alpha : {-0.5, 0.0, 0.6, 1.0, 2.0}) {
      const SearchOptions options{.length_penalty_kind = kind, .length_penalty = alpha};
      const double bound = best_possible_score(-3.0, 5, 20, options);
      double best = -INFINITY;
      for (int64_t n = 6; n <= 20; ++n) best = std::max(best, normalized(-3.0, n, options));
      EXPECT_DOUBLE_EQ(bound, best) << alpha;
    }
  }
}

}  // namespace
}  // namespace qkv::decode
