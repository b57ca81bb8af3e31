#include "qkv/scores/resample.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "qkv/base/parallel.h"
#include "qkv/base/philox.h"
#include "qkv/scores/bleu.h"
#include "qkv/scores/chrf.h"
#include "qkv/scores/ter.h"

namespace qkv::scores {
namespace {

using Lines = std::vector<std::string>;

// Sentences of random words, and a "translation" that gets each word wrong with the given chance.
struct Corpus {
  Lines refs;
  explicit Corpus(int64_t n) {
    RandomStream random({.seed = 1});
    for (int64_t i = 0; i < n; ++i) {
      std::string line;
      for (uint64_t w = 6 + random.below(10); w > 0; --w)
        line += "w" + std::to_string(random.below(300)) + " ";
      refs.push_back(line);
    }
  }
  Lines translation(double error, uint64_t seed) const {
    RandomStream random({.seed = seed, .stream = 1});
    Lines out;
    for (const std::string& ref : refs) {
      std::string line, word;
      for (const char c : ref) {
        word += c;
        if (c != ' ') continue;
        line += random.uniform() < error ? "x" + word : word;
        word.clear();
      }
      out.push_back(line);
    }
    return out;
  }
};

TEST(Bootstrap, IntervalHoldsTheScoreAndShrinksWithTheCorpus) {
  const Bleu bleu;
  double half_width[2];
  for (const int64_t n : {100, 1600}) {
    const Corpus corpus(n);
    const SegmentStats stats = bleu.segment_stats(corpus.translation(0.2, 7), {corpus.refs});
    const double score = bleu.score(stats.sum());
    const Interval ci = interval_95(bootstrap_scores(bleu, stats));
    EXPECT_NEAR(ci.mean, score, ci.half_width / 2);
    EXPECT_GT(ci.half_width, 0);
    half_width[n == 1600] = ci.half_width;
  }
  // 16 times the sentences: a quarter of the width, give or take.
  EXPECT_NEAR(half_width[0] / half_width[1], 4.0, 1.5);
}

TEST(Bootstrap, IsTheSameOnAnyNumberOfThreadsAndOtherForOtherSeeds) {
  const Corpus corpus(50);
  const Bleu bleu;
  const SegmentStats stats = bleu.segment_stats(corpus.translation(0.3, 7), {corpus.refs});
  const int before = threads();
  set_threads(1);
  const auto one = bootstrap_scores(bleu, stats, {.n_samples = 100});
  set_threads(3);
  EXPECT_EQ(bootstrap_scores(bleu, stats, {.n_samples = 100}), one);
  set_threads(before);
  EXPECT_NE(bootstrap_scores(bleu, stats, {.n_samples = 100, .seed = 1}), one);
}

// sacreBLEU's estimate_ci: 1000 // 40 = 25 scores are left out on each side.
TEST(Interval, LeavesAFortiethOutOnEachSide) {
  std::vector<double> scores;
  for (int i = 999; i >= 0; --i) scores.push_back(i);
  const Interval ci = interval_95(scores);
  EXPECT_EQ(ci.mean, 499.5);
  EXPECT_EQ(ci.half_width, 0.5 * (974 - 25));
  EXPECT_EQ(interval_95({5.0}).half_width, 0.0);
}

TEST(PairedTest, FindsAClearDifferenceAndNoneBetweenEquals) {
  const Corpus corpus(300);
  const Bleu bleu;
  const Chrf chrf;
  const Ter ter;
  for (const Metric* metric : {static_cast<const Metric*>(&bleu), static_cast<const Metric*>(&chrf),
                               static_cast<const Metric*>(&ter)}) {
    const References refs = {corpus.refs};
    const std::vector<SegmentStats> systems = {metric->segment_stats(corpus.translation(0.30, 1), refs),
                                               metric->segment_stats(corpus.translation(0.15, 2), refs),
                                               metric->segment_stats(corpus.translation(0.30, 3), refs),
                                               metric->segment_stats(corpus.translation(0.30, 1), refs)};
    for (const auto method : {PairedMethod::kBootstrap, PairedMethod::kApproximateRandomization}) {
      const auto results = paired_test(*metric, systems, {.method = method, .n_samples = 999});
      ASSERT_EQ(results.size(), 4u);
      EXPECT_FALSE(results[0].p_value.has_value());
      EXPECT_EQ(*results[1].p_value, 1.0 / 1000) << metric->name();  // no sample came near
      EXPECT_GT(*results[2].p_value, 0.02) << metric->name();
      EXPECT_EQ(results[1].score, metric->score(systems[1].sum()));
      EXPECT_EQ(results[0].interval.has_value(), method == PairedMethod::kBootstrap);
      // The baseline against itself: no difference is ever greater than none.
      EXPECT_EQ(results[3].score, results[0].score);
      EXPECT_EQ(*results[3].p_value, 1.0 / 1000) << metric->name();
    }
  }
}

// Under the null hypothesis (both systems err alike) p is spread over 0 .. 1; were the test to reject too
// often, small values would pile up.
TEST(PairedTest, PValuesAreSpreadWhereThereIsNoDifference) {
  const Corpus corpus(60);
  const Bleu bleu({.tokenize = BleuTokenizer::kNone});
  int below_a_fifth = 0;
  constexpr int kTrials = 100;
  for (int trial = 0; trial < kTrials; ++trial) {
    const std::vector<SegmentStats> systems = {
        bleu.segment_stats(corpus.translation(0.3, static_cast<uint64_t>(1000 + trial)), {corpus.refs}),
        bleu.segment_stats(corpus.translation(0.3, static_cast<uint64_t>(2000 + trial)), {corpus.refs})};
    const auto results =
        paired_test(bleu, systems, {.method = PairedMethod::kApproximateRandomization, .n_samples = 199});
    below_a_fifth += *results[1].p_value < 0.2;
  }
  EXPECT_NEAR(below_a_fifth, 20, 14);  // 3.5 standard deviations of a fair count
}

TEST(PairedTest, RandomizationGivesIntervalsWhereAsked) {
  const Corpus corpus(40);
  const Bleu bleu;
  const std::vector<SegmentStats> systems(2, bleu.segment_stats(corpus.translation(0.2, 1), {corpus.refs}));
  const auto results =
      paired_test(bleu, systems,
                  {.method = PairedMethod::kApproximateRandomization, .n_samples = 50, .n_confidence = 100});
  ASSERT_TRUE(results[0].interval && results[1].interval);
  EXPECT_EQ(results[0].interval->mean, results[1].interval->mean);
}

TEST(PairedTest, ErrorsSayWhatIsWrong) {
  const Corpus corpus(4), longer(5);
  const Bleu bleu;
  const SegmentStats a = bleu.segment_stats(corpus.refs, {corpus.refs}),
                     b = bleu.segment_stats(longer.refs, {longer.refs});
  EXPECT_THROW(paired_test(bleu, std::vector{a}), Error);
  EXPECT_THROW(paired_test(bleu, std::vector{a, b}), Error);
  EXPECT_THROW(paired_test(bleu, std::vector{a, a}, {.n_samples = 2000000}), Error);
  EXPECT_THROW(bootstrap_scores(bleu, a, {.n_samples = 1}), Error);
  EXPECT_THROW(parse_paired_method("t-test"), Error);
  EXPECT_EQ(parse_paired_method("ar"), PairedMethod::kApproximateRandomization);
}

}  // namespace
}  // namespace qkv::scores
