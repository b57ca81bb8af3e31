#include "qkv/models/kv_cache_files.h"

#include <gtest/gtest.h>

#include "qkv/autograd/gradcheck.h"
#include "qkv/io/safetensors.h"
#include "qkv/io/sha256.h"
#include "qkv/io/testing.h"

namespace qkv {
namespace {

const std::string kModel = io::sha256_hex("weights");
constexpr CacheShape kShape{.n_kv_heads = 2, .width = 3, .d_v = 2};

KvCache filled(Stored stored, CacheLayout layout, uint64_t seed) {
  KvCache cache(2, kShape, {.layout = layout, .stored = stored});
  cache.append(Segments({70, 3}), random_tensor({73, 6}, seed, DType::kF32),
               random_tensor({73, 4}, seed + 1, DType::kF32));
  return cache;
}

bool same(const KvCache& a, const KvCache& b) {
  const std::vector<CacheTensor> x = a.save(), y = b.save();
  return std::equal(x.begin(), x.end(), y.begin(), y.end(), [](const CacheTensor& s, const CacheTensor& t) {
    return s.name == t.name && s.data == t.data;
  });
}

TEST(KvCacheFiles, WhatIsReadIsWhatWasWrittenInAnyLayout) {
  const io::testing::TemporaryFolder dir;
  for (const Stored stored : {Stored::kPlain, Stored::kBF16, Stored::kInt8}) {
    KvCache a = filled(stored, CacheLayout::kContiguous, 1), b = filled(stored, CacheLayout::kPaged, 3);
    const NamedCache out[] = {{"layers.0.self", &a}, {"layers.1.self", &b}};
    save_caches(dir / "cache", kModel, out);
    KvCache c(0, kShape, {.layout = CacheLayout::kPaged, .stored = stored}),
        d(5, kShape, {.layout = CacheLayout::kContiguous, .stored = stored});
    const NamedCache in[] = {{"layers.0.self", &c}, {"layers.1.self", &d}};
    load_caches(dir / "cache", kModel, in);
    EXPECT_TRUE(same(a, c));
    EXPECT_TRUE(same(b, d));
    EXPECT_EQ(d.size(), 2);
  }
}

TEST(KvCacheFiles, ADamagedFileChangesNothing) {
  const io::testing::TemporaryFolder dir;
  KvCache a = filled(Stored::kPlain, CacheLayout::kContiguous, 1),
          b = filled(Stored::kPlain, CacheLayout::kPaged, 3);
  const NamedCache both[] = {{"a", &a}, {"b", &b}};
  save_caches(dir / "cache", kModel, both);
  KvCache c = filled(Stored::kPlain, CacheLayout::kContiguous, 5), d(1, kShape, {.stored = Stored::kInt8});
  const KvCache as_before = filled(Stored::kPlain, CacheLayout::kContiguous, 5);
  const NamedCache wrong[] = {{"a", &c}, {"b", &d}}, one[] = {{"a", &c}}, other[] = {{"x", &c}, {"b", &b}};
  EXPECT_ERROR(kFormat, "b: kv cache: 'k' is F32 [73, 2, 3] of 1752 bytes, this cache needs I8 [73, 2, 3]",
               load_caches(dir / "cache", kModel, wrong));
  EXPECT_ERROR(kFormat, "holds 6 tensors, 3 belong to the caches asked for",
               load_caches(dir / "cache", kModel, one));
  EXPECT_ERROR(kFormat, "holds 6 tensors, 3 belong", load_caches(dir / "cache", kModel, other));
  EXPECT_ERROR(kIo, "nothing", load_caches(dir / "nothing", kModel, both));
  io::testing::put(dir / "cut", "not a cache");
  EXPECT_ERROR(kFormat, "cut", load_caches(dir / "cut", kModel, both));
  EXPECT_TRUE(same(c, as_before));
}

TEST(KvCacheFiles, NoBitMayFlip) {
  const io::testing::TemporaryFolder dir;
  KvCache a = filled(Stored::kPlain, CacheLayout::kContiguous, 1),
          c = filled(Stored::kPlain, CacheLayout::kContiguous, 5);
  const NamedCache out[] = {{"a", &a}}, in[] = {{"a", &c}};
  save_caches(dir / "cache", kModel, out);
  const std::string good = io::testing::get(dir / "cache");
  const auto with = [&](size_t at) {
    std::string bad = good;
    bad[at] ^= 1;
    io::testing::put(dir / "bad", bad);
  };
  with(good.size() - 1);
  EXPECT_ERROR(kFormat, "bad: its SHA-256 differs from the one that it was saved with: it was damaged",
               load_caches(dir / "bad", kModel, in));
  with(good.find("\"a.k\"") + 1);  // a name
  EXPECT_ERROR(kFormat, "it was damaged", load_caches(dir / "bad", kModel, in));
  for (size_t at = 0; at < good.size(); at += 7) {
    with(at);
    EXPECT_THROW(load_caches(dir / "bad", kModel, in), Error) << at;
  }
  EXPECT_TRUE(same(c, filled(Stored::kPlain, CacheLayout::kContiguous, 5)));
}

TEST(KvCacheFiles, BelongToAModelAndAVersion) {
  const io::testing::TemporaryFolder dir;
  KvCache a = filled(Stored::kPlain, CacheLayout::kContiguous, 1);
  const NamedCache caches[] = {{"a", &a}};
  save_caches(dir / "cache", kModel, caches);
  EXPECT_ERROR(kFormat, "was saved for the model \"" + kModel + "\", this is \"other\"",
               load_caches(dir / "cache", "other", caches));
  EXPECT_ERROR(kValue, "needs to know the model", load_caches(dir / "cache", "", caches));
  EXPECT_ERROR(kValue, "needs to know the model", save_caches(dir / "cache", "", caches));
  const io::SafetensorsFile file = io::SafetensorsFile::open(dir / "cache");
  auto metadata = file.metadata();
  metadata["version"] = "2";
  io::write_safetensors(dir / "newer", file.tensors(), metadata);
  EXPECT_ERROR(kFormat, "version \"2\", this program reads version 1",
               load_caches(dir / "newer", kModel, caches));
  io::write_safetensors(dir / "weights", file.tensors(), {{"format", "pt"}});
  EXPECT_ERROR(kFormat, "weights: is no saved cache: its format is \"pt\"",
               load_caches(dir / "weights", kModel, caches));
}

TEST(KvCacheFiles, NamesInMessagesControlNoTerminal) {
  const io::testing::TemporaryFolder dir;
  KvCache a = filled(Stored::kPlain, CacheLayout::kContiguous, 1), d(1, kShape, {.stored = Stored::kInt8});
  const std::string path = dir / "\x1b[31m";
  const NamedCache red[] = {{"\x1b[32m", &a}}, other[] = {{"\x1b[32m", &d}};
  save_caches(path, kModel, red);
  EXPECT_ERROR(kFormat, "/\\u001b[31m: was saved for", load_caches(path, "other", red));
  EXPECT_ERROR(kFormat, "/\\u001b[31m: holds 3 tensors", load_caches(path, kModel, {}));
  EXPECT_ERROR(kFormat, "/\\u001b[31m: \\u001b[32m: kv cache", load_caches(path, kModel, other));
}

// 70 and 3 rows are three pages. The first cache has its own for them; the second one may take one more.
TEST(KvCacheFiles, AllCachesOfAPoolAreLoadedOrNone) {
  const io::testing::TemporaryFolder dir;
  KvCache a = filled(Stored::kPlain, CacheLayout::kContiguous, 1);
  const NamedCache out[] = {{"a", &a}, {"b", &a}};
  save_caches(dir / "cache", kModel, out);
  const auto pool = std::make_shared<PagePool>(kPageRows * 10 * 4, 5);
  const KvCacheOptions paged{.layout = CacheLayout::kPaged, .pool = pool};
  KvCache c(0, kShape, paged), d(2, kShape, paged);
  const NamedCache in[] = {{"a", &c}, {"b", &d}};
  c.restore(filled(Stored::kPlain, CacheLayout::kContiguous, 5).save());
  d.append(Segments({1, 0}), random_tensor({1, 6}, 7, DType::kF32), random_tensor({1, 4}, 8, DType::kF32));
  EXPECT_ERROR(kValue, "b: page pool: all 5 pages are in use", load_caches(dir / "cache", kModel, in));
  EXPECT_TRUE(same(c, filled(Stored::kPlain, CacheLayout::kContiguous, 5)));
  EXPECT_EQ(d.length(0), 1);
  EXPECT_EQ(pool->in_use(), 4);
}

TEST(KvCacheFiles, AreLoadedIntoASlidingCacheThatHasLetRowsGo) {
  const io::testing::TemporaryFolder dir;
  KvCache a = filled(Stored::kPlain, CacheLayout::kContiguous, 1),
          c(1, kShape, {.layout = CacheLayout::kSliding, .n_sink = 2, .window = 80});
  const NamedCache out[] = {{"a", &a}}, in[] = {{"a", &c}};
  save_caches(dir / "cache", kModel, out);
  for (uint64_t t = 0; t < 2; ++t)
    c.append(Segments({60}), random_tensor({60, 6}, t, DType::kF32), random_tensor({60, 4}, t, DType::kF32));
  load_caches(dir / "cache", kModel, in);
  EXPECT_TRUE(same(a, c));
}

}  // namespace
}  // namespace qkv
