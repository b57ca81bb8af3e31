// Greedy and beam search on models small enough to try every sentence.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "qkv/base/parallel.h"
#include "qkv/decode/beam.h"
#include "qkv/decode/greedy.h"
#include "qkv/decode/toy_model.h"

namespace qkv::decode {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

SearchOptions options_for_tests() {
  return {.start_id = 0,
          .eos_id = 1,
          .pad_id = -1,
          .max_length = 6,
          .max_length_factor = 0,
          .max_length_plus = 6};
}

// All that a search may return for one sentence, scored from the definition in float64, best first.
struct Exhaustive {
  const ToyModel& model;
  const SearchOptions& options;
  uint64_t seed;
  std::vector<Hypothesis> all{};

  void visit(std::vector<int32_t> history, double log_prob) {
    const auto length = static_cast<int64_t>(history.size()) - 1;
    const std::vector<double> log_probs = model.log_probs(seed, history);
    for (int32_t id = 0; id < model.vocab_size(); ++id) {
      const bool banned =
          id == options.start_id || std::count(options.banned_ids.begin(), options.banned_ids.end(), id);
      if (banned || (id == options.eos_id && length < options.min_length)) continue;
      std::vector<int32_t> longer = history;
      longer.push_back(id);
      const double sum = log_prob + log_probs[static_cast<size_t>(id)];
      if (id == options.eos_id || length + 1 == options.max_length) {
        Hypothesis h{
            .ids = {longer.begin() + 1, longer.end()}, .log_prob = sum, .ended = id == options.eos_id};
        h.score = sum / length_penalty(options.length_penalty_kind, options.length_penalty, length + 1);
        if (options.coverage_penalty > 0) {
          std::vector<double> covered(3 + seed % 4);
          for (size_t n = 1; n < longer.size(); ++n) {
            const auto weights = ToyModel::weights(seed, std::span(longer).first(n));
            for (size_t i = 0; i < covered.size(); ++i) covered[i] += static_cast<double>(weights[i]);
          }
          h.score += options.coverage_penalty * coverage_penalty(covered);
        }
        all.push_back(h);
      } else {
        visit(longer, sum);
      }
    }
  }

