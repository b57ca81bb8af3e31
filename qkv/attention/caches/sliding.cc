// Xiao et al., "Efficient Streaming Language Models with Attention Sinks" (2023), arXiv:2309.17453.
//
// A sequence's rows lie in one block of n_sink + 2 window rows. The window moves through it; the first rows,
// the sinks, are written again right before wherever it begins, over rows that have been let go, so that both
// are one block for attention. At the block's end the window moves back to its begin, once in `window` rows.

#include <algorithm>
#include <cstring>

#include "qkv/attention/caches/children.h"
#include "qkv/attention/caches/row_store.h"
#include "qkv/base/checked.h"
#include "qkv/base/memory.h"
#include "qkv/tensor/tensor.h"

namespace qkv {
namespace {

class SlidingStore final : public RowStore {
 public:
  SlidingStore(const RowFormat& format, int64_t n, int64_t n_sink, int64_t window,
               std::shared_ptr<const Rope> rope)
      : format_(format),
        n_sink_(n_sink),
        window_(window),
        rope_(std::move(rope)),
        sequences_(static_cast<size_t>(n)) {
    QKV_CHECK(n_sink >= 0 && window > 0, kValue,
              "kv cache: a sliding cache needs a positive window and no negative n_sink, got {} and {}",
              window, n_sink);
    constexpr int64_t kFar = int64_t{1} << 31;
    QKV_CHECK(
        n_sink < kFar && window < kFar, kValue,
        "kv cache: a sliding cache needs a window and n_sink below 2^31, got {} and {}; to let no row go, "
        "take a contiguous or a paged one",
        window, n_sink);
    block_rows_ = n_sink + 2 * window;
    block_bytes_ = checked_mul(block_rows_, format.row_bytes, "kv cache: bytes of a sliding cache's block");
  }

  int64_t size() const override { return static_cast<int64_t>(sequences_.size()); }
  int64_t length(int64_t s) const override { return sequences_[s].length; }

  void check_append(int64_t rows) const override {
    QKV_CHECK(rows <= window_, kValue,
              "kv cache: a sliding cache of window {} takes at most so many rows at once, got {}; append a "
              "long prompt "
              "in pieces",
              window_, rows);
  }

  void reserve(int64_t s, int64_t n) override {
    Sequence& sequence = sequences_[s];
    if (n <= 0) return;
    if (!sequence.rows) {
      sequence.rows = Buffer::allocate(block_bytes_);
      sequence.sinks = Buffer::allocate(n_sink_ * format_.row_bytes);
    }
    const int64_t kept = sequence.length + n - n_sink_;  // in the window, if all of it stays
    if (kept <= window_) return;
    const int64_t drop = kept - window_;
    int64_t first = sequence.begin + n_sink_ + drop;  // of the window from now on
    const int64_t stay = sequence.length - n_sink_ - drop;
    if (first + window_ > block_rows_) {
      std::memmove(at(sequence, n_sink_), at(sequence, first), static_cast<size_t>(stay * format_.row_bytes));
      first = n_sink_;
    }
    sequence.begin = first - n_sink_;
    sequence.length -= drop;
    sequence.dropped += drop;
    put_sinks(sequence);
  }
  void push(int64_t s, const void* k, const void* v) override {
    Sequence& sequence = sequences_[s];
    format_.write(k, v, at(sequence, sequence.begin + sequence.length));
    end_push(sequence);
  }
  void push_stored(int64_t s, const std::byte* row) override {
    Sequence& sequence = sequences_[s];
    std::memcpy(at(sequence, sequence.begin + sequence.length), row, static_cast<size_t>(format_.row_bytes));
    end_push(sequence);
  }
  const std::byte* row(int64_t s, int64_t i) const override {
    return at(sequences_[s], sequences_[s].begin + i);
  }
  bool incomplete() const override {
    return std::any_of(sequences_.begin(), sequences_.end(), [](const Sequence& s) { return s.dropped > 0; });
  }
  void truncate(int64_t s, int64_t length) override {
    QKV_CHECK(sequences_[s].dropped == 0 || length >= n_sink_, kValue,
              "kv cache: a sequence that has let rows go keeps its {} sinks; it cannot be cut to {} rows",
              n_sink_, length);
    sequences_[s].length = length;
  }
  void select(std::span<const int32_t> parents) override {
    become_children(sequences_, parents, [&](const Sequence& parent) {
      Sequence child = parent;
      if (!parent.rows) return child;
      child.rows = Buffer::allocate(parent.rows->bytes());
      std::memcpy(at(child, child.begin), at(parent, parent.begin),
                  static_cast<size_t>(parent.length * format_.row_bytes));
      child.sinks = Buffer::allocate(parent.sinks->bytes());
      std::memcpy(child.sinks->data(), parent.sinks->data(), static_cast<size_t>(parent.sinks->bytes()));
      return child;
    });
  }

