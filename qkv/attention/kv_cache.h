#pragma once
// Keys and values of the sequences that one attention site has met, kept while a model runs.
// docs/math/decoding.md says what each layout and each way of storing costs, and what positions mean in a
// sliding cache.

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "qkv/attention/attention.h"
#include "qkv/attention/caches/page_pool.h"
#include "qkv/attention/caches/row_format.h"
#include "qkv/attention/rope.h"
#include "qkv/base/segments.h"
#include "qkv/tensor/tensor.h"

namespace qkv {

class RowStore;

enum class CacheLayout {
  kContiguous,  // a block a sequence, doubled when full: the fastest to fill
  kPaged,       // pages of 64 rows that forks share until they write: Kwon et al. 2023, arXiv:2309.06180
  kSliding,     // the first n_sink and the last `window` tokens: Xiao et al. 2023, arXiv:2309.17453
};

struct KvCacheOptions {
  CacheLayout layout = CacheLayout::kContiguous;
  Stored stored = Stored::kPlain;
  /// Of kPaged: shared with other caches of rows of this size. Null: one of its own.
  std::shared_ptr<PagePool> pool;
  /// Of kSliding. n_sink not given: 4, as the paper finds enough.
  std::optional<int64_t> n_sink;
  int64_t window = 0;
  /// Of kSliding, where keys were turned by their positions: the sinks are turned on as the window moves away
  /// from them.
  std::shared_ptr<const Rope> rope;
};

/// Bytes of one tensor of a saved cache, row-major.
struct CacheTensor {
  std::string name;
  std::string dtype;  // as in safetensors: "F64", "F32", "BF16", "I8", "I64"
  std::vector<int64_t> shape;
  std::vector<std::byte> data;
};

/// Whatever the layout, attention gives the same bits for the same rows; kBF16 and kInt8 lose what
/// key_value_span.h says. Moved, not copied.
///
/// In a sliding cache rows have the positions that they have within it, 0 .. length - 1, and rules see those.
/// So the Segments of the queries have past(b) = length(b) - the queries of b, as everywhere else; where that
/// is not the tokens' number in the text, Rope must be given the latter.
class KvCache {
 public:
  KvCache();
  /// Errors: kValue: a negative number, more than 2^20 sequences, a row of more than 2^24 numbers of keys or
  /// of values, a sliding cache without a window or with one of 2^31 and more (n_sink likewise), a pool of
  /// pages of another size, an option of another layout than this one;
  /// kUnsupported: kBF16 of rows that are bf16 already, a rope that scales.
  KvCache(int64_t n_sequences, const CacheShape& shape, const KvCacheOptions& options = {});
  /// One key/value head of these widths.
  KvCache(int64_t n_sequences, int64_t k_width, int64_t v_width, DType dtype);
  KvCache(KvCache&&) noexcept;
  KvCache& operator=(KvCache&&) noexcept;
  ~KvCache();

  /// Appends the rows of each sequence. k [n_tokens, k_width], v [n_tokens, v_width]; rows.size() == size().
  /// Errors: kShape, kDtype; kValue: the pool is empty, or more rows than a sliding cache's window. It then
  /// changes nothing.
  void append(const Segments& rows, const Tensor& k, const Tensor& v);
  /// Sequence r becomes a copy of what sequence parents[r] was; sequences that are nobody's parent are let
  /// go. Blocks are copied for a second child and later, pages never. Error kValue: a parent that is not
  /// there.
  void select(std::span<const int32_t> parents);
  /// Forgets the newest rows, as speculative decoding does with a refused guess. What a sliding cache has let
  /// go does not come back. Error kValue: no such sequence, or a length that it does not have.
  void truncate(int64_t sequence, int64_t length);

  int64_t size() const;
  int64_t length(int64_t sequence) const;  // Error kValue: no such sequence
  DType dtype() const { return format_.shape.dtype; }
  int64_t bytes() const;  // of memory; of a paged cache: all of its pool's pages in use
  /// Valid until the next call that changes the cache.
  std::vector<KeyValueSpan> spans() const;

  /// Everything that it holds, as it is stored: "lengths", "k", "v" and, for kInt8, "k_scales" and
  /// "v_scales". Error kUnsupported: a sliding cache that has let rows go.
  std::vector<CacheTensor> save() const;
  /// Takes what save() gave in place of what it holds, into its own layout. The sequences' number may differ;
  /// shape and way of storing may not. Pages of a paged cache are written again, so its pool needs to give
  /// only those that come on top. Errors: kFormat: a tensor missing, unknown, of another dtype, shape or
  /// size, a length that is negative, a scale that is, more rows than a sliding cache keeps; kValue: the pool
  /// has too few pages. It then changes nothing.
  void restore(std::span<const CacheTensor> tensors) { prepare_restore(tensors)(); }
  /// restore() in two steps, so that several caches change together or not at all: this one takes the memory,
  /// has all of the errors and changes nothing; what it returns puts the rows in place and cannot fail. Until
  /// then the cache is not to be changed or moved, and the tensors are to stay.
  std::function<void()> prepare_restore(std::span<const CacheTensor> tensors);

 private:
  void check_sequence(int64_t sequence) const;

  RowFormat format_;
  std::shared_ptr<RowStore> store_;
};

}  // namespace qkv