  std::vector<Hypothesis> run() {
    visit({options.start_id}, 0);
    std::stable_sort(all.begin(), all.end(), [](const Hypothesis& a, const Hypothesis& b) {
      return a.ended != b.ended ? a.ended : a.score > b.score;
    });
    return all;
  }
};

std::vector<std::vector<int32_t>> ids_of(const NBest& list) {
  std::vector<std::vector<int32_t>> out;
  for (const Hypothesis& h : list) out.push_back(h.ids);
  return out;
}

void expect_same(const Hypothesis& a, const Hypothesis& b) {
  EXPECT_EQ(a.ids, b.ids);
  EXPECT_EQ(a.token_log_probs, b.token_log_probs);
  EXPECT_EQ(a.log_prob, b.log_prob);
  EXPECT_EQ(a.score, b.score);
  EXPECT_EQ(a.ended, b.ended);
}

// 5 tokens that are neither start nor eos, at most 4 long: 5^4 sentences are cut, 1 + 5 + 25 + 125 end.
TEST(BeamSearch, WideEnoughIsExhaustiveSearch) {
  for (const auto kind : {LengthPenaltyKind::kLength, LengthPenaltyKind::kGnmt})
    for (const double alpha : {0.0, 0.7, 1.0, 1.6})
      for (const double beta : {0.0, 0.3}) {
        SearchOptions options = options_for_tests();
        options.max_length = 4;
        options.beam_size = 800;
        options.n_best = 20;
        options.patience = kInfinity;
        options.length_penalty_kind = kind;
        options.length_penalty = alpha;
        options.coverage_penalty = beta;
        ToyModel model(7, {11, 12});
        const std::vector<NBest> found = beam_search(model, options);
        for (size_t s = 0; s < 2; ++s) {
          const auto want = Exhaustive{model, options, 11 + s}.run();
          ASSERT_EQ(found[s].size(), 20u);
          for (size_t i = 0; i < 20; ++i) {
            EXPECT_EQ(found[s][i].ids, want[i].ids) << i;
            EXPECT_NEAR(found[s][i].score, want[i].score, 1e-5);
            EXPECT_NEAR(found[s][i].log_prob, want[i].log_prob, 1e-5);
          }
        }
      }
}

TEST(BeamSearch, LeavesAsSoonAsNothingLiveCanWinAndLosesNothingByIt) {
  SearchOptions options = options_for_tests();
  options.max_length = 4;
  options.beam_size = 800;
  options.patience = kInfinity;
  // The end is all but certain at once, so every longer hypothesis is hopeless.
  ToyModel model(5, {1}, [](uint64_t, std::span<const int32_t>) {
    return std::vector<float>{0, 20, 0, 0, 0};
  });
  const std::vector<NBest> found = beam_search(model, options);
  EXPECT_EQ(found[0][0].ids, (std::vector<int32_t>{1}));
  EXPECT_EQ(model.n_steps, 1);
}

TEST(BeamSearch, OfOneHypothesisIsGreedySearch) {
  std::vector<uint64_t> seeds;
  for (uint64_t s = 0; s < 40; ++s) seeds.push_back(s);
  SearchOptions options = options_for_tests();
  options.max_length = 30;
  options.max_length_plus = 30;
  options.want_attention = true;
  ToyModel a(9, seeds), b(9, seeds);
  const std::vector<Hypothesis> greedy = greedy_search(a, options);
  options.beam_size = 1;
  const std::vector<NBest> beam = beam_search(b, options);
  EXPECT_EQ(a.n_rows, b.n_rows);
  for (size_t s = 0; s < seeds.size(); ++s) {
    ASSERT_EQ(beam[s].size(), 1u);
    expect_same(greedy[s], beam[s][0]);
    EXPECT_EQ(greedy[s].attention.values(), beam[s][0].attention.values());
  }
}

TEST(GreedySearch, TakesTheLikeliestTokenAtEachStep) {
  ToyModel model(6, {5});
  SearchOptions options = options_for_tests();
  const Hypothesis h = greedy_search(model, options)[0];
  std::vector<int32_t> history = {0};
  for (size_t i = 0; i < h.ids.size(); ++i) {
    const std::vector<double> log_probs = model.log_probs(5, history);
    EXPECT_EQ(h.ids[i], std::max_element(log_probs.begin() + 1, log_probs.end()) - log_probs.begin());
    EXPECT_NEAR(h.token_log_probs[i], log_probs[static_cast<size_t>(h.ids[i])], 1e-6);
    history.push_back(h.ids[i]);
  }
}

TEST(BeamSearch, GivesASentenceTheSameBitsAloneAndInAnyBatchAndOnAnyNumberOfThreads) {
  SearchOptions options = options_for_tests();
  options.max_length = 25;
  options.max_length_factor = 3;  // 9 to 18 tokens more: sentences leave at different steps
  options.beam_size = 4;
  options.n_best = 4;
  options.coverage_penalty = 0.2;
  std::vector<uint64_t> seeds;
  for (uint64_t s = 0; s < 30; ++s) seeds.push_back(s * 7 % 30);
  ToyModel together(70, seeds);
  const std::vector<NBest> batch = beam_search(together, options);
  const int threads_before = threads();
  set_threads(5);
  ToyModel again(70, seeds);
  const std::vector<NBest> threaded = beam_search(again, options);
  set_threads(threads_before);
  for (size_t s = 0; s < seeds.size(); ++s) {
    ToyModel one(70, {seeds[s]});
    const NBest alone = beam_search(one, options)[0];
    ASSERT_EQ(batch[s].size(), alone.size());
    ASSERT_EQ(threaded[s].size(), alone.size());
    for (size_t i = 0; i < alone.size(); ++i) {
      expect_same(batch[s][i], alone[i]);
      expect_same(threaded[s][i], alone[i]);
    }
  }
}

TEST(BeamSearch, ReturnsSortedDistinctHypothesesThatAddUp) {
  SearchOptions options = options_for_tests();
  options.beam_size = 6;
  options.n_best = 6;
  options.want_attention = true;
  ToyModel model(12, {1, 2, 3, 4, 5, 6, 7, 8});
  for (const NBest& list : beam_search(model, options)) {
    EXPECT_EQ(list.size(), 6u);
    const auto ids = ids_of(list);
    EXPECT_EQ(std::set(ids.begin(), ids.end()).size(), ids.size());
    for (size_t i = 0; i < list.size(); ++i) {
      const Hypothesis& h = list[i];
      if (i > 0 && h.ended == list[i - 1].ended) {
        EXPECT_LE(h.score, list[i - 1].score);
      }
      EXPECT_TRUE(list[i == 0 ? 0 : i - 1].ended || !h.ended);
      double sum = 0;
      for (const float x : h.token_log_probs) sum += static_cast<double>(x);
      EXPECT_DOUBLE_EQ(h.log_prob, sum);
      EXPECT_EQ(h.ended, h.ids.back() == options.eos_id);
      EXPECT_EQ(h.text_ids().size(), h.ids.size() - (h.ended ? 1 : 0));
    }
  }
}

TEST(BeamSearch, AttentionRowsAreThoseOfTheTokensOfTheHypothesis) {
  SearchOptions options = options_for_tests();
  options.beam_size = 5;
  options.n_best = 5;
  options.want_attention = true;
  ToyModel model(8, {21, 22});
  const std::vector<NBest> found = beam_search(model, options);
  for (size_t s = 0; s < 2; ++s)
    for (const Hypothesis& h : found[s]) {
      ASSERT_EQ(h.attention.shape(),
                (Shape{static_cast<int64_t>(h.ids.size()), model.src_len(static_cast<int64_t>(s))}));
      std::vector<int32_t> history = {0};
      for (size_t t = 0; t < h.ids.size(); ++t) {
        const std::vector<float> want = ToyModel::weights(21 + s, history);
        for (size_t i = 0; i < want.size(); ++i)
          EXPECT_EQ(h.attention.at({static_cast<int64_t>(t), static_cast<int64_t>(i)}),
                    static_cast<double>(want[i]));
        history.push_back(h.ids[t]);
      }
    }
}

TEST(BeamSearch, FindsMoreThanGreedySearchWhereTheFirstWordMisleads) {
  // 2 looks best at first (0.6) but is followed by chaos; 3 (0.4) by certainty.
  const auto garden_path = [](uint64_t, std::span<const int32_t> history) {
    const auto log = [](double p) { return static_cast<float>(std::log(p)); };
    if (history.size() == 1) return std::vector<float>{-50, -50, log(0.6), log(0.4), -50};
    if (history.size() == 2 && history[1] == 2)
      return std::vector<float>{-50, log(0.3), log(0.25), log(0.25), log(0.2)};
    return std::vector<float>{-50, 0, -50, -50, -50};
  };
  SearchOptions options = options_for_tests();
  ToyModel a(5, {0}, garden_path), b(5, {0}, garden_path);
  EXPECT_EQ(greedy_search(a, options)[0].ids, (std::vector<int32_t>{2, 1}));  // 0.6 * 0.3
  options.beam_size = 2;
  const Hypothesis best = beam_search(b, options)[0][0];
  EXPECT_EQ(best.ids, (std::vector<int32_t>{3, 1}));  // 0.4 * 1
  EXPECT_NEAR(best.log_prob, std::log(0.4), 1e-6);
  EXPECT_NEAR(best.score, std::log(0.4) / 2, 1e-6);
}

TEST(BeamSearch, EqualHypothesesGoToTheLowerTokenThenTheBetterParent) {
  for (const size_t words : {1, 2}) {
    const auto flat = [=](uint64_t, std::span<const int32_t> history) {
      return history.size() <= words ? std::vector<float>{0, -90, 0, 0, 0}
                                     : std::vector<float>{-90, 0, -90, -90, -90};
    };
    SearchOptions options = options_for_tests();
    options.beam_size = 3;
    options.n_best = 3;
    ToyModel model(5, {0}, flat);
    // Live after one step: 2, 3, 4. After two: token 2 behind each of them, in that order.
    using Ids = std::vector<std::vector<int32_t>>;
    EXPECT_EQ(ids_of(beam_search(model, options)[0]),
              words == 1 ? (Ids{{2, 1}, {3, 1}, {4, 1}}) : (Ids{{2, 2, 1}, {3, 2, 1}, {4, 2, 1}}));
  }
}

TEST(BeamSearch, AShortLimitStillLeavesRoomForThePrefixAndTheMinimum) {
  SearchOptions options = options_for_tests();
  options.max_length_plus = 1;
  options.prefixes = {{2, 2, 3}, {}};
  ToyModel a(5, {1, 2});
  const std::vector<NBest> found = beam_search(a, options);
  EXPECT_EQ(found[0][0].ids.size(), 4u);
  EXPECT_EQ(found[1][0].ids.size(), 1u);
  options.min_length = 2;
  ToyModel b(5, {1, 2});
  EXPECT_EQ(beam_search(b, options)[1][0].ids.size(), 3u);
}

TEST(BeamSearch, KeepsToMinimumAndMaximumLength) {
  for (const int64_t beam : {1, 3}) {
    SearchOptions options = options_for_tests();
    options.beam_size = beam;
    options.n_best = beam;
    options.min_length = 4;
    options.max_length = 7;
    options.max_length_plus = 7;
    ToyModel model(6, {1, 2, 3, 4, 5, 6});
    for (const NBest& list : beam_search(model, options))
      for (const Hypothesis& h : list) {
        EXPECT_GE(h.text_ids().size(), 4u);
        EXPECT_LE(h.ids.size(), 7u);
      }
  }
}

TEST(BeamSearch, AModelThatNeverEndsIsCutAtTheLengthThatItsSourceAllows) {
  const auto babble = [](uint64_t, std::span<const int32_t>) { return std::vector<float>{0, -1e9f, 3, 0}; };
  SearchOptions options = options_for_tests();
  options.max_length = 100;
  options.max_length_factor = 2.5;
  options.max_length_plus = 1;
  options.beam_size = 2;
  ToyModel a(4, {0, 3}, babble), b(4, {0, 3}, babble);  // sources of 3 and 6 tokens
  const std::vector<NBest> found = beam_search(a, options);
  const std::vector<Hypothesis> greedy = greedy_search(b, options);
  for (size_t s = 0; s < 2; ++s) {
    EXPECT_EQ(found[s][0].ids, std::vector<int32_t>(s == 0 ? 8 : 16, 2));
    EXPECT_FALSE(found[s][0].ended);
    EXPECT_EQ(greedy[s].ids, found[s][0].ids);
  }
}

TEST(BeamSearch, WhatEndedRanksAboveWhatWasCutOff) {
  // Repeating token 2 is nearly free; ending is possible at the first step alone, at a price.
  const auto stutter = [](uint64_t, std::span<const int32_t> history) {
    return history.size() == 1 ? std::vector<float>{-50, 0, 1} : std::vector<float>{-50, -INFINITY, 9};
  };
  SearchOptions options = options_for_tests();
  options.beam_size = 2;
  options.n_best = 2;
  ToyModel model(3, {0}, stutter);
  const NBest list = beam_search(model, options)[0];
  ASSERT_EQ(list.size(), 2u);
  EXPECT_EQ(list[0].ids, (std::vector<int32_t>{1}));
  EXPECT_EQ(list[1].ids, std::vector<int32_t>(6, 2));
  EXPECT_GT(list[1].score, list[0].score);
}

TEST(BeamSearch, PatienceDecidesHowLongABetterEndIsWaitedFor) {
  // Each step ends with probability 0.2, so ends come early; a later one is likelier a token.
  const auto fading = [](uint64_t, std::span<const int32_t> history) {
    const double end = history.size() >= 5 ? 0.999 : 0.35;
    return std::vector<float>{-50, static_cast<float>(std::log(end)), static_cast<float>(std::log(1 - end)),
                              -50};
  };
  SearchOptions options = options_for_tests();
  options.beam_size = 2;
  ToyModel hasty(4, {0}, fading);
  EXPECT_EQ(beam_search(hasty, options)[0][0].ids.size(), 2u);
  EXPECT_EQ(hasty.n_steps, 2);
  options.patience = 3;
  ToyModel patient(4, {0}, fading);
  EXPECT_EQ(beam_search(patient, options)[0][0].ids.size(), 5u);
}

TEST(BeamSearch, BeginsWithTheForcedPrefixAndCountsIt) {
  SearchOptions options = options_for_tests();
  options.max_length = 10;
  options.max_length_plus = 10;
  options.beam_size = 4;
  options.n_best = 4;
  options.banned_ids = {5};
  options.prefixes = {{5, 2, 2}, {}, {3}};  // a banned token may be forced
  ToyModel model(8, {1, 2, 3});
  const std::vector<NBest> found = beam_search(model, options);
  for (const Hypothesis& h : found[0]) {
    ASSERT_GE(h.ids.size(), 3u);
    EXPECT_EQ((std::vector<int32_t>(h.ids.begin(), h.ids.begin() + 3)), (std::vector<int32_t>{5, 2, 2}));
    EXPECT_NEAR(h.token_log_probs[1], model.log_probs(1, std::vector<int32_t>{0, 5})[2], 1e-6);
  }
  for (const Hypothesis& h : found[2]) EXPECT_EQ(h.ids[0], 3);

  options.prefixes.clear();
  ToyModel free_model(8, {1, 2, 3});
  const std::vector<NBest> unforced = beam_search(free_model, options);
  EXPECT_EQ(ids_of(found[1]), ids_of(unforced[1]));  // the neighbours' prefixes are not its business

  // Continuing a greedy sentence from its own beginning changes nothing.
  options.prefixes.clear();
  ToyModel c(8, {4}), d(8, {4});
  const Hypothesis whole = greedy_search(c, options)[0];
  options.prefixes = {{whole.ids.begin(), whole.ids.begin() + static_cast<int64_t>(whole.ids.size()) / 2}};
  expect_same(greedy_search(d, options)[0], whole);
}

TEST(BeamSearch, NeverWritesBannedTokensPadOrStart) {
  SearchOptions options = options_for_tests();
  options.beam_size = 5;
  options.n_best = 5;
  options.pad_id = 6;
  options.banned_ids = {3, 4, 3};
  ToyModel model(90, {1, 2, 3, 4, 5, 6, 7, 8, 9});
  for (const NBest& list : beam_search(model, options))
    for (const Hypothesis& h : list)
      for (const int32_t id : h.ids) EXPECT_TRUE(id != 0 && id != 3 && id != 4 && id != 6) << id;
}

TEST(BeamSearch, MayStartWithTheTokenThatEnds) {  // as fairseq's models do
  SearchOptions options = options_for_tests();
  options.start_id = options.eos_id = 1;
  ToyModel model(4, {3});
  EXPECT_TRUE(beam_search(model, options)[0][0].ended);
}

TEST(BeamSearch, NoSentencesGiveNoResults) {
  ToyModel model(4, {});
  EXPECT_TRUE(beam_search(model, options_for_tests()).empty());
  EXPECT_TRUE(greedy_search(model, options_for_tests()).empty());
}

ErrorCode code_of(const std::function<void()>& f, std::string& text) {
  try {
    f();
  } catch (const Error& e) {
    text = e.what();
    return e.code();
  }
  text = "nothing was thrown";
  return ErrorCode::kInternal;
}

TEST(BeamSearch, LogitsThatAreNotNumbersAreAnErrorThatNamesSentenceAndPosition) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
    for (const size_t place : {size_t{0}, size_t{1}, size_t{40}, size_t{129}}) {
      const auto breaks = [&](uint64_t seed, std::span<const int32_t> history) {
        std::vector<float> logits(130, 0.5f);
        logits[1] = -9;
        if (seed == 8 && history.size() == 3) logits[place] = bad;
        return logits;
      };
      ToyModel a(130, {7, 8, 9}, breaks), b(130, {7, 8, 9}, breaks);
      std::string text;
      EXPECT_EQ(code_of([&] { beam_search(a, options_for_tests()); }, text), ErrorCode::kNotFinite);
      EXPECT_NE(text.find("sentence 1 at position 2"), std::string::npos) << text;
      EXPECT_EQ(code_of([&] { greedy_search(b, options_for_tests()); }, text), ErrorCode::kNotFinite);
      EXPECT_NE(text.find("NaN"), std::string::npos) << text;
    }
}

