#include "qkv/attention/segment_memory.h"

#include <gtest/gtest.h>

#include "qkv/autograd/gradcheck.h"
#include "qkv/base/testing.h"

namespace qkv {
namespace {

TEST(SegmentMemory, KeepsTheLastRowsAndLetsNoGradientThrough) {
  SegmentMemory memory(1, 3);
  const Segments two({2, 0});
  const Var x(random_tensor({2, 4}, 1), true);
  (void)memory.extend(0, x, two);
  EXPECT_EQ(memory.length(0, 0), 2);
  const Var y(random_tensor({3, 4}, 2), true);
  const SegmentMemory::Context c = memory.extend(0, y, Segments({2, 1}));
  EXPECT_EQ(c.rows.size(0), 5);
  EXPECT_EQ(c.keys.length(0), 4);
  EXPECT_EQ(c.queries.past(0), 2);
  EXPECT_EQ(c.queries.past(1), 0);
  EXPECT_EQ(c.rows.value().rows(1, 2).values(), x.value().rows(1, 2).values());
  EXPECT_EQ(memory.length(0, 0), 3) << "the last three";
  EXPECT_EQ(memory.length(0, 1), 1);
  backward(c.rows, random_tensor({5, 4}, 3));
  EXPECT_FALSE(x.grad().defined());
  EXPECT_TRUE(y.grad().defined());
  EXPECT_ERROR(kShape, "remembers 2 texts", (void)memory.extend(0, y, Segments({3})));
  EXPECT_ERROR(kValue, "layer 1 of 1", (void)memory.extend(1, y, two));
}

TEST(SegmentMemory, RefusesWhatItCannotRemember) {
  EXPECT_ERROR(kValue, "0 to 65536 layers", SegmentMemory(INT64_MAX, 3));
  SegmentMemory memory(1, INT64_MAX);
  const auto extend = [&](const Var& x, const Segments& segment) { (void)memory.extend(0, x, segment); };
  EXPECT_ERROR(kShape, "x is nothing, needs to be [2 tokens, d]", extend(Var(), Segments({2})));
  EXPECT_ERROR(kShape, "x is [2]", extend(Var(random_tensor({2}, 1)), Segments({2})));
  EXPECT_ERROR(kShape, "x is [3, 4]", extend(Var(random_tensor({3, 4}, 1)), Segments({2})));
  EXPECT_ERROR(kValue, "a past of 7", extend(Var(random_tensor({2, 4}, 1)), Segments({2}, {7})));
  EXPECT_EQ(memory.length(0, 5), 0) << "nothing has come: it takes any number of sequences";
  extend(Var(random_tensor({2, 4}, 1)), Segments({2}));
  EXPECT_ERROR(kValue, "sequence 1 of 1", (void)memory.length(0, 1));
  EXPECT_ERROR(kValue, "layer -1 of 1", (void)memory.length(-1, 0));
}

}  // namespace
}  // namespace qkv
