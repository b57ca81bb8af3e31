#include "qkv/attention/kv_cache.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <type_traits>

#include "qkv/autograd/gradcheck.h"
#include "qkv/base/testing.h"
#include "qkv/kernels/table.h"

namespace qkv {
namespace {

using Values = std::vector<double>;

// What a cache holds of one sequence, read through its span as attention reads it.
struct Held {
  Values k, v;
  bool operator==(const Held&) const = default;
};
std::vector<Held> held(const KvCache& cache, int64_t k_width, int64_t v_width) {
  std::vector<Held> out;
  kernels::visit_dtype(cache.dtype(), [&]<class T>(T) {
    for (const KeyValueSpan& span : cache.spans()) {
      Held& h = out.emplace_back();
      for (int64_t j = 0; j < span.kv_len; ++j) {
        const T* k = static_cast<const T*>(span.k) + j * span.k_row_stride;
        const T* v = static_cast<const T*>(span.v) + j * span.v_row_stride;
        for (int64_t d = 0; d < k_width; ++d) h.k.push_back(static_cast<double>(k[d]));
        for (int64_t d = 0; d < v_width; ++d) h.v.push_back(static_cast<double>(v[d]));
      }
    }
  });
  return out;
}

// Rows whose values say which they are: 10 * row + column, keys positive and values negative.
Tensor numbered(int64_t first, int64_t rows, int64_t width, double sign, DType dtype = DType::kF32) {
  Values values;
  for (int64_t r = first; r < first + rows; ++r)
    for (int64_t d = 0; d < width; ++d) values.push_back(sign * static_cast<double>(10 * r + d));
  return Tensor::from({rows, width}, values, dtype);
}

TEST(KvCache, KeepsTheRowsOfEachSequence) {
  for (DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
    KvCache cache(3, 2, 1, dtype);
    EXPECT_EQ(cache.size(), 3);
    EXPECT_EQ(cache.spans()[0].kv_len, 0);
    cache.append(Segments({1, 0, 2}), numbered(0, 3, 2, 1, dtype), numbered(0, 3, 1, -1, dtype));
    cache.append(Segments({1, 1, 0}), numbered(5, 2, 2, 1, dtype), numbered(5, 2, 1, -1, dtype));
    EXPECT_EQ(
        held(cache, 2, 1),
        (std::vector<Held>{{{0, 1, 50, 51}, {0, -50}}, {{60, 61}, {-60}}, {{10, 11, 20, 21}, {-10, -20}}}));
    EXPECT_EQ(cache.length(0), 2);
    EXPECT_EQ(cache.length(1), 1);
    EXPECT_EQ(cache.length(2), 2);
  }
}

TEST(KvCache, TakesColumnsOfAWiderProjection) {
  const Tensor fused = numbered(0, 2, 5, 1);
  KvCache cache(1, 2, 3, DType::kF32);
  cache.append(Segments({2}), fused.columns(0, 2), fused.columns(2, 5));
  EXPECT_EQ(held(cache, 2, 3), (std::vector<Held>{{{0, 1, 10, 11}, {2, 3, 4, 12, 13, 14}}}));
}

// Across the first block's 32 rows and the doublings after it; and a prompt longer than a doubling.
TEST(KvCache, GrowsWithoutLosingARow) {
  for (int64_t prompt : {0, 31, 32, 33, 200}) {
    KvCache cache(1, 3, 2, DType::kF32);
    cache.append(Segments({prompt}), numbered(0, prompt, 3, 1), numbered(0, prompt, 2, -1));
    for (int64_t i = prompt; i < prompt + 150; ++i)
      cache.append(Segments({1}), numbered(i, 1, 3, 1), numbered(i, 1, 2, -1));
    EXPECT_EQ(held(cache, 3, 2), (std::vector<Held>{{numbered(0, prompt + 150, 3, 1).values(),
                                                     numbered(0, prompt + 150, 2, -1).values()}}));
  }
}

// A beam search keeps three continuations of one hypothesis and lets the others go.
TEST(KvCache, ChildrenOfOneParentGoTheirOwnWays) {
  KvCache cache(3, 1, 1, DType::kF32);
  cache.append(Segments({1, 1, 1}), numbered(0, 3, 1, 1), numbered(0, 3, 1, -1));
  const int32_t parents[] = {1, 1, 2, 1};
  cache.select(parents);
  cache.append(Segments({1, 1, 1, 1}), numbered(5, 4, 1, 1), numbered(5, 4, 1, -1));
  EXPECT_EQ(
      held(cache, 1, 1),
      (std::vector<Held>{
          {{10, 50}, {-10, -50}}, {{10, 60}, {-10, -60}}, {{20, 70}, {-20, -70}}, {{10, 80}, {-10, -80}}}));
  cache.select({});
  EXPECT_EQ(cache.size(), 0);
}

TEST(KvCache, CopiesABlockOnlyForASecondChild) {
  KvCache cache(2, 1, 1, DType::kF32);
  cache.append(Segments({1, 1}), numbered(0, 2, 1, 1), numbered(0, 2, 1, -1));
  const void* first = cache.spans()[0].k;
  const void* second = cache.spans()[1].k;
  const int32_t swapped[] = {1, 0};
  cache.select(swapped);
  EXPECT_EQ(cache.spans()[0].k, second);
  EXPECT_EQ(cache.spans()[1].k, first);
  const int32_t twice[] = {0, 0};
  cache.select(twice);
  EXPECT_EQ(cache.spans()[0].k, second);
  EXPECT_NE(cache.spans()[1].k, second);
}

// Two copies would write their next rows to the same place.
static_assert(!std::is_copy_constructible_v<KvCache> && std::is_move_constructible_v<KvCache>);

// Any order of appends and selections leaves what plain lists of rows would hold.
RC_GTEST_PROP(KvCache, IsAListOfRowsForEachSequence, ()) {
  const auto k_width = *rc::gen::inRange<int64_t>(0, 4), v_width = *rc::gen::inRange<int64_t>(1, 4);
  KvCache cache(*rc::gen::inRange<int64_t>(0, 4), k_width, v_width, DType::kF32);
  std::vector<Held> model(static_cast<size_t>(cache.size()));
  int64_t number = 0;
  for (auto steps = *rc::gen::inRange(0, 12); steps > 0; --steps) {
    if (*rc::gen::arbitrary<bool>() && cache.size() > 0) {
      const auto parents = *rc::gen::container<std::vector<int32_t>>(
          rc::gen::inRange<int32_t>(0, static_cast<int32_t>(cache.size())));
      cache.select(parents);
      std::vector<Held> next;
      for (int32_t p : parents) next.push_back(model[static_cast<size_t>(p)]);
      model = next;
    } else {
      const Segments rows(
          *rc::gen::container<std::vector<int64_t>>(model.size(), rc::gen::inRange<int64_t>(0, 40)));
      const Tensor k = numbered(number, rows.n_tokens(), k_width, 1),
                   v = numbered(number, rows.n_tokens(), v_width, -1);
      number += rows.n_tokens();
      cache.append(rows, k, v);
      for (int64_t s = 0; s < rows.size(); ++s) {
        const int64_t begin = rows.begin(s), end = begin + rows.length(s);
        for (double x : k.rows(begin, end).values()) model[static_cast<size_t>(s)].k.push_back(x);
        for (double x : v.rows(begin, end).values()) model[static_cast<size_t>(s)].v.push_back(x);
      }
    }
    RC_ASSERT(held(cache, k_width, v_width) == model);
  }
}

TEST(KvCache, RefusesWhatDoesNotFit) {
  KvCache cache(2, 3, 2, DType::kF32);
  const auto f32 = [](int64_t rows, int64_t width) { return Tensor::zeros({rows, width}, DType::kF32); };
  EXPECT_ERROR(kShape, "2 sequences, rows for 1", cache.append(Segments({4}), f32(4, 3), f32(4, 2)));
  EXPECT_ERROR(kShape, "keys [4, 2] and values [4, 2] do not fit [4, 3] and [4, 2]",
               cache.append(Segments({3, 1}), f32(4, 2), f32(4, 2)));
  EXPECT_ERROR(kShape, "values [3, 2]", cache.append(Segments({3, 1}), f32(4, 3), f32(3, 2)));
  EXPECT_ERROR(kDtype, "holds f32, got keys of bf16 and values of f32",
               cache.append(Segments({3, 1}), f32(4, 3).to(DType::kBF16), f32(4, 2)));
  EXPECT_ERROR(kShape, "keys [] and values [4, 2] need to be matrices",
               cache.append(Segments({3, 1}), Tensor(), f32(4, 2)));
  const int32_t beyond[] = {0, 2}, negative[] = {-1};
  EXPECT_ERROR(kValue, "parent 2 of 2 sequences", cache.select(beyond));
  EXPECT_ERROR(kValue, "parent -1", cache.select(negative));
  EXPECT_EQ(cache.size(), 2) << "a refused call changes nothing";
  EXPECT_EQ(cache.length(0), 0);
}

}  // namespace
}  // namespace qkv