TEST(BeamSearch, ADeadEndIsAnError) {
  SearchOptions options = options_for_tests();
  options.min_length = 2;
  options.banned_ids = {2, 3};
  ToyModel model(4, {1});
  std::string text;
  EXPECT_EQ(code_of([&] { beam_search(model, options); }, text), ErrorCode::kValue);
  EXPECT_NE(text.find("min_length 2"), std::string::npos) << text;
}

TEST(BeamSearch, OptionsOutOfRangeAreErrorsThatSayWhatIsNeeded) {
  struct Case {
    const char* says;
    ErrorCode code;
    std::function<void(SearchOptions&)> spoil;
  };
  const double nan = std::nan("");
  const std::vector<Case> cases = {
      {"start_id is -1", ErrorCode::kValue, [](auto& o) { o.start_id = -1; }},
      {"eos_id is 6", ErrorCode::kValue, [](auto& o) { o.eos_id = 6; }},
      {"pad_id is 77", ErrorCode::kValue, [](auto& o) { o.pad_id = 77; }},
      {"a banned id is 9", ErrorCode::kValue,
       [](auto& o) {
         o.banned_ids = {2, 9};
       }},
      {"among the banned", ErrorCode::kValue, [](auto& o) { o.banned_ids = {1}; }},
      {"beam_size is 0", ErrorCode::kValue, [](auto& o) { o.beam_size = 0; }},
      {"beam_size is 1001", ErrorCode::kValue, [](auto& o) { o.beam_size = 1001; }},
      {"n_best is 6", ErrorCode::kValue, [](auto& o) { o.n_best = 6; }},
      {"length_penalty is nan", ErrorCode::kValue, [=](auto& o) { o.length_penalty = nan; }},
      {"length_penalty is 1e+308, needs to be in -20 .. 20", ErrorCode::kValue,
       [](auto& o) { o.length_penalty = 1e308; }},
      {"coverage_penalty is 1e+308", ErrorCode::kValue, [](auto& o) { o.coverage_penalty = 1e308; }},
      {"coverage_penalty is -1", ErrorCode::kValue, [](auto& o) { o.coverage_penalty = -1; }},
      {"patience is 0", ErrorCode::kValue, [](auto& o) { o.patience = 0; }},
      {"patience is nan", ErrorCode::kValue, [=](auto& o) { o.patience = nan; }},
      {"max_length is 0", ErrorCode::kValue, [](auto& o) { o.max_length = 0; }},
      {"min_length is 6", ErrorCode::kValue, [](auto& o) { o.min_length = 6; }},
      {"max_length_factor is inf", ErrorCode::kValue, [](auto& o) { o.max_length_factor = INFINITY; }},
      {"2 prefixes for 1", ErrorCode::kShape,
       [](auto& o) {
         o.prefixes = {{}, {}};
       }},
      {"a prefix of 6 tokens", ErrorCode::kValue,
       [](auto& o) {
         o.prefixes = {{2, 2, 2, 2, 2, 2}};
       }},
      {"a prefix id is -2", ErrorCode::kValue, [](auto& o) { o.prefixes = {{-2}}; }},
      {"a prefix holds eos", ErrorCode::kValue,
       [](auto& o) {
         o.prefixes = {{2, 1}};
       }},
  };
  for (const Case& c : cases) {
    SearchOptions options = options_for_tests();
    c.spoil(options);
    ToyModel model(6, {1});
    std::string text;
    EXPECT_EQ(code_of([&] { beam_search(model, options); }, text), c.code) << text;
    EXPECT_NE(text.find(c.says), std::string::npos) << text;
  }
  ToyModel blind(6, {1});
  blind.has_attention = false;
  SearchOptions options = options_for_tests();
  options.coverage_penalty = 0.1;
  std::string text;
  EXPECT_EQ(code_of([&] { beam_search(blind, options); }, text), ErrorCode::kUnsupported);
}
TEST(BeamSearch, TheLargestPenaltiesGiveFiniteScores) {
  for (const double alpha : {-kMostLengthPenalty, kMostLengthPenalty}) {
    SearchOptions options = options_for_tests();
    options.length_penalty = alpha;
    options.coverage_penalty = kMostCoveragePenalty;
    ToyModel model(6, {1});
    const std::vector<NBest> found = beam_search(model, options);
    for (const Hypothesis& h : found.at(0)) EXPECT_TRUE(std::isfinite(h.score));
  }
}

}  // namespace
}  // namespace qkv::decode
