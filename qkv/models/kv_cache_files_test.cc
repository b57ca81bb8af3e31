#include "qkv/models/kv_cache_files.h"

#include <gtest/gtest.h>

#include <fstream>

#include "qkv/autograd/gradcheck.h"
#include "qkv/io/testing.h"

namespace qkv {
namespace {

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
    save_caches(dir / "cache", out);
    KvCache c(0, kShape, {.layout = CacheLayout::kPaged, .stored = stored}),
        d(5, kShape, {.layout = CacheLayout::kContiguous, .stored = stored});
    const NamedCache in[] = {{"layers.0.self", &c}, {"layers.1.self", &d}};
    load_caches(dir / "cache", in);
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
  save_caches(dir / "cache", both);
  KvCache c = filled(Stored::kPlain, CacheLayout::kContiguous, 5), d(1, kShape, {.stored = Stored::kInt8});
  const KvCache as_before = filled(Stored::kPlain, CacheLayout::kContiguous, 5);
  const NamedCache wrong[] = {{"a", &c}, {"b", &d}}, one[] = {{"a", &c}}, other[] = {{"x", &c}, {"b", &b}};
  EXPECT_ERROR(kFormat, "b: kv cache: 'k' is F32 [73, 2, 3] of 1752 bytes, this cache needs I8 [73, 2, 3]",
               load_caches(dir / "cache", wrong));
  EXPECT_ERROR(kFormat, "holds 6 tensors, 3 belong to the caches asked for", load_caches(dir / "cache", one));
  EXPECT_ERROR(kFormat, "holds 6 tensors, 3 belong", load_caches(dir / "cache", other));
  EXPECT_ERROR(kIo, "nothing", load_caches(dir / "nothing", both));
  std::ofstream(dir / "cut", std::ios::binary) << "not a cache";
  EXPECT_ERROR(kFormat, "cut", load_caches(dir / "cut", both));
  EXPECT_TRUE(same(c, as_before));
}

}  // namespace
}  // namespace qkv
