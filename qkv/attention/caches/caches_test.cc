// What all caches have in common, and what each has of its own.

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "qkv/attention/kv_cache.h"
#include "qkv/attention/test_cases.h"
#include "qkv/base/parallel.h"
#include "qkv/base/testing.h"

namespace qkv {
namespace {

using namespace test;

constexpr HeadSizes kHeads{.n_heads = 4, .n_kv_heads = 2, .d_k = 8, .d_v = 6};

CacheShape shape_of(DType dtype) { return {.n_kv_heads = 2, .width = 8, .d_v = 6, .dtype = dtype}; }
Tensor keys(int64_t n, uint64_t seed, DType dtype) { return random_tensor({n, 16}, seed, dtype); }
Tensor values(int64_t n, uint64_t seed, DType dtype) { return random_tensor({n, 12}, 1000 + seed, dtype); }

void append(KvCache& cache, const std::vector<int64_t>& rows, uint64_t seed) {
  const Segments segments(rows);
  cache.append(segments, keys(segments.n_tokens(), seed, cache.dtype()),
               values(segments.n_tokens(), seed, cache.dtype()));
}

// One query a sequence, at its end.
Tensor attend(const KvCache& cache, const std::vector<RulePtr>& rules, AttentionPath path,
              const kernels::Table* table = nullptr) {
  std::vector<int64_t> past;
  for (int64_t s = 0; s < cache.size(); ++s) past.push_back(std::max<int64_t>(0, cache.length(s) - 1));
  const Segments queries(std::vector<int64_t>(past.size(), 1), past);
  return attention_cached(random_tensor({cache.size(), 32}, 9, cache.dtype()), queries, cache.spans(),
                          cache.dtype(), {.heads = kHeads, .rules = rules, .path = path, .kernels = table});
}

// The values that a cache holds of each sequence, in the model's dtype, read one by one through its spans.
std::vector<std::vector<double>> held(const KvCache& cache) {
  std::vector<std::vector<double>> all;
  const CacheShape shape = shape_of(cache.dtype());
  for (const KeyValueSpan& span : cache.spans()) {
    std::vector<double>& one = all.emplace_back();
    for (int64_t j = 0; j < span.kv_len; ++j)
      for (int64_t side = 0; side < 2; ++side) {
        const void* const* pages = side ? span.v_pages : span.k_pages;
        const auto* base = static_cast<const float*>(pages ? pages[j / kPageRows] : side ? span.v : span.k);
        const float* row = base + (pages ? j % kPageRows : j) * span.k_row_stride;
        one.insert(one.end(), row, row + (side ? shape.v_width() : shape.k_width()));
      }
  }
  return all;
}

KvCacheOptions paged(std::shared_ptr<PagePool> pool = nullptr) {
  return {.layout = CacheLayout::kPaged, .pool = std::move(pool)};
}
KvCacheOptions sliding(int64_t n_sink, int64_t window) {
  return {.layout = CacheLayout::kSliding, .n_sink = n_sink, .window = window};
}
std::shared_ptr<PagePool> pool_of(int64_t max_pages = 0) {
  return std::make_shared<PagePool>(kPageRows * (16 + 12) * 4, max_pages);
}

TEST(Caches, AllLayoutsGiveAttentionTheSameBits) {
  for (DType dtype : {DType::kF64, DType::kF32, DType::kBF16})
    for (Stored stored : {Stored::kPlain, Stored::kBF16, Stored::kInt8}) {
      if (stored == Stored::kBF16 && dtype == DType::kBF16) continue;
      KvCacheOptions options[] = {{}, paged(), sliding(2, 400)};
      std::vector<KvCache> caches;
      for (KvCacheOptions& o : options) {
        o.stored = stored;
        KvCache& cache = caches.emplace_back(3, shape_of(dtype), o);
        append(cache, {70, 0, 130}, 1);
        for (uint64_t t = 0; t < 5; ++t) append(cache, {1, 0, 20}, 2 + t);
      }
      for (AttentionPath path : {AttentionPath::kReference, AttentionPath::kBlocked, AttentionPath::kDecode})
        for (const kernels::Table* table : tables()) {
          const Tensor contiguous = attend(caches[0], {sliding_window(100)}, path, table);
          for (size_t i = 1; i < caches.size(); ++i)
            expect_equal_bits(attend(caches[i], {sliding_window(100)}, path, table), contiguous,
                              std::string(name(dtype)));
        }
    }
}

// Each number is off by at most half a step of its row and head: max|x| / 254; values by so much and weights
// by what keys' errors do to scores.
TEST(Caches, Int8IsOffByHalfAStep) {
  const Tensor k = keys(100, 1, DType::kF32), v = values(100, 1, DType::kF32);
  KvCache cache(1, shape_of(DType::kF32), {.stored = Stored::kInt8});
  cache.append(Segments({100}), k, v);
  const KeyValueSpan span = cache.spans()[0];
  for (int64_t j = 0; j < 100; ++j)
    for (int64_t h = 0; h < 2; ++h) {
      const auto* row = static_cast<const int8_t*>(span.k) + j * span.k_row_stride;
      float scale = 0;
      std::memcpy(&scale, row + span.k_scales + 4 * h, 4);
      double most = 0;
      for (int64_t d = 0; d < 8; ++d) most = std::max(most, std::abs(k.at({j, h * 8 + d})));
      for (int64_t d = 0; d < 8; ++d)
        EXPECT_LE(std::abs(scale * static_cast<double>(row[h * 8 + d]) - k.at({j, h * 8 + d})),
                  most / 254 * 1.000001);
    }
  // Equal keys weigh all values alike: the output is off by no more than they are.
  KvCache flat(1, shape_of(DType::kF32), {.stored = Stored::kInt8});
  flat.append(Segments({100}), Tensor::full({100, 16}, DType::kF32, 1), v);
  KvCache exact(1, shape_of(DType::kF32));
  exact.append(Segments({100}), Tensor::full({100, 16}, DType::kF32, 1), v);
  double most = 0;
  for (double x : v.values()) most = std::max(most, std::abs(x));
  EXPECT_LE(max_difference(attend(flat, {}, AttentionPath::kAuto), attend(exact, {}, AttentionPath::kAuto)),
            most / 254);
}

TEST(Caches, Bf16IsOffByTheRoundingOfItsNumbers) {
  KvCache rounded(1, shape_of(DType::kF32), {.stored = Stored::kBF16}), exact(1, shape_of(DType::kF32));
  const Tensor k = keys(100, 1, DType::kF32), v = values(100, 1, DType::kF32);
  rounded.append(Segments({100}), k, v);
  exact.append(Segments({100}), k.to(DType::kBF16).to(DType::kF32), v.to(DType::kBF16).to(DType::kF32));
  expect_equal_bits(attend(rounded, {}, AttentionPath::kAuto), attend(exact, {}, AttentionPath::kAuto),
                    "bf16");
}

TEST(Caches, ANanInARowOfInt8StaysInItsHead) {
  const Tensor k = keys(3, 1, DType::kF32), v = values(3, 1, DType::kF32);
  k.slice(0, 1, 2).columns(0, 1).fill(std::nan(""));
  KvCache cache(1, shape_of(DType::kF32), {.stored = Stored::kInt8});
  cache.append(Segments({3}), k, v);
  const std::vector<double> out = attend(cache, {}, AttentionPath::kAuto).values();
  for (size_t i = 0; i < 24; ++i)
    EXPECT_EQ(std::isnan(out[i]), i < 12) << i;  // the heads of key/value head 0
}

// Enough bytes that threads share them.
TEST(Caches, ThreadsCopyAndAppendWhatOneDoes) {
  const int before = threads();
  const CacheShape wide{.n_kv_heads = 2, .width = 128, .d_v = 64, .dtype = DType::kF32};
  const std::vector<int32_t> parents = {2, 0, 0, 1, 0, 2, 2, 5};
  for (const KvCacheOptions& o : {KvCacheOptions{}, paged(), sliding(2, 50)}) {
    std::vector<std::vector<CacheTensor>> saved;
    for (const int count : {1, 4}) {
      set_threads(count);
      KvCache cache(8, wide, o);
      for (const int64_t n : {40, 1}) {
        const Segments rows(std::vector<int64_t>(8, n));
        cache.append(rows, random_tensor({8 * n, 3 * 256}, n, DType::kF32).columns(256, 512),
                     random_tensor({8 * n, 128}, n + 1, DType::kF32));
        cache.select(parents);
      }
      saved.push_back(cache.save());
    }
    for (size_t i = 0; i < saved[0].size(); ++i) EXPECT_EQ(saved[0][i].data, saved[1][i].data);
  }
  set_threads(before);
}

TEST(PagedCache, ForksShareTheirPrompt) {
  const auto pool = pool_of();
  KvCache cache(1, shape_of(DType::kF32), paged(pool));
  append(cache, {130}, 1);
  EXPECT_EQ(pool->in_use(), 3);
  const int32_t four[] = {0, 0, 0, 0};
  cache.select(four);
  EXPECT_EQ(pool->in_use(), 3) << "a fork costs no page";
  append(cache, {1, 1, 1, 0}, 2);
  EXPECT_EQ(pool->in_use(), 6)
      << "three wrote to the half-full page: a copy each, and the fourth keeps the first";
  EXPECT_EQ(cache.spans()[0].k_pages[1], cache.spans()[2].k_pages[1]);
  const int32_t last[] = {3};
  cache.select(last);
  EXPECT_EQ(pool->in_use(), 3);
  cache.truncate(0, 64);
  EXPECT_EQ(pool->in_use(), 1);
  cache.select({});
  EXPECT_EQ(pool->in_use(), 0);
}

TEST(PagedCache, TwoCachesMayShareAPoolAndItsLimit) {
  const auto pool = pool_of(3);
  KvCache a(1, shape_of(DType::kF32), paged(pool)), b(2, shape_of(DType::kF32), paged(pool));
  append(a, {70}, 1);
  EXPECT_ERROR(kValue, "all 3 pages are in use; let a sequence go", append(b, {1, 1}, 2));
  EXPECT_EQ(pool->in_use(), 2) << "what the refused call took is given back";
  EXPECT_EQ(b.length(0), 0);
  a.select({});
  append(b, {1, 1}, 2);
  EXPECT_EQ(pool->in_use(), 2);
}

TEST(PagedCache, RestoresIntoItsOwnPages) {
  const auto pool = pool_of(4);
  KvCache cache(1, shape_of(DType::kF32), paged(pool)), want(1, shape_of(DType::kF32));
  append(cache, {130}, 1);
  append(want, {130}, 1);
  const std::vector<CacheTensor> saved = cache.save();
  append(cache, {1}, 2);
  cache.restore(saved);
  EXPECT_EQ(held(cache), held(want));
  EXPECT_EQ(pool->in_use(), 3);
  const int32_t twice[] = {0, 0};
  cache.select(twice);
  EXPECT_ERROR(kValue, "all 4 pages are in use", cache.restore(cache.save()));  // forks come apart: 6
  EXPECT_EQ(cache.size(), 2) << "a refused call changes nothing";
  EXPECT_EQ(pool->in_use(), 3);
  cache.restore(saved);
  EXPECT_EQ(held(cache), held(want));
}

TEST(SlidingCache, RestoresWhatItHeldBeforeItLetRowsGo) {
  KvCache cache(1, shape_of(DType::kF32), sliding(2, 8)), want(1, shape_of(DType::kF32));
  append(cache, {8}, 1);
  append(want, {8}, 1);
  const std::vector<CacheTensor> saved = cache.save();
  append(cache, {7}, 2);
  append(want, {3}, 2);
  EXPECT_ERROR(kFormat, "sequence 0 has 11 rows, more than the 10 that this sliding cache keeps",
               cache.restore(want.save()));
  want.truncate(0, 8);
  cache.restore(saved);
  EXPECT_EQ(held(cache), held(want));
}

TEST(SlidingCache, KeepsTheFirstAndTheLastInConstantMemory) {
  const int64_t n = 100, n_sink = 3, window = 10;
  const Tensor k = keys(n, 1, DType::kF32), v = values(n, 1, DType::kF32);
  KvCache cache(1, shape_of(DType::kF32), sliding(n_sink, window));
  int64_t bytes = 0;
  for (int64_t t = 0; t < n; ++t) {
    cache.append(Segments({1}), k.rows(t, t + 1), v.rows(t, t + 1));
    if (t == 0) bytes = cache.bytes();
    EXPECT_EQ(cache.bytes(), bytes);
    KvCache want(1, shape_of(DType::kF32));
    for (int64_t i = 0; i <= t; ++i)
      if (i < n_sink || i > t - window) want.append(Segments({1}), k.rows(i, i + 1), v.rows(i, i + 1));
    ASSERT_EQ(held(cache), held(want)) << t;
  }
}

// Keys turned by their true positions, a query at its own: scores are those of positions within the cache.
TEST(SlidingCache, TurnsTheSinksOnWithTheWindow) {
  const int64_t n = 40, n_sink = 2, window = 6;
  const auto rope = std::make_shared<Rope>(8, RopeOptions{});
  const Tensor k = keys(n, 1, DType::kF64), v = values(n, 1, DType::kF64);
  const Tensor q = random_tensor({1, 32}, 9, DType::kF64);
  KvCacheOptions options = sliding(n_sink, window);
  options.rope = rope;
  KvCache cache(1, shape_of(DType::kF64), options);
  for (int64_t t = 0; t < n; ++t)
    cache.append(Segments({1}), (*rope)(Var(k.rows(t, t + 1)), Segments({1}, {t}), 2).value(),
                 v.rows(t, t + 1));
  const AttentionOptions attention{.heads = kHeads};
  const Tensor got = attention_cached((*rope)(Var(q), Segments({1}, {n - 1}), 4).value(), Segments({1}),
                                      cache.spans(), DType::kF64, attention);
  KvCache within(1, shape_of(DType::kF64));
  for (int64_t j = 0; j < n_sink + window; ++j) {
    const int64_t t = j < n_sink ? j : n - window + j - n_sink;
    within.append(Segments({1}), (*rope)(Var(k.rows(t, t + 1)), Segments({1}, {j}), 2).value(),
                  v.rows(t, t + 1));
  }
  const Tensor want = attention_cached((*rope)(Var(q), Segments({1}, {n_sink + window - 1}), 4).value(),
                                       Segments({1}), within.spans(), DType::kF64, attention);
  EXPECT_LE(max_difference(got, want), 1e-12);
}

TEST(SlidingCache, SaysWhatItCannotDo) {
  EXPECT_ERROR(kValue, "needs a positive window and no negative n_sink, got 0 and 4",
               KvCache(1, shape_of(DType::kF32), sliding(4, 0)));
  for (const auto& [n_sink, window] : {std::pair{int64_t{4}, INT64_MAX}, {INT64_MAX, int64_t{8}}})
    EXPECT_ERROR(kValue, "needs a window and n_sink below 2^31",
                 KvCache(1, shape_of(DType::kF32), sliding(n_sink, window)));
  KvCache cache(1, shape_of(DType::kF32), sliding(2, 8));
  EXPECT_ERROR(kValue, "a sliding cache of window 8 takes at most so many rows at once, got 9",
               append(cache, {9}, 1));
  append(cache, {8}, 1);
  append(cache, {3}, 1);
  EXPECT_ERROR(kValue, "keeps its 2 sinks; it cannot be cut to 1 rows", cache.truncate(0, 1));
  EXPECT_ERROR(kUnsupported, "let rows go cannot be saved", (void)cache.save());
  cache.truncate(0, 5);
  EXPECT_EQ(cache.length(0), 5);
}

TEST(Caches, RefuseWhatMakesNoSense) {
  EXPECT_ERROR(kUnsupported, "stored as bf16 already",
               KvCache(1, shape_of(DType::kBF16), {.stored = Stored::kBF16}));
  EXPECT_ERROR(kValue, "pages have 64 bytes, 64 rows of this cache need 7168",
               KvCache(1, shape_of(DType::kF32), paged(std::make_shared<PagePool>(64))));
  EXPECT_ERROR(kValue, "pages of 0 bytes", PagePool(0));
  EXPECT_ERROR(kValue, "-1 sequences", KvCache(-1, shape_of(DType::kF32)));
  EXPECT_ERROR(kValue, "n_sink is for a sliding cache; this one is contiguous",
               KvCache(1, shape_of(DType::kF32), {.n_sink = 4}));
  EXPECT_ERROR(kValue, "window is for a sliding cache; this one is paged",
               KvCache(1, shape_of(DType::kF32), {.layout = CacheLayout::kPaged, .window = 64}));
  EXPECT_ERROR(kValue, "rope is for a sliding cache; this one is contiguous",
               KvCache(1, shape_of(DType::kF32), {.rope = std::make_shared<const Rope>(8, RopeOptions{})}));
  KvCacheOptions both = sliding(2, 8);
  both.pool = pool_of();
  EXPECT_ERROR(kValue, "pool is for a paged cache; this one is sliding",
               KvCache(1, shape_of(DType::kF32), both));
  KvCache cache(1, shape_of(DType::kF32));
  append(cache, {3}, 1);
  EXPECT_ERROR(kValue, "sequence 0 has 3 rows, cannot be cut to 4", cache.truncate(0, 4));
  EXPECT_ERROR(kValue, "sequence 1 of 1", cache.truncate(1, 0));
  EXPECT_ERROR(kValue, "sequence -1 of 1", (void)cache.length(-1));
  EXPECT_ERROR(kValue, "sequence 0 of 0", (void)KvCache().length(0));
}

TEST(Caches, RefuseWhatNoMachineHolds) {
  EXPECT_ERROR(kValue, "needs 0 to 1048576", KvCache(int64_t{1} << 40, shape_of(DType::kF32)));
  constexpr int64_t kFar = int64_t{1} << 62;
  for (const CacheShape& shape :
       {CacheShape{.n_kv_heads = kFar, .width = 4, .d_v = 1}, CacheShape{.n_kv_heads = 1, .width = kFar},
        CacheShape{.n_kv_heads = 8, .width = 1, .d_v = 1 << 22}})
    EXPECT_ERROR(kValue, "a row can have 16777216 of each", KvCache(1, shape));
}

TEST(Caches, DamagedTensorsAreRefusedAndChangeNothing) {
  KvCache cache(2, shape_of(DType::kF32), {.stored = Stored::kInt8});
  append(cache, {5, 2}, 1);
  const std::vector<CacheTensor> good = cache.save();
  KvCache other(1, shape_of(DType::kF32), {.layout = CacheLayout::kPaged, .stored = Stored::kInt8});
  const auto with = [&](size_t i, auto&& change) {
    std::vector<CacheTensor> bad = good;
    change(bad[i]);
    return bad;
  };
  EXPECT_ERROR(kFormat, "there is no tensor 'v'",
               other.restore(with(2, [](CacheTensor& t) { t.name = "w"; })));
  EXPECT_ERROR(kFormat, "'k' is BF16", other.restore(with(1, [](CacheTensor& t) { t.dtype = "BF16"; })));
  for (const size_t i : {0, 1})
    EXPECT_ERROR(kFormat, "is \\u001b[31m\\xff [",
                 other.restore(with(i, [](CacheTensor& t) { t.dtype = "\x1b[31m\xff"; })));
  EXPECT_ERROR(kFormat, "of 111 bytes", other.restore(with(1, [](CacheTensor& t) { t.data.pop_back(); })));
  EXPECT_ERROR(kFormat, "do not add up to the 8 rows",
               other.restore(with(1, [](CacheTensor& t) { t.shape[0] = 8; })));
  EXPECT_ERROR(kFormat, "do not add up",
               other.restore(with(1, [](CacheTensor& t) { t.shape[0] = int64_t{1} << 62; })));
  EXPECT_ERROR(kFormat, "do not add up to the 7 rows",
               other.restore(with(0, [](CacheTensor& t) { t.data[7] = std::byte{0x80}; })));
  EXPECT_ERROR(kFormat, "'lengths' is I64 [2] of 15 bytes",
               other.restore(with(0, [](CacheTensor& t) { t.data.pop_back(); })));
  EXPECT_ERROR(kFormat, "'k_scales' has a negative scale",
               other.restore(with(3, [](CacheTensor& t) { t.data[3] = std::byte{0xbf}; })));
  std::vector<CacheTensor> more = good;
  more.push_back({.name = "more"});
  EXPECT_ERROR(kFormat, "6 tensors to restore, this cache has 5", other.restore(more));
  EXPECT_EQ(other.size(), 1);
  other.restore(good);
  EXPECT_EQ(other.size(), 2);
  expect_equal_bits(attend(other, {}, AttentionPath::kAuto), attend(cache, {}, AttentionPath::kAuto),
                    "restored");
}

// Any order of appends, forks, cuts and drops leaves what plain lists of rows would hold, and no page without
// an owner.
RC_GTEST_PROP(PagedCache, IsAListOfRowsForEachSequence, ()) {
  const auto pool = pool_of();
  {
    KvCache cache(2, shape_of(DType::kF32), paged(pool)), plain(2, shape_of(DType::kF32));
    uint64_t seed = 1;
    for (auto steps = *rc::gen::inRange(0, 12); steps > 0; --steps) {
      const auto what = *rc::gen::inRange(0, 3);
      if (what == 0 && cache.size() > 0) {
        const auto parents = *rc::gen::container<std::vector<int32_t>>(
            rc::gen::inRange<int32_t>(0, static_cast<int32_t>(cache.size())));
        if (parents.size() > 8) continue;
        cache.select(parents);
        plain.select(parents);
      } else if (what == 1 && cache.size() > 0) {
        const auto s = *rc::gen::inRange<int64_t>(0, cache.size());
        const auto length = *rc::gen::inRange<int64_t>(0, cache.length(s) + 1);
        cache.truncate(s, length);
        plain.truncate(s, length);
      } else {
        const auto rows = *rc::gen::container<std::vector<int64_t>>(static_cast<size_t>(cache.size()),
                                                                    rc::gen::inRange<int64_t>(0, 100));
        append(cache, rows, seed);
        append(plain, rows, seed++);
      }
      RC_ASSERT(held(cache) == held(plain));
    }
  }
  RC_ASSERT(pool->in_use() == 0);
}

}  // namespace
}  // namespace qkv
