#include "qkv/decode/top_k.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "qkv/base/philox.h"

namespace qkv::decode {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

std::vector<RowScan::Entry> top(std::vector<float> row, int64_t k, std::vector<int32_t> removed = {}) {
  RowScan scan(static_cast<int64_t>(row.size()));
  scan.begin(row.data());
  for (const int32_t id : removed) scan.remove(id);
  std::vector<RowScan::Entry> out(static_cast<size_t>(k));
  out.resize(static_cast<size_t>(scan.top(k, out.data())));
  return out;
}

// Sorting everything says what the answer is.
std::vector<RowScan::Entry> sorted_top(const std::vector<float>& row, int64_t k) {
  std::vector<RowScan::Entry> all;
  for (size_t i = 0; i < row.size(); ++i)
    if (row[i] > -kInf) all.push_back({static_cast<int32_t>(i), row[i]});
  std::stable_sort(all.begin(), all.end(), [](auto& a, auto& b) { return a.value > b.value; });
  all.resize(std::min(all.size(), static_cast<size_t>(k)));
  return all;
}

void expect_equal(const std::vector<RowScan::Entry>& got, const std::vector<RowScan::Entry>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i].id, want[i].id) << i;
    EXPECT_EQ(got[i].value, want[i].value) << i;
  }
}

TEST(RowScan, FindsWhatSortingFindsAtEverySizeAndWidth) {
  RandomStream random({.seed = 3});
  for (const int64_t n : {1, 2, 5, 15, 16, 17, 63, 64, 65, 127, 128, 129, 1000, 4099}) {
    for (const int levels : {3, 40, 1000000}) {  // few levels: many equal values
      std::vector<float> row(static_cast<size_t>(n));
      for (float& x : row)
        x = std::floor(static_cast<float>(random.normal()) * static_cast<float>(levels) / 4.0f);
      for (const int64_t k : {1, 2, 5, 10, 64, 200}) expect_equal(top(row, k), sorted_top(row, k));
    }
  }
}

TEST(RowScan, EqualValuesGoToTheLowestIds) {
  expect_equal(top(std::vector<float>(300, 1.5f), 3), {{0, 1.5f}, {1, 1.5f}, {2, 1.5f}});
}

TEST(RowScan, WhatIsRemovedIsNotFoundEvenIfItWasTheLargestOfItsBlock) {
  std::vector<float> row(200);
  for (size_t i = 0; i < row.size(); ++i) row[i] = static_cast<float>(i % 100);
  expect_equal(top(row, 3, {99, 199, 98}), {{198, 98.0f}, {97, 97.0f}, {197, 97.0f}});
}

TEST(RowScan, ImpossibleEntriesAreNeverFound) {
  EXPECT_EQ(top({-kInf, 2.0f, -kInf}, 3).size(), 1u);
  EXPECT_TRUE(top(std::vector<float>(100, -kInf), 3).empty());
}

TEST(RowScan, TheLargestIsTheFirstOfEquals) {
  std::vector<float> row(150, 0.0f);
  row[70] = row[71] = row[149] = 2.0f;
  RowScan scan(150);
  scan.begin(row.data());
  EXPECT_EQ(scan.argmax(), 70);
  scan.remove(70);
  EXPECT_EQ(scan.argmax(), 71);
}

}  // namespace
}  // namespace qkv::decode