  KeyValueSpan span(int64_t s) const override {
    const Sequence& sequence = sequences_[s];
    KeyValueSpan span = format_.span();
    span.kv_len = sequence.length;
    if (sequence.rows) {
      const std::byte* rows = at(sequence, sequence.begin);
      span.k = rows, span.v = rows + format_.v_at;
    }
    return span;
  }
  int64_t bytes() const override {
    int64_t sum = 0;
    for (const Sequence& s : sequences_) sum += s.rows ? s.rows->bytes() : 0;
    return sum;
  }
  std::unique_ptr<RowStore> successor(std::span<const int64_t> lengths) const override {
    auto next = std::make_unique<SlidingStore>(format_, static_cast<int64_t>(lengths.size()), n_sink_,
                                               window_, rope_);
    for (size_t s = 0; s < lengths.size(); ++s) {
      QKV_CHECK(lengths[s] <= n_sink_ + window_, kFormat,
                "kv cache: sequence {} has {} rows, more than the {} that this sliding cache keeps", s,
                lengths[s], n_sink_ + window_);
      next->reserve(static_cast<int64_t>(s), lengths[s]);
    }
    return next;
  }

 private:
  struct Sequence {
    std::shared_ptr<Buffer> rows;
    std::shared_ptr<Buffer> sinks;  // the first rows as they came
    int64_t begin = 0, length = 0, dropped = 0;
  };

  std::byte* at(const Sequence& s, int64_t i) const { return s.rows->data() + i * format_.row_bytes; }

  void end_push(Sequence& s) const {
    const int64_t i = s.length++;
    if (i < n_sink_)
      std::memcpy(s.sinks->data() + i * format_.row_bytes, at(s, s.begin + i),
                  static_cast<size_t>(format_.row_bytes));
  }

  // The window's keys keep the turn of their true positions, and the sinks follow them: turned on by as many
  // positions as were let go, they are as far from the window as within the cache.
  void put_sinks(const Sequence& s) const {
    if (n_sink_ == 0) return;
    const CacheShape& shape = format_.shape;
    std::memcpy(at(s, s.begin), s.sinks->data(), static_cast<size_t>(n_sink_ * format_.row_bytes));
    if (!rope_) return;
    const Tensor k = Tensor::empty({n_sink_, shape.k_width()}, shape.dtype),
                 v = Tensor::empty({n_sink_, shape.v_width()}, shape.dtype);
    const auto of = [](const Tensor& x, int64_t i) { return x.bytes() + i * x.size(1) * size_of(x.dtype()); };
    for (int64_t i = 0; i < n_sink_; ++i) format_.read(at(s, s.begin + i), of(k, i), of(v, i));
    const std::vector<int64_t> ones(static_cast<size_t>(n_sink_), 1),
        on(static_cast<size_t>(n_sink_), s.dropped);
    const Tensor turned = (*rope_)(Var(k), Segments(ones, on), shape.n_kv_heads).value();
    for (int64_t i = 0; i < n_sink_; ++i) format_.write(of(turned, i), of(v, i), at(s, s.begin + i));
  }

  RowFormat format_;
  int64_t n_sink_, window_;
  int64_t block_rows_ = 0, block_bytes_ = 0;  // of a sequence
  std::shared_ptr<const Rope> rope_;
  std::vector<Sequence> sequences_;
};

}  // namespace

std::unique_ptr<RowStore> sliding_store(const RowFormat& format, int64_t n_sequences, int64_t n_sink,
                                        int64_t window, std::shared_ptr<const Rope> rope) {
  QKV_CHECK(!rope || rope->attention_factor() == 1, kUnsupported,
            "kv cache: a rope that scales keys (attention factor {}) would scale the sinks twice; fold the "
            "factor into "
            "the score's scale",
            rope->attention_factor());
  return std::make_unique<SlidingStore>(format, n_sequences, n_sink, window, std::move(rope));
}

}  // namespace qkv
