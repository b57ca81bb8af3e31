#include <algorithm>
#include <cstring>

#include "qkv/attention/caches/children.h"
#include "qkv/attention/caches/row_store.h"
#include "qkv/base/memory.h"

namespace qkv {
namespace {

constexpr int64_t kFirstCapacity = 32;  // rows; most sentences fit, so most blocks never grow

class ContiguousStore final : public RowStore {
 public:
  ContiguousStore(const RowFormat& format, int64_t n) : format_(format), sequences_(static_cast<size_t>(n)) {}

  int64_t size() const override { return static_cast<int64_t>(sequences_.size()); }
  int64_t length(int64_t s) const override { return sequences_[s].length; }

  void reserve(int64_t s, int64_t n) override {
    Sequence& sequence = sequences_[s];
    const int64_t length = sequence.length + n;
    if (length > sequence.capacity)
      sequence = copy(sequence, std::max({kFirstCapacity, length, 2 * sequence.length}));
  }
  void push(int64_t s, const void* k, const void* v) override {
    Sequence& sequence = sequences_[s];
    format_.write(k, v, sequence.rows->data() + sequence.length++ * format_.row_bytes);
  }
  void push_stored(int64_t s, const std::byte* row) override {
    Sequence& sequence = sequences_[s];
    std::memcpy(sequence.rows->data() + sequence.length++ * format_.row_bytes, row,
                static_cast<size_t>(format_.row_bytes));
  }
  const std::byte* row(int64_t s, int64_t i) const override {
    return sequences_[s].rows->data() + i * format_.row_bytes;
  }
  void truncate(int64_t s, int64_t length) override { sequences_[s].length = length; }

  void select(std::span<const int32_t> parents) override {
    int64_t rows = 0;
    for (const int32_t parent : parents) rows += sequences_[parent].length;
    become_children(
        sequences_, parents, [&](const Sequence& s) { return s.rows ? copy(s, s.capacity) : s; },
        rows * format_.row_bytes);
  }

  KeyValueSpan span(int64_t s) const override {
    const Sequence& sequence = sequences_[s];
    KeyValueSpan span = format_.span();
    span.kv_len = sequence.length;
    if (sequence.rows) span.k = sequence.rows->data(), span.v = sequence.rows->data() + format_.v_at;
    return span;
  }
  int64_t bytes() const override {
    int64_t sum = 0;
    for (const Sequence& s : sequences_) sum += s.capacity * format_.row_bytes;
    return sum;
  }
  std::unique_ptr<RowStore> successor(std::span<const int64_t> lengths) const override {
    auto next = std::make_unique<ContiguousStore>(format_, static_cast<int64_t>(lengths.size()));
    for (size_t s = 0; s < lengths.size(); ++s) next->reserve(static_cast<int64_t>(s), lengths[s]);
    return next;
  }

 private:
  struct Sequence {
    std::shared_ptr<Buffer> rows;
    int64_t length = 0, capacity = 0;
  };

  Sequence copy(const Sequence& from, int64_t capacity) const {
    Sequence to{
        .rows = Buffer::allocate(capacity * format_.row_bytes), .length = from.length, .capacity = capacity};
    if (from.length > 0)
      std::memcpy(to.rows->data(), from.rows->data(), static_cast<size_t>(from.length * format_.row_bytes));
    return to;
  }

  RowFormat format_;
  std::vector<Sequence> sequences_;
};

}  // namespace

std::unique_ptr<RowStore> contiguous_store(const RowFormat& format, int64_t n_sequences) {
  return std::make_unique<ContiguousStore>(format, n_sequences);
}

}  // namespace qkv
