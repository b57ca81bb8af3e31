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
/// Returns what the pool keeps to the system.
void release_memory();

}  // namespace qkv
