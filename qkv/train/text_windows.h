#pragma once
// Documents as ids, back to back, and the windows that a model sees of them.

#include <cstdint>
#include <vector>

#include "qkv/train/row_range.h"

namespace qkv {

struct TokenStream {
  std::vector<int32_t> ids;
  std::vector<int64_t> begins;  // of documents, ascending; the first is 0
};

struct WindowOptions {
  int64_t length = 256;         // of a window
  int64_t batch_tokens = 4096;  // rows of a batch; one window is never cut
  uint64_t seed = 1;

  /// Error kValue: length or batch_tokens is not in 1 .. 2^30.
  void check() const;
};

/// Cuts a stream into windows and these into batches. Each epoch covers every row once, in windows that begin
/// elsewhere than the last epoch's, so that no place is always the first of its window. A function of the
/// options and the epoch alone, so a resumed run goes on with exactly the batches that were left.
class WindowPlan {
 public:
  /// Errors: kValue (options), kFormat: no rows.
  WindowPlan(int64_t n_rows, const WindowOptions& options);

  /// Batches of windows in an order of their own.
  std::vector<std::vector<RowRange>> epoch(int64_t number) const;
  /// Batches of windows from the first row to the last, for text that is only read.
  std::vector<std::vector<RowRange>> in_order() const;

 private:
  std::vector<RowRange> windows(int64_t first_end) const;
  std::vector<std::vector<RowRange>> batches(const std::vector<RowRange>& windows) const;

  int64_t n_rows_;
  WindowOptions options_;
};

/// A window's parts, each of one document, in order: documents that share a window do not see one another.
std::vector<RowRange> parts_of(const TokenStream& stream, const RowRange& window);

}  // namespace qkv
