#include "qkv/base/segments.h"

#include <algorithm>
#include <utility>

#include "qkv/base/error.h"

namespace qkv {

Segments::Segments(const std::vector<int64_t>& lengths, std::vector<int64_t> past) : past_(std::move(past)) {
  QKV_CHECK(past_.empty() || past_.size() == lengths.size(), kShape, "segments: {} lengths but {} pasts",
            lengths.size(), past_.size());
  begin_.reserve(lengths.size() + 1);
  for (int64_t length : lengths) {
    QKV_CHECK(length >= 0, kValue, "segments: length {} is negative", length);
    begin_.push_back(begin_.back() + length);
  }
  for (int64_t p : past_) QKV_CHECK(p >= 0, kValue, "segments: past {} is negative", p);
}

int64_t Segments::max_length() const {
  int64_t longest = 0;
  for (int64_t b = 0; b < size(); ++b) longest = std::max(longest, length(b));
  return longest;
}

}  // namespace qkv
