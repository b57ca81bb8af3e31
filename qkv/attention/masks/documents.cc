#include <algorithm>
#include <limits>
#include <utility>

#include "qkv/attention/masks.h"
#include "qkv/base/error.h"

namespace qkv {
namespace {

class Documents final : public Mask {
 public:
  /// ends[b]: where each document of sequence b ends, ascending.
  explicit Documents(std::vector<std::vector<int64_t>> ends) : ends_(std::move(ends)) {}

  void visible(const TilePlace& t, uint64_t* words) const noexcept override {
    for (int64_t r = 0; r < t.rows; ++r) {
      const KeyRange own = document(t.batch, t.i0 + r);
      words[r] = low_bits(own.end - t.j0) & ~low_bits(own.begin - t.j0);
    }
  }
  Sight sight(const TilePlace& t) const noexcept override {
    const KeyRange first = document(t.batch, t.i0), last = document(t.batch, t.i0 + t.rows - 1);
    if (t.j0 >= last.end || t.j0 + t.cols <= first.begin) return Sight::kNone;
    return first.begin == last.begin && first.begin <= t.j0 && t.j0 + t.cols <= first.end ? Sight::kAll
                                                                                          : Sight::kSome;
  }
  KeyRange visible_keys(int64_t batch, int64_t i0, int64_t rows, int64_t kv_len) const override {
    return {document(batch, i0).begin, std::min(kv_len, document(batch, i0 + rows - 1).end)};
  }

 private:
  KeyRange document(int64_t batch, int64_t i) const noexcept {
    KeyRange own{0, std::numeric_limits<int64_t>::max()};
    if (batch >= static_cast<int64_t>(ends_.size())) return own;
    const std::vector<int64_t>& ends = ends_[static_cast<size_t>(batch)];
    const auto end = std::upper_bound(ends.begin(), ends.end(), i);
    if (end != ends.begin()) own.begin = *(end - 1);
    if (end != ends.end()) own.end = *end;
    return own;
  }

  std::vector<std::vector<int64_t>> ends_;
};

}  // namespace

MaskPtr documents(std::vector<std::vector<int64_t>> lengths) {
  for (std::vector<int64_t>& sequence : lengths) {
    int64_t end = 0;
    for (int64_t& n : sequence) {
      QKV_CHECK(n >= 0 && n < std::numeric_limits<int64_t>::max() - end, kValue, "documents: a length of {}",
                n);
      n = end += n;
    }
  }
  return std::make_shared<Documents>(std::move(lengths));
}

}  // namespace qkv
