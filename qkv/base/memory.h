#pragma once
// Memory for tensors: 64-byte aligned blocks from a pool that keeps what is freed, so that a training step
// after the first allocates nothing from the system. Blocks of a megabyte and more ask for huge pages.

#include <cstddef>
#include <cstdint>
#include <memory>

namespace qkv {

/// A block of memory, 64-byte aligned and readable for 64 bytes past its end (so kernels may load whole
/// vectors). Goes back to the pool when the last owner lets go. Contents are undefined at first.
class Buffer {
 public:
  static std::shared_ptr<Buffer> allocate(int64_t bytes);  // Error kValue: negative or absurd; bad_alloc
  ~Buffer();
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  std::byte* data() { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  Buffer(std::byte* data, int64_t bytes, int64_t capacity)
      : data_(data), bytes_(bytes), capacity_(capacity) {}
  std::byte* data_;
  int64_t bytes_, capacity_;
};

struct MemoryUse {
  int64_t in_use = 0;  // bytes handed out
  int64_t held = 0;    // bytes taken from the system: in use and kept
  int64_t peak = 0;    // the most that in_use has been
};
MemoryUse memory_use();
/// From here on, peak is the most that in_use has been since.
void reset_memory_peak();
/// Returns what the pool keeps to the system.
void release_memory();

/// Adds to in_use what is not of the pool; a negative number takes back.
void count_memory(int64_t bytes) noexcept;

/// For containers whose memory is to be seen in memory_use(): std::vector<float, CountedAllocator<float>>.
template <class T>
struct CountedAllocator : std::allocator<T> {
  template <class U>
  struct rebind {
    using other = CountedAllocator<U>;
  };
  CountedAllocator() = default;
  template <class U>
  CountedAllocator(const CountedAllocator<U>&) {}

  T* allocate(size_t n) {
    T* block = std::allocator<T>::allocate(n);
    count_memory(static_cast<int64_t>(n * sizeof(T)));
    return block;
  }
  void deallocate(T* block, size_t n) noexcept {
    count_memory(-static_cast<int64_t>(n * sizeof(T)));
    std::allocator<T>::deallocate(block, n);
  }
};

}  // namespace qkv
