#include "qkv/explain/alignment.h"

#include <gtest/gtest.h>

#include <cmath>

namespace qkv::explain {
namespace {

// Source: one | play house | eos. Target: ein | Spiel haus | eos.
const Words kSource = {.words = {"one", "playhouse"}, .word_of = {0, 1, 1, -1}};
const Words kTarget = {.words = {"ein", "Spielhaus"}, .word_of = {0, 1, 1, -1}};
const Tensor kWeights = Tensor::from({4, 4}, {0.7, 0.1, 0.1, 0.1,  //
                                              0.0, 0.8, 0.1, 0.1,  //
                                              0.2, 0.1, 0.5, 0.2,  //
                                              0.0, 0.0, 0.0, 1.0});

void expect_values(const Tensor& got, std::vector<double> want) {
  const std::vector<double> values = got.values();
  ASSERT_EQ(values.size(), want.size());
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(values[i], want[i], 1e-6) << i;
}

TEST(WordAttention, SumsOverSourcePiecesAndAveragesOverTargetPieces) {
  const Tensor words = word_attention(kWeights, kTarget, kSource);
  EXPECT_EQ(words.shape(), (Shape{2, 2}));
  expect_values(words, {0.7, 0.2, 0.1, 0.75});  // (0.0 + 0.2) / 2, (0.9 + 0.6) / 2
}

TEST(WordAttention, RenormalizedRowsSumToOneThoughEosTookItsShare) {
  expect_values(word_attention(kWeights, kTarget, kSource, true),
                {0.7 / 0.9, 0.2 / 0.9, 0.1 / 0.85, 0.75 / 0.85});
}

TEST(WordAttention, ARowThatLooksAtEosAloneIsZeroNotNan) {
  const Words source = {.words = {"x"}, .word_of = {0, -1}}, target = {.words = {"y"}, .word_of = {0}};
  expect_values(word_attention(Tensor::from({1, 2}, {0, 1}), target, source, true), {0});
}

TEST(WordAttention, RefusesSentencesOfOtherLengths) {
  EXPECT_THROW(word_attention(kWeights, kTarget, Words{.words = {"a"}, .word_of = {0}}), Error);
  EXPECT_THROW(word_attention(Tensor(), kTarget, kSource), Error);
}

TEST(HardAlignment, LinksEachTargetWordToWhatItLooksAtMost) {
  const std::vector<Link> links = hard_alignment(Tensor::from({3, 3}, {0.2, 0.5, 0.3,  //
                                                                       0.4, 0.4, 0.2,  // equal: the first
                                                                       0.1, 0.2, 0.7}));
  EXPECT_EQ(links, (std::vector<Link>{{1, 0}, {0, 1}, {2, 2}}));
  EXPECT_EQ(pharaoh(links), "1-0 0-1 2-2");
}

TEST(HardAlignment, LeavesOutRowsThatLookNowhereOrTooLittle) {
  const Tensor weights = Tensor::from({4, 2}, {0, 0, 0.3, 0.4, 0.9, 0.1, NAN, NAN});
  EXPECT_EQ(pharaoh(hard_alignment(weights)), "1-1 0-2");
  EXPECT_EQ(pharaoh(hard_alignment(weights, 0.5f)), "0-2");
  EXPECT_EQ(pharaoh({}), "");
}

TEST(RowEntropy, IsZeroForOnePlaceAndTheLogarithmForAll) {
  const std::vector<double> bits = row_entropy_bits(
      Tensor::from({4, 4}, {1, 0, 0, 0, 0.25, 0.25, 0.25, 0.25, 0.2, 0.2, 0, 0, 0, 0, 0, 0}));
  EXPECT_DOUBLE_EQ(bits[0], 0);
  EXPECT_DOUBLE_EQ(bits[1], 2);
  EXPECT_NEAR(bits[2], 1, 1e-12);  // made to sum 1 first
  EXPECT_DOUBLE_EQ(bits[3], 0);
}

}  // namespace
}  // namespace qkv::explain
