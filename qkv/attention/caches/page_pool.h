#pragma once
// Pages for key/value caches: Kwon et al., "Efficient Memory Management for Large Language Model Serving with
// PagedAttention" (2023), arXiv:2309.06180.

#include <cstddef>
#include <cstdint>
#include <memory>

namespace qkv {

/// Hands out blocks of memory of one size and takes them back when their last owner lets go. Caches of
/// several layers or requests may share one, which then bounds them together. Safe from several threads. It
/// may go before its pages.
class PagePool {
 public:
  /// Whoever holds it may read it; its only holder may write.
  using Page = std::shared_ptr<std::byte>;

  /// max_pages 0: as many as memory holds. Error kValue: a size that is not positive, a negative number.
  explicit PagePool(int64_t page_bytes, int64_t max_pages = 0);

  /// Contents undefined, 64-byte aligned. Error kValue: max_pages are in use.
  Page take();
  int64_t page_bytes() const;
  int64_t in_use() const;  // pages

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace qkv
