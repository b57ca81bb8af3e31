#include "qkv/base/segments.h"

#include <algorithm>
#include <utility>

#include "qkv/base/checked.h"

namespace qkv {

Segments::Segments(const std::vector<int64_t>& lengths, std::vector<int64_t> past) : past_(std::move(past)) {
  QKV_CHECK(past_.empty() || past_.size() == lengths.size(), kShape, "segments: {} lengths but {} pasts",
            lengths.size(), past_.size());
  begin_.reserve(lengths.size() + 1);
  for (int64_t length : lengths) {
    QKV_CHECK(length >= 0, kValue, "segments: length {} is negative", length);
    begin_.push_back(checked_add(begin_.back(), length, "segments: rows"));
  }
  for (size_t b = 0; b < past_.size(); ++b) {
    QKV_CHECK(past_[b] >= 0, kValue, "segments: past {} is negative", past_[b]);
    (void)checked_add(past_[b], lengths[b], "segments: past and length");
  }
}

int64_t Segments::max_length() const {
  int64_t longest = 0;
  for (int64_t b = 0; b < size(); ++b) longest = std::max(longest, length(b));
  return longest;
}

}  // namespace qkv
