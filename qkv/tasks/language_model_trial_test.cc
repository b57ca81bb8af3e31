#include "qkv/tasks/language_model_trial.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <set>

#include "qkv/base/testing.h"

namespace qkv {
namespace {

Gpt2Config tiny() {
  return {.max_len = 64, .d_model = 16, .n_layers = 1, .n_heads = 2, .d_ff = 32, .dropout = 0};
}

TEST(RepeatingText, IsTheSameForTheSameNumbersAlone) {
  const auto text = repeating_text(64);
  EXPECT_EQ(text->training(100, 1, 7), repeating_text(64)->training(100, 1, 7));
  EXPECT_NE(text->training(100, 1, 7), text->training(100, 1, 8));
  EXPECT_NE(text->training(100, 1, 7), text->training(100, 2, 7));
  EXPECT_NE(text->training(100, 2017, 7), text->held_out(100, 7));
  const std::vector<int32_t> x = text->training(1000, 1, 0);
  EXPECT_EQ(x.size(), 1000u);
  EXPECT_GE(*std::min_element(x.begin(), x.end()), 0);
  EXPECT_LT(*std::max_element(x.begin(), x.end()), text->vocab_size());
}

using Table = std::map<std::pair<int32_t, int32_t>, std::set<int32_t>>;

// What follows each pair in texts too short for runs.
Table table_of(const LabText& text) {
  Table seen;
  for (uint32_t n = 0; n < 3000; ++n) {
    const std::vector<int32_t> x = text.training(16, 1, n);
    for (size_t i = 2; i < x.size(); ++i) seen[{x[i - 2], x[i - 1]}].insert(x[i]);
  }
  return seen;
}

TEST(RepeatingText, HasTwoSuccessorsOfEachPairWhereNothingIsRepeated) {
  const Table table = table_of(*repeating_text(64));
  EXPECT_EQ(table.size(), 64u);
  for (const auto& [pair, successors] : table)
    EXPECT_EQ(successors.size(), 2u) << pair.first << " " << pair.second;
}

// The part of the tokens within eight that stood before, between `near` and `far` back.
double repeated(const std::vector<int32_t>& x, size_t near, size_t far) {
  constexpr size_t kRun = 8;
  std::vector<bool> in_run(x.size());
  for (size_t i = far; i + kRun <= x.size(); ++i)
    for (size_t back = near; back <= far; ++back)
      if (std::equal(&x[i], &x[i] + kRun, &x[i - back]))
        std::fill_n(in_run.begin() + static_cast<int64_t>(i), kRun, true);
  return static_cast<double>(std::count(in_run.begin(), in_run.end(), true)) / static_cast<double>(x.size());
}

// Half of the tokens are in runs of 5 to 16, 0.43 of them in runs of 8 and more. They come from 16 to 32
// back, not from elsewhere (where chance and copies of copies make some).
TEST(RepeatingText, RepeatsHalfOfItselfFromTheDistancesItPromises) {
  const auto text = repeating_text(64);
  const std::vector<int32_t> x = text->training(20000, 1, 0);
  EXPECT_NEAR(repeated(x, 16, 32), 0.5, 0.05);
  EXPECT_LT(repeated(x, 6, 15), 0.1);
  EXPECT_LT(repeated(x, 101, 117), 0.2);
  EXPECT_NEAR(text->least_loss(), 0.347, 0.001);
}

TEST(FileText, HoldsOutItsLastTenth) {
  const std::string path = ::testing::TempDir() + "/lab_text.txt";
  {
    std::ofstream file(path);
    for (int i = 0; i < 2000; ++i) file << (i < 1800 ? 'a' : 'b');
  }
  const auto text = text_of_file(path);
  for (uint32_t n = 0; n < 50; ++n) EXPECT_EQ(text->training(3, 1, n), (std::vector<int32_t>{'a', 'a', 'a'}));
  EXPECT_EQ(text->held_out(100, 1), std::vector<int32_t>(100, 'b'));
  EXPECT_TRUE(text->held_out(100, 2).empty());
  EXPECT_TRUE(std::isnan(text->least_loss()));
  EXPECT_ERROR(kValue, "needs 1801 for one window", text->training(1801, 1, 0));
  std::ofstream(path) << "short";
  EXPECT_ERROR(kFormat, "5 bytes are too few", text_of_file(path));
  EXPECT_ERROR(kIo, "nowhere", text_of_file("/nowhere"));
}

TEST(LanguageModelTrial, LearnsAndRepeatsToTheBit) {
  const std::string path = ::testing::TempDir() + "/lab_text_abc.txt";
  {
    std::ofstream file(path);
    for (int i = 0; i < 1000; ++i) file << "abc";
  }
  const auto text = text_of_file(path);
  const TrialOptions options{.length = 16, .batch = 4, .steps = 30, .peak_rate = 1e-2};
  LanguageModelTrial a(tiny(), *text, options), b(tiny(), *text, options);
  double first = 0, last = 0;
  for (int i = 0; i < 30; ++i) {
    last = a.step();
    EXPECT_EQ(last, b.step());
    if (i == 0) first = last;
  }
  EXPECT_NEAR(first, std::log(256), 0.1);
  EXPECT_LT(last, 2);
  EXPECT_LT(a.held_out_loss(16, 200), 2);
  EXPECT_EQ(a.held_out_loss(32, 200), b.held_out_loss(32, 200));
}

// 600 windows of 16 take two passes: the same as the windows one by one.
TEST(LanguageModelTrial, ReadsTheSecondHalfOfEachHeldOutWindow) {
  const auto text = repeating_text(16);
  const LanguageModelTrial trial(tiny(), *text, {.length = 16, .batch = 2, .steps = 5});
  const double loss = trial.held_out_loss(16, 600 * 16);
  EXPECT_NEAR(loss, std::log(8), 0.1);
  EXPECT_TRUE(std::isfinite(trial.held_out_loss(1, 10)));
  EXPECT_NEAR(trial.held_out_loss(16, 1), trial.held_out_loss(16, 31), 0);  // one window each
}

TEST(LanguageModelTrial, SaysWhatIsWrong) {
  const auto text = repeating_text(16);
  EXPECT_ERROR(kValue, "steps (0)", LanguageModelTrial(tiny(), *text, {.steps = 0}));
  EXPECT_ERROR(kValue, "needs 8 or more", repeating_text(7));
  const auto explode = [&] {
    LanguageModelTrial trial(tiny(), *text, {.length = 16, .batch = 2, .steps = 20, .peak_rate = 1e30});
    for (int i = 0; i < 20; ++i) trial.step();
  };
  EXPECT_ERROR(kNotFinite, "try a lower rate", explode());
}

}  // namespace
}  // namespace qkv
