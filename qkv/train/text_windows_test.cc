#include "qkv/train/text_windows.h"

#include <gtest/gtest.h>

#include <set>

#include "qkv/base/testing.h"

namespace qkv {
namespace {

std::vector<int64_t> rows_of(const std::vector<std::vector<RowRange>>& batches) {
  std::vector<int64_t> rows;
  for (const auto& batch : batches)
    for (const RowRange& w : batch)
      for (int64_t r = w.begin; r < w.end; ++r) rows.push_back(r);
  return rows;
}

TEST(WindowPlan, AnEpochIsEveryRowOnce) {
  const WindowPlan plan(103, {.length = 10, .batch_tokens = 25});
  std::set<int64_t> firsts;
  for (int64_t epoch = 0; epoch < 30; ++epoch) {
    const auto batches = plan.epoch(epoch);
    std::vector<int64_t> rows = rows_of(batches);
    EXPECT_EQ(rows.size(), 103u);
    EXPECT_EQ(std::set(rows.begin(), rows.end()).size(), 103u);
    for (const auto& batch : batches) {
      int64_t n = 0;
      for (const RowRange& w : batch) {
        EXPECT_LE(w.size(), 10);
        n += w.size();
        if (w.size() == 10) firsts.insert(w.begin % 10);
      }
      EXPECT_LE(n, 25);
    }
  }
  EXPECT_EQ(firsts.size(), 10u);  // windows begin everywhere in the end
}

TEST(WindowPlan, AnEpochIsAFunctionOfSeedAndNumber) {
  const WindowPlan plan(500, {.length = 7, .batch_tokens = 50}), same(500, {.length = 7, .batch_tokens = 50}),
      other(500, {.length = 7, .batch_tokens = 50, .seed = 2});
  EXPECT_EQ(rows_of(plan.epoch(3)), rows_of(same.epoch(3)));
  EXPECT_NE(rows_of(plan.epoch(3)), rows_of(plan.epoch(4)));
  EXPECT_NE(rows_of(plan.epoch(3)), rows_of(other.epoch(3)));
}

TEST(WindowPlan, TextThatIsReadIsReadInOrder) {
  const auto batches = WindowPlan(9, {.length = 4, .batch_tokens = 8}).in_order();
  ASSERT_EQ(batches.size(), 2u);
  EXPECT_EQ(rows_of(batches), (std::vector<int64_t>{0, 1, 2, 3, 4, 5, 6, 7, 8}));
  EXPECT_EQ(batches[1].size(), 1u);
}

TEST(WindowPlan, SaysWhatItCannotCut) {
  EXPECT_ERROR(kValue, "context is 0", WindowPlan(9, {.length = 0}));
  EXPECT_ERROR(kFormat, "too short", WindowPlan(0, {}));
}

TEST(Parts, EndWhereDocumentsDo) {
  const TokenStream stream{.ids = std::vector<int32_t>(20), .begins = {0, 3, 4, 12}};
  const auto parts = [&](int64_t begin, int64_t end) {
    std::vector<std::pair<int64_t, int64_t>> out;
    for (const RowRange& p : parts_of(stream, {begin, end})) out.emplace_back(p.begin, p.end);
    return out;
  };
  EXPECT_EQ(parts(0, 6), (std::vector<std::pair<int64_t, int64_t>>{{0, 3}, {3, 4}, {4, 6}}));
  EXPECT_EQ(parts(5, 12), (std::vector<std::pair<int64_t, int64_t>>{{5, 12}}));
  EXPECT_EQ(parts(12, 20), (std::vector<std::pair<int64_t, int64_t>>{{12, 20}}));
}

}  // namespace
}  // namespace qkv
