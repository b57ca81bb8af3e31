#include "qkv/kernels/stream.h"

#include <gtest/gtest.h>

#include <memory>

#include "qkv/base/memory.h"
#include "qkv/kernels/table.h"

namespace qkv::kernels {
namespace {

// n floats 1, 2, 3, ..., with a line of -1 before and after them.
struct Numbers {
  static constexpr int64_t kGuard = 16;
  int64_t n;
  std::shared_ptr<Buffer> owner;
  explicit Numbers(int64_t count) : n(count), owner(Buffer::allocate((count + 2 * kGuard) * 4)) {
    for (int64_t i = -kGuard; i < n + kGuard; ++i)
      data()[i] = i < 0 || i >= n ? -1 : static_cast<float>(i + 1);
  }
  float* data() const { return reinterpret_cast<float*>(owner->data()) + kGuard; }
  bool guarded() const {
    for (int64_t i = 0; i < kGuard; ++i)
      if (data()[-1 - i] != -1 || data()[n + i] != -1) return false;
    return true;
  }
};

TEST(Stream, ReadsWritesAndCopiesEveryElementAndNoOther) {
  for (int i = 0; i <= static_cast<int>(best_isa()); ++i) {
    const StreamKernels& stream = table_for(static_cast<Isa>(i)).stream;
    for (const int64_t n : {int64_t{0}, kStreamGrain, 3 * kStreamGrain}) {
      const Numbers x(n), y(n), z(n);
      EXPECT_EQ(stream.read(n, x.data(), 3), static_cast<float>(3 * n * (n + 1) / 2));
      stream.write(n, 0.5f, y.data());
      stream.copy(n, x.data(), z.data());
      for (int64_t j = 0; j < n; ++j) EXPECT_TRUE(y.data()[j] == 0.5f && z.data()[j] == x.data()[j]) << j;
      EXPECT_TRUE(x.guarded() && y.guarded() && z.guarded());
    }
  }
}

}  // namespace
}  // namespace qkv::kernels
