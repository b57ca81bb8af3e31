#include "qkv/train/bigrams.h"

#include <gtest/gtest.h>

#include <cmath>

#include "qkv/base/philox.h"

namespace qkv {
namespace {

// a b a b a c: pairs ab 2, ba 2, ac 1. n1 = 1, n2 = 2, so D = 1/5.
TEST(Bigrams, ByHand) {
  const std::vector<int32_t> ids = {0, 1, 0, 1, 0, 2};
  const Bigrams counts(ids, 4);
  EXPECT_NEAR(counts.token_nll(0), -std::log(4.0 / 10), 1e-12);
  EXPECT_NEAR(counts.token_nll(3), -std::log(1.0 / 10), 1e-12);
  // Three different pairs; each of a, b, c follows one token: P = 2/7, of the unseen d 1/7.
  EXPECT_NEAR(counts.pair_nll(0, 1), -std::log((2 - 0.2 + 0.2 * 2 * 2 / 7) / 3), 1e-12);
  EXPECT_NEAR(counts.pair_nll(0, 3), -std::log(0.2 * 2 * 1 / 7 / 3), 1e-12);
  EXPECT_NEAR(counts.pair_nll(2, 0), -std::log(2.0 / 7), 1e-12);  // c was never followed
  EXPECT_EQ(counts.likeliest(), 0);
  EXPECT_EQ(counts.likeliest_after(0), 1);
  EXPECT_EQ(counts.likeliest_after(1), 0);
}

TEST(Bigrams, ProbabilitiesAddUpToOne) {
  RandomStream random({.seed = 3});
  std::vector<int32_t> ids;
  for (int i = 0; i < 2000; ++i) ids.push_back(static_cast<int32_t>(random.below(5) * random.below(9)));
  const Bigrams counts(ids, 40);
  for (int32_t before = 0; before < 40; ++before) {
    double one = 0, pairs = 0;
    for (int32_t token = 0; token < 40; ++token) {
      one += std::exp(-counts.token_nll(token));
      pairs += std::exp(-counts.pair_nll(before, token));
    }
    EXPECT_NEAR(one, 1, 1e-12);
    EXPECT_NEAR(pairs, 1, 1e-12) << before;
  }
}

// A text that goes round in circles: frequencies say nothing, the token before says all.
TEST(CountingBaseline, PairsKnowWhatFollows) {
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < 4000; ++i) ids.push_back(i % 10);
  const CountingBaseline b = counting_baseline(ids, ids, 10);
  EXPECT_NEAR(b.token_loss, std::log(10), 1e-3);
  EXPECT_LT(b.pair_loss, 0.01);
  EXPECT_NEAR(b.token_accuracy, 0.1, 1e-3);
  EXPECT_EQ(b.pair_accuracy, 1);
}

}  // namespace
}  // namespace qkv
