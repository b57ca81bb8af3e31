#include "qkv/base/memory.h"

#include <sys/mman.h>

#include <bit>
#include <cstdlib>
#include <map>
#include <mutex>
#include <new>
#include <vector>

#include "qkv/base/checked.h"
#include "qkv/base/error.h"

namespace qkv {
namespace {

constexpr int64_t kTail = 64;  // readable bytes past the end
constexpr int64_t kHuge = int64_t{2} << 20;

// Sizes are rounded up so that steps whose batches differ a little reuse each other's blocks: to a quarter of
// the power of two below, at most 25 % too large.
int64_t capacity_for(int64_t bytes) {
  const int64_t need = round_up(bytes + kTail, 256);
  const int64_t step =
      std::max<int64_t>(256, static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(need))) / 4);
  return round_up(need, step);
}

class Pool {
 public:
  std::byte* take(int64_t capacity) {
    {
      std::lock_guard lock(mutex_);
      count(capacity);
      auto& kept = kept_[capacity];
      if (!kept.empty()) {
        std::byte* block = kept.back();
        kept.pop_back();
        return block;
      }
      use_.held += capacity;
    }
    const bool huge = capacity >= kHuge;
    void* block = std::aligned_alloc(huge ? kHuge : 64, round_up(capacity, huge ? kHuge : 64));
    if (block == nullptr) {
      std::lock_guard lock(mutex_);
      use_.in_use -= capacity;
      use_.held -= capacity;
      throw std::bad_alloc();
    }
    // Whole huge pages alone: one that holds only the end of a block would be taken from the system entire.
    if (huge) madvise(block, static_cast<size_t>(capacity / kHuge * kHuge), MADV_HUGEPAGE);
    return static_cast<std::byte*>(block);
  }

  void give(std::byte* block, int64_t capacity) {
    std::lock_guard lock(mutex_);
    use_.in_use -= capacity;
    kept_[capacity].push_back(block);
  }

  MemoryUse use() {
    std::lock_guard lock(mutex_);
    return use_;
  }

  void add(int64_t bytes) {
    std::lock_guard lock(mutex_);
    count(bytes);
  }

  void reset_peak() {
    std::lock_guard lock(mutex_);
    use_.peak = use_.in_use;
  }

  void release() {
    std::lock_guard lock(mutex_);
    for (auto& [capacity, blocks] : kept_) {
      for (std::byte* block : blocks) std::free(block);
      use_.held -= capacity * static_cast<int64_t>(blocks.size());
      blocks.clear();
    }
  }

 private:
  void count(int64_t bytes) {
    use_.in_use += bytes;
    use_.peak = std::max(use_.peak, use_.in_use);
  }

  std::mutex mutex_;
  std::map<int64_t, std::vector<std::byte*>> kept_;
  MemoryUse use_;
};

Pool& pool() {
  static Pool* p = new Pool;  // never destroyed: tensors of static storage may outlive it
  return *p;
}

}  // namespace

std::shared_ptr<Buffer> Buffer::allocate(int64_t bytes) {
  QKV_CHECK(bytes >= 0 && bytes <= (int64_t{1} << 46), kValue, "buffer: cannot hold {} bytes", bytes);
  const int64_t capacity = capacity_for(bytes);
  return std::shared_ptr<Buffer>(new Buffer(pool().take(capacity), bytes, capacity));
}

Buffer::~Buffer() { pool().give(data_, capacity_); }

MemoryUse memory_use() { return pool().use(); }
void reset_memory_peak() { pool().reset_peak(); }
void release_memory() { pool().release(); }
void count_memory(int64_t bytes) noexcept { pool().add(bytes); }

}  // namespace qkv
