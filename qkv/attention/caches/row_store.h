#pragma once
// Where a cache's rows are: the part of KvCache that layouts differ in. A store moves whole rows and does not
// look into them, except that a sliding one turns its first keys.

#include <memory>
#include <span>
#include <vector>

#include "qkv/attention/caches/page_pool.h"
#include "qkv/attention/caches/row_format.h"
#include "qkv/attention/rope.h"

namespace qkv {

class RowStore {
 public:
  virtual ~RowStore() = default;
  virtual int64_t size() const = 0;
  virtual int64_t length(int64_t sequence) const = 0;
  /// Error kValue: more rows at once than it takes. Changes nothing.
  virtual void check_append(int64_t /*rows*/) const {}
  /// Makes room for n more rows of a sequence. Where it throws, the sequence is as it was.
  virtual void reserve(int64_t sequence, int64_t n) = 0;
  /// k and v become its next row, for which there is room. Threads may push to different sequences at once.
  virtual void push(int64_t sequence, const void* k, const void* v) = 0;
  /// The same with a row that is stored already, as restoring does.
  virtual void push_stored(int64_t sequence, const std::byte* row) = 0;
  virtual void truncate(int64_t sequence, int64_t length) = 0;
  /// Sequence r becomes what parents[r] was.
  virtual void select(std::span<const int32_t> parents) = 0;
  virtual KeyValueSpan span(int64_t sequence) const = 0;
  virtual const std::byte* row(int64_t sequence, int64_t i) const = 0;
  /// Whether rows that came are no longer there.
  virtual bool incomplete() const { return false; }
  virtual int64_t bytes() const = 0;
  /// One of its kind to take its place: empty sequences, with room for so many rows each. Pages are this
  /// one's own as far as they go, so rows may be pushed once this one is gone, and not before. Errors:
  /// kValue: the pool has too few pages; kFormat: more rows than it keeps.
  virtual std::unique_ptr<RowStore> successor(std::span<const int64_t> lengths) const = 0;
};

/// One block a sequence, that doubles when full. select() copies a block for a second child.
std::unique_ptr<RowStore> contiguous_store(const RowFormat& format, int64_t n_sequences);
/// Pages of kPageRows rows: those that sequences have in common are kept once, and copied when one of them
/// writes.
std::unique_ptr<RowStore> paged_store(const RowFormat& format, int64_t n_sequences,
                                      std::shared_ptr<PagePool> pool);
/// The first n_sink rows and the last `window`.
std::unique_ptr<RowStore> sliding_store(const RowFormat& format, int64_t n_sequences, int64_t n_sink,
                                        int64_t window, std::shared_ptr<const Rope> rope);

}  // namespace qkv
