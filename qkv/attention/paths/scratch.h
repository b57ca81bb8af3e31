#pragma once
// Working memory of one thread, kept from call to call, so that the thousands of small items of a batch
// allocate nothing.

#include <memory>
#include <vector>

#include "qkv/base/checked.h"
#include "qkv/base/memory.h"
#include "qkv/base/parallel.h"

namespace qkv::paths {

class Scratch {
 public:
  /// This thread's, with everything handed out before taken back.
  static Scratch& fresh() {
    current().reset();
    return current();
  }
  /// This thread's, as it is.
  static Scratch& current() {
    thread_local Scratch scratch;
    return scratch;
  }

  /// Gives every kernel thread's back to the pool, for who measures memory. Not while attention runs.
  static void release() {
    detail::in_team(threads(), [](int64_t, int64_t) { current() = {}; });
  }

  /// What is taken while one of these lives is free again after it.
  class Frame {
   public:
    explicit Frame(Scratch& scratch)
        : scratch_(scratch), block_(scratch.blocks_.size()), used_(scratch.used_) {}
    ~Frame() {
      if (scratch_.blocks_.size() == block_)
        scratch_.used_ = used_;  // else a new block came: leave it for fresh()
    }
    Frame(const Frame&) = delete;
    Frame& operator=(const Frame&) = delete;

   private:
    Scratch& scratch_;
    size_t block_;
    int64_t used_;
  };

  /// n elements, 64-byte aligned, contents undefined, valid until the next fresh().
  template <class U>
  U* take(int64_t n) {
    const int64_t bytes = round_up(n * static_cast<int64_t>(sizeof(U)), 64);
    if (blocks_.empty() || used_ + bytes > blocks_.back()->bytes()) {
      blocks_.push_back(Buffer::allocate(std::max(bytes, 2 * total_)));
      total_ += blocks_.back()->bytes();
      used_ = 0;
    }
    std::byte* at = blocks_.back()->data() + used_;
    used_ += bytes;
    return reinterpret_cast<U*>(at);
  }

 private:
  void reset() {
    // Several blocks mean that an item needed more than there was: the last and largest will do next time.
    if (blocks_.size() > 1) blocks_ = {blocks_.back()};
    total_ = blocks_.empty() ? 0 : blocks_.back()->bytes();
    used_ = 0;
  }

  std::vector<std::shared_ptr<Buffer>> blocks_;
  int64_t used_ = 0, total_ = 0;
};

}  // namespace qkv::paths
