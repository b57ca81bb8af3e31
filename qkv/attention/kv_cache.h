#pragma once
// Keys and values of the sequences that one attention site has met, kept while a model runs.

#include <span>
#include <vector>

#include "qkv/attention/attention.h"
#include "qkv/base/segments.h"
#include "qkv/tensor/tensor.h"

namespace qkv {

/// One block of rows a sequence: k [length, k_width] and v [length, v_width] side by side, in blocks that
/// double when full. Moved, not copied: two copies would append to the same blocks.
class KvCache {
 public:
  KvCache() = default;
  KvCache(int64_t n_sequences, int64_t k_width, int64_t v_width, DType dtype);
  KvCache(KvCache&&) = default;
  KvCache& operator=(KvCache&&) = default;

  /// Appends the rows of each sequence. k [n_tokens, k_width], v [n_tokens, v_width]; rows.size() == size().
  /// Errors: kShape, kDtype.
  void append(const Segments& rows, const Tensor& k, const Tensor& v);
  /// Sequence r becomes a copy of what sequence parents[r] was; sequences that are nobody's parent are let
  /// go. A block is copied only for its second child and later. Error kValue: a parent that is not there.
  void select(std::span<const int32_t> parents);

  int64_t size() const { return static_cast<int64_t>(sequences_.size()); }
  int64_t length(int64_t sequence) const { return sequences_[sequence].length; }
  DType dtype() const { return dtype_; }
  std::vector<KeyValueSpan> spans() const;

 private:
  struct Sequence {
    Tensor rows;  // [capacity, k_width + v_width]
    int64_t length = 0;
  };
  std::vector<Sequence> sequences_;
  int64_t k_width_ = 0, v_width_ = 0;
  DType dtype_ = DType::kF32;
};

}  // namespace qkv
