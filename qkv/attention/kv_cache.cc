#include "qkv/attention/kv_cache.h"

#include <algorithm>
#include <cstring>

namespace qkv {
namespace {

constexpr int64_t kFirstCapacity = 32;  // rows; most sentences fit, so most blocks never grow

// A block of `capacity` rows with the first `length` rows of `from`.
Tensor copy_rows(const Tensor& from, int64_t length, int64_t capacity, int64_t width, DType dtype) {
  const Tensor to = Tensor::empty({capacity, width}, dtype);
  if (length > 0) std::memcpy(to.bytes(), from.bytes(), static_cast<size_t>(length * width * size_of(dtype)));
  return to;
}

}  // namespace

KvCache::KvCache(int64_t n_sequences, int64_t k_width, int64_t v_width, DType dtype)
    : sequences_(static_cast<size_t>(n_sequences)), k_width_(k_width), v_width_(v_width), dtype_(dtype) {}

void KvCache::append(const Segments& rows, const Tensor& k, const Tensor& v) {
  QKV_CHECK(rows.size() == size(), kShape, "kv cache: {} sequences, rows for {}", size(), rows.size());
  QKV_CHECK(k.dtype() == dtype_ && v.dtype() == dtype_, kDtype,
            "kv cache: holds {}, got keys of {} and values of {}", name(dtype_), name(k.dtype()),
            name(v.dtype()));
  QKV_CHECK(k.size(1) == k_width_ && v.size(1) == v_width_ && k.size(0) == rows.n_tokens() &&
                v.size(0) == rows.n_tokens(),
            kShape, "kv cache: keys {} and values {} do not fit [{}, {}] and [{}, {}]", k.shape().str(),
            v.shape().str(), rows.n_tokens(), k_width_, rows.n_tokens(), v_width_);
  const int64_t element = size_of(dtype_), width = k_width_ + v_width_;
  const Tensor k_kept = k.contiguous(), v_kept = v.contiguous();
  const std::byte* k_rows = k_kept.bytes();
  const std::byte* v_rows = v_kept.bytes();
  for (int64_t s = 0; s < size(); ++s) {
    Sequence& sequence = sequences_[s];
    const int64_t length = sequence.length + rows.length(s);
    if (!sequence.rows.defined() || sequence.rows.size(0) < length) {
      const int64_t capacity = std::max({kFirstCapacity, length, 2 * sequence.length});
      sequence.rows = copy_rows(sequence.rows, sequence.length, capacity, width, dtype_);
    }
    for (int64_t i = 0; i < rows.length(s); ++i) {
      std::byte* row = sequence.rows.bytes() + (sequence.length + i) * width * element;
      const int64_t from = rows.begin(s) + i;
      std::memcpy(row, k_rows + from * k_width_ * element, static_cast<size_t>(k_width_ * element));
      std::memcpy(row + k_width_ * element, v_rows + from * v_width_ * element,
                  static_cast<size_t>(v_width_ * element));
    }
    sequence.length = length;
  }
}

void KvCache::select(std::span<const int32_t> parents) {
  std::vector<Sequence> next;
  std::vector<bool> taken(sequences_.size(), false);
  next.reserve(parents.size());
  for (int32_t parent : parents) {
    QKV_CHECK(parent >= 0 && parent < size(), kValue, "kv cache: parent {} of {} sequences", parent, size());
    Sequence sequence = sequences_[parent];
    if (taken[parent] && sequence.rows.defined())
      sequence.rows =
          copy_rows(sequence.rows, sequence.length, sequence.rows.size(0), k_width_ + v_width_, dtype_);
    taken[parent] = true;
    next.push_back(std::move(sequence));
  }
  sequences_ = std::move(next);
}

std::vector<KeyValueSpan> KvCache::spans() const {
  const int64_t element = size_of(dtype_), width = k_width_ + v_width_;
  std::vector<KeyValueSpan> out;
  out.reserve(sequences_.size());
  for (const Sequence& s : sequences_) {
    const std::byte* rows = s.rows.defined() ? s.rows.bytes() : nullptr;
    out.push_back({.k = rows,
                   .v = rows == nullptr ? nullptr : rows + k_width_ * element,
                   .kv_len = s.length,
                   .k_row_stride = width,
                   .v_row_stride = width});
  }
  return out;
}

}  // namespace qkv
